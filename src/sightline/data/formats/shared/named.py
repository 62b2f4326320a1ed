"""Data sets whose label files name pictures and classes in words: tools' JSON, CSV and text, read into one shape."""

import json
import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.text import parse_json
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import LARGEST, ImageCollector, build_dataset, class_table
from sightline.data.formats.shared.shapes import ShapeError, checked_ring
from sightline.data.layout import list_files, list_images, read_head, read_text, relative, split_of, subfolder
from sightline.ops import rle

__all__ = [
    "NamedObjects",
    "finite",
    "folders_beside",
    "json_files",
    "open_named",
    "read_json",
    "read_json_list",
    "read_named",
]

_HEAD = 1 << 12  # bytes in which a file shows what it is
_COLUMNS = (
    *("image_id", "class_id", "x1", "y1", "x2", "y2", "crowd", "ignore", "occlusion", "truncation", "polygon", "rle"),
    *("label_path", "entry", "area"),
)


class NamedObjects:
    """Collects the objects of a data set below `root`; `dataset` makes it one.

    Pictures are found by the path a label file gives, from that file's folder or from the root, else by their name
    where only one picture below the root has it: labels seldom know where their pictures will lie.
    """

    def __init__(self, root: Path, label_path: str = "") -> None:
        self.root, self.label_path = root, label_path
        self.images = ImageCollector(root)
        self.class_names: list[str] = []  # in the order of their ids, where the format has one
        self._pictures = {relative(p, root) for p in list_images(root, recursive=True)}
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(self._pictures):
            for name in {posixpath.basename(path), posixpath.splitext(posixpath.basename(path))[0]}:
                self._by_name.setdefault(name, []).append(path)
        self._rows: list[dict[str, Any]] = []

    @property
    def findings(self) -> list[Finding]:
        """What was met on the way."""
        return self.images.findings

    def picture(
        self,
        name: str,
        *,
        stated_wh: tuple[Any, Any] = (None, None),
        split: str | None = None,
        entry: int | None = None,
    ) -> tuple[str, tuple[int, int] | None]:
        """The path of the picture a label file calls `name`, taken in, and its height and width where known."""
        path = self._find(name)
        place = (self.label_path, entry)
        known = path in self.images
        # A name given with each of its objects is no picture listed twice.
        size_hw = (
            self.images.size_of(path)
            if known
            else self.images.add(
                path, stated_wh=stated_wh, split=split if split is not None else _split_of_folders(path), place=place
            )
        )
        return path, size_hw

    def _find(self, name: str) -> str:
        text = unquote(urlsplit(name).path) if "://" in name else name
        clean = posixpath.normpath(text.replace("\\", "/").lstrip("/"))
        folder = posixpath.dirname(self.label_path)
        beside, among = posixpath.join(folder, clean), posixpath.join(folder, "images", clean)
        for candidate in (posixpath.normpath(beside), posixpath.normpath(among), clean):
            if candidate in self._pictures:
                return candidate
        base = posixpath.basename(clean)
        found = self._by_name.get(base, [])
        if len(found) == 1:
            return found[0]
        return clean if not clean.startswith("..") and clean not in {"", "."} else base or "unnamed"

    def add(
        self,
        image: str,
        class_name: Any,
        entry: int | None,
        *,
        box: Sequence[Any] | None = None,
        ring: Sequence[Any] | None = None,
        **flags: Any,
    ) -> None:
        """An object: `box` (x1, y1, x2, y2) or outline `ring` (x0, y0, …) in pixels; `flags` are columns of objects.

        One without a class name, or of values that are no numbers of a picture, is reported and left out.
        """
        try:
            if not isinstance(class_name, str) or not class_name.strip():
                raise ShapeError("label-malformed", f"an object must have the name of a class, got {class_name!r:.40}")
            numbers = _numbers(ring if ring is not None else box)
            if ring is not None:
                checked_ring(numbers)
                numbers, flags["polygon"] = _around(numbers), [numbers]
        except ShapeError as error:
            self.report(error.code, error.message, entry, image)
            return
        corners = dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True))
        row = {"image": image, "class": class_name.strip(), "entry": entry, "label_path": self.label_path}
        self._rows.append(row | corners | flags | {"area": self._mask_area(image, flags)})

    def _mask_area(self, image: str, flags: Mapping[str, Any]) -> float | None:
        """The pixels of an object's mask; None for one that is a box, or an outline in a picture of unknown size."""
        if flags.get("rle") is not None:
            return float(rle.area(flags["rle"]))
        size_hw = self.images.size_of(image)
        if flags.get("polygon") is None or size_hw is None:
            return None
        return float(rle.area(rle.from_polygons(flags["polygon"], size_hw)))

    def read_texts(self, labels: Path, images: Path, read_file: Callable[[Path, str], None]) -> None:
        """Take in the pictures of a folder, each with the text file of its stem in `labels`, which `read_file` reads.

        Pictures without a file and files without a picture are reported.
        """
        texts = {p.stem: p for p in list_files(labels, (".txt",))}
        for picture in list_images(images):
            name, _ = self.picture(relative(picture, self.root))
            if picture.stem in texts:
                read_file(texts.pop(picture.stem), name)
            else:
                self.report("label-missing-file", "the image has no annotation", None, name)
        for file in texts.values():
            self.label_path = relative(file, self.root)
            self.report("label-orphan", "the annotation has no image", None)

    def lines(self, file: Path, image: str) -> list[tuple[int, str]]:
        """The lines of a text file with the labels of one image, which becomes the label file at hand."""
        self.label_path = relative(file, self.root)
        try:
            lines = read_text(file).splitlines()
        except DataError as error:
            self.report("label-malformed", error.what, None, image)
            return []
        kept = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
        if not kept:
            self.report("label-empty-file", "no object", None, image)
        return kept

    def report(self, code: str, message: str, entry: int | None, image: str | None = None) -> None:
        """A finding at an entry of the label file."""
        facts = {} if image is None else {"image": image}
        self.findings.append(finding(code, message, path=self.label_path or image, line=entry, facts=facts))

    def dataset(self, path: Path, format_name: str) -> Dataset:
        """The data set of all that was added; classes are `class_names` and then the others by name."""
        images, ids = self.images.table()
        used = [row for row in self._rows if row["image"] in ids]
        names = [*dict.fromkeys([*self.class_names, *sorted({row["class"] for row in self._rows})])]
        if not names:
            names = ["object"]
        class_of = {name: i for i, name in enumerate(names)}
        known = {"crowd": False, "ignore": False}
        rows = [known | row | {"image_id": ids[row["image"]], "class_id": class_of[row["class"]]} for row in used]
        columns = {c: [row.get(c) for row in rows] for c in _COLUMNS}
        objects = pl.DataFrame(columns, schema={c: OBJECTS_SCHEMA[c] for c in _COLUMNS})
        return build_dataset(path, format_name, images, objects, class_table(names), self.findings, root=self.root)


def _split_of_folders(path: str) -> str | None:
    return next((s for part in path.split("/")[:-1] if (s := split_of(part)) is not None), None)


def _numbers(values: Any) -> list[float]:
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if not numbers or not all(math.isfinite(v) and abs(v) <= LARGEST for v in numbers) or len(numbers) % 2:
        raise ShapeError("label-malformed", f"a shape must be of numbers up to 1e15, got {values!r:.80}")
    return numbers


def _around(ring: list[float]) -> list[float]:
    return [min(ring[0::2]), min(ring[1::2]), max(ring[0::2]), max(ring[1::2])]


def open_named(path: Path, files: Sequence[Path], looked_for: str) -> NamedObjects:
    """A collector for the label files found at a path; DataError where there is none of what was looked for."""
    if not files:
        raise DataError(f"must be {looked_for}, got none", where=str(path))
    return NamedObjects(path.parent if path.is_file() else path)


def read_named(
    path: Path,
    files: Sequence[Path],
    looked_for: str,
    format_name: str,
    read_file: Callable[[NamedObjects, Path], None],
) -> Dataset:
    """The data set of the label files found at an absolute path, each taken in by `read_file`; DataError for none."""
    found = open_named(path, files, looked_for)
    for file in files:
        found.label_path = relative(file, found.root)
        read_file(found, file)
    return found.dataset(path, format_name)


def folders_beside(path: Path, labels: Sequence[str], images: Sequence[str]) -> list[tuple[Path, Path]]:
    """Label folder and image folder of each part: of the path itself and of the folders in it."""
    if not path.is_dir():
        return []
    places = (path, *sorted(p for p in path.iterdir() if p.is_dir()))
    pairs = ((subfolder(place, labels), subfolder(place, images)) for place in places)
    return [(label, image) for label, image in pairs if label is not None and image is not None]


def json_files(path: Path, marks: Sequence[bytes]) -> list[Path]:
    """The JSON files at a path or directly below it (or below one folder of it) whose beginning has all the marks."""
    if path.is_file():
        places = [path] if path.suffix.lower() == ".json" else []
    else:
        places = sorted([*path.glob("*.json"), *path.glob("*/*.json")]) if path.is_dir() else []
    return [p for p in places if (head := read_head(p, _HEAD)) and all(mark in head for mark in marks)]


def finite(value: Any) -> float:
    """The value as a number; ValueError, TypeError or OverflowError where it is none or without end."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a number must be finite, got {number}")
    return number


def read_json(file: Path) -> Any:
    """The value of a JSON file; DataError, naming the line, where it is none."""
    try:
        return parse_json(read_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"must be JSON, got: {error.msg}", where=f"{file}:{error.lineno}") from None
    except ValueError as error:
        raise DataError(f"must be JSON, got: {error}", where=str(file)) from None


def read_json_list(file: Path, of: str, key: str | None = None) -> list[Any]:
    """The list a JSON file is, or holds under `key` where it is an object; DataError where there is none.

    `of` says what is listed.
    """
    value = read_json(file)
    if isinstance(value, dict) and key is not None:
        value = value.get(key)
    if not isinstance(value, list):
        raise DataError(f"must be a list of {of}, got a {type(value).__name__}", where=str(file))
    return value
