"""LabelMe: one JSON file per image, with its shapes.

Recognised: a folder with such files, or folders of them inside it (`train/`, `val/`, `data_annotated/`; split names are
understood). `imagePath` is relative to the JSON file and may not leave the data set's folder; a picture that is not
there is looked for by its name. Pictures embedded in the JSON (`imageData`) are never used: it is reported that the
file is missing.

A polygon is an outline, a rectangle a box (its corners in any order), a circle an outline of 64 points, a mask run
lengths. Shapes of one label and `group_id` are parts of one object. Points and lines have no area and are counted.
The flags `ignore` (or `difficult`), `crowd`, `occluded` and `truncated` are understood. Classes are the lines of a
`labels.txt` in the folder or beside it, else the labels in use, sorted; `__ignore__` and `_background_` are ignored
objects of classes that come last.
"""

import base64
import binascii
import math
import mmap
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import LARGEST, ImageCollector, build_dataset
from sightline.data.formats.shared.shapes import (
    Corners,
    Flags,
    ObjectCollector,
    Part,
    Place,
    ShapeError,
    checked_ring,
    ellipse_ring,
    rle_of_crop,
)
from sightline.data.json.places import JsonPlaces
from sightline.data.layout import absolute, inside, list_files, list_images, read_head, read_text, relative, split_of
from sightline.media import decode_mask

__all__ = ["BACKGROUND_LABEL", "IGNORE_LABEL", "LABELS_NAME", "LOOKED_FOR", "detect", "entry_lines", "read"]

IGNORE_LABEL = "__ignore__"
BACKGROUND_LABEL = "_background_"
Points: TypeAlias = npt.NDArray[np.float64]

_POLYGONS = {"polygon", "rotation", "oriented_rectangle", "quadrilateral"}
_NO_AREA = {"point", "points", "line", "linestrip", "lines"}
_FLAGS = {"crowd": "crowd", "iscrowd": "crowd", "ignore": "ignore", "difficult": "ignore"}
_SHARES = {"occluded": "occlusion", "truncated": "truncation"}


def group_shapes(shapes: list[Any]) -> list[list[int]]:
    """The indices of the shapes of each object: those of one label and group id, and each other shape by itself."""
    groups: dict[Any, list[int]] = {}
    for index, shape in enumerate(shapes):
        group, label = (shape.get("group_id"), shape.get("label")) if isinstance(shape, dict) else (None, None)
        grouped = isinstance(group, (int, str)) and not isinstance(group, bool) and isinstance(label, str)
        groups.setdefault((group, label) if grouped else index, []).append(index)
    return list(groups.values())


def read_part(shape: Any, size_hw: tuple[int, int], *, alone: bool) -> Part:
    """What a shape draws; ShapeError where that is no area or cannot be read.

    A rectangle that is not alone in its object is one of its outlines, as LabelMe itself draws it.
    """
    if not isinstance(shape, dict):
        raise ShapeError("label-malformed", f"a shape must be an object, got {shape!r:.40}")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise ShapeError("label-malformed", f"a shape must have a label, got {label!r:.40}")
    kind = str(shape.get("shape_type") or "polygon")[:40]
    if kind in _NO_AREA:
        raise ShapeError("label-unsupported-shape", f"a {kind} has no area")
    points = _points(shape.get("points"))
    if kind == "rectangle" and len(points) in {2, 4}:
        box = (min(points[:, 0]), min(points[:, 1]), max(points[:, 0]), max(points[:, 1]))
        return Part(box=_floats(box)) if alone else Part(ring=_ring_of(_floats(box)))
    if kind == "circle" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points.tolist()
        radius = math.hypot(edge_x - x, edge_y - y)
        return Part(ring=checked_ring(ellipse_ring(x, y, radius, radius)))
    if kind in _POLYGONS and len(points) >= 3:
        return Part(ring=checked_ring(points.ravel().tolist()))
    if kind == "mask" and len(points) == 2:
        return _read_mask(shape.get("mask"), points, size_hw, alone)
    if kind in _POLYGONS | {"rectangle", "circle", "mask"}:
        raise ShapeError("label-malformed", f"a {kind} must not have {len(points)} points")
    raise ShapeError("label-unsupported-shape", f"shapes of type {kind!r:.30} are not known")


def joint_flags(shapes: list[dict[str, Any]], unused: Counter[str]) -> Flags:
    """What the flags of an object's shapes say of it; flags that are set and mean nothing are counted in `unused`."""
    values: dict[str, Any] = {"ignore": shapes[0].get("label") in {IGNORE_LABEL, BACKGROUND_LABEL}}
    pairs = [(str(k), v) for s in shapes if isinstance(s.get("flags"), dict) for k, v in s["flags"].items()]
    for name, value in pairs:
        key = name.lower()
        if key in _FLAGS:
            values[_FLAGS[key]] = bool(value) or values.get(_FLAGS[key], False)
        elif key in _SHARES:
            values[_SHARES[key]] = max(float(bool(value)), values.get(_SHARES[key], 0.0))
        elif value:
            unused[name[:40]] += 1
    return Flags(**values)


def _points(value: Any) -> Points:
    try:
        points = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) <= LARGEST).all():
        raise ShapeError("label-malformed", f"points must be a list of x, y pairs up to 1e15, got {value!r:.60}")
    return points


def _floats(values: Any) -> Corners:
    x1, y1, x2, y2 = (float(v) for v in values)
    return x1, y1, x2, y2


def _ring_of(box: Corners) -> list[float]:
    x1, y1, x2, y2 = box
    return checked_ring([x1, y1, x2, y1, x2, y2, x1, y2])


def _read_mask(data: Any, points: Points, size_hw: tuple[int, int], alone: bool) -> Part:
    left, top = (int(v) for v in points.min(axis=0))
    try:
        if not isinstance(data, str):
            raise DataError("a mask must be PNG data in base64")
        crop = decode_mask(base64.b64decode(data, validate=True), "mask")
        return Part(counts=rle_of_crop(crop, left, top, size_hw))
    except (DataError, binascii.Error, ValueError) as error:
        right, bottom = (int(v) + 1 for v in points.max(axis=0))
        kept = Part(box=(left, top, right, bottom)) if alone else None
        what = error.what if isinstance(error, DataError) else str(error)
        raise ShapeError("label-bad-segmentation", f"the mask cannot be read: {what}", kept) from None


LOOKED_FOR = "LabelMe .json files (shapes, imagePath), one for each image"
LABELS_NAME = "labels.txt"
_SPECIAL = (IGNORE_LABEL, BACKGROUND_LABEL)
_SAMPLE = 8
_MARK = b"\xef\xbb\xbf"  # some editors put it before UTF-8
_BYTE = re.compile(r"\(byte (\d+)\)")


class _File(msgspec.Struct, rename="camel"):
    """What is used of a file; the embedded picture is passed over without being copied."""

    shapes: Any = None
    image_path: Any = None
    image_height: Any = None
    image_width: Any = None
    flags: Any = None
    image_data: msgspec.Raw = msgspec.Raw(b"null")


def detect(path: Path) -> float | None:
    """How surely the path is a LabelMe folder, 0..1, or None."""
    if not path.is_dir():
        return None
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))]
    return 0.9 if any(_is_labelme(f) for folder in folders for f in list_files(folder, (".json",))[:_SAMPLE]) else None


def read(path: Path) -> Dataset:
    """The data set of a folder of LabelMe files. DataError when there are none."""
    path = absolute(path)
    files = list_files(path, (".json",), recursive=True) if path.is_dir() else []
    reader = _Reader(path)
    for file in files:
        reader.read_file(file)
    if not reader.files:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    reader.add_unlabelled()
    images, ids = reader.images.table(reader.embedded_note())
    declared = _declared(path)
    objects, classes = reader.objects.tables(ids, declared, reader.lines, last=_SPECIAL)
    findings = [*reader.images.findings, *reader.objects.findings, *reader.unused_flags()]
    return build_dataset(path, "labelme", images, objects, classes, findings)


def _is_labelme(file: Path) -> bool:
    if not read_head(file, 1):
        return False
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"shapes"') >= 0 and text.find(b'"imagePath"') >= 0


def _declared(root: Path) -> list[str]:
    """The class names of the list of labels, without LabelMe's own two."""
    for file in (root / LABELS_NAME, root.parent / LABELS_NAME):
        if not file.is_file():
            continue
        names = list(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
        # A list outside the folder may belong to something else; LabelMe's begins with its own two names.
        if file.parent == root or set(names) & set(_SPECIAL):
            return [name for name in names if name not in _SPECIAL]
    return []


@dataclass
class _Reader:
    """Collects the images and shapes of all files."""

    root: Path
    files: int = 0
    images: ImageCollector = field(init=False)
    objects: ObjectCollector = field(default_factory=ObjectCollector)
    _flags: Counter[str] = field(default_factory=Counter)
    _embedded: int = 0
    _unreadable: set[str] = field(default_factory=set)  # images whose label file is there and cannot be read
    _pictures: list[str] = field(init=False)
    _by_name: dict[str, list[str]] = field(default_factory=dict)
    _by_stem: dict[str, list[str]] = field(default_factory=dict)  # whole path without the suffix

    def __post_init__(self) -> None:
        self.images = ImageCollector(self.root)
        self._pictures = [relative(file, self.root) for file in list_images(self.root, recursive=True)]
        for path in self._pictures:
            self._by_name.setdefault(PurePosixPath(path).name, []).append(path)
            self._by_stem.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(path)

    def read_file(self, file: Path) -> None:
        """Take in one label file; what cannot be read is reported."""
        name = relative(file, self.root)
        try:
            content = _parse(file, name)
        except DataError as error:
            image = self._namesake(name)
            self._unreadable |= set() if image is None else {image}
            self._report("label-malformed", error.what, name, _line_of(error), image=image)
            return
        if content.shapes is None and content.image_path is None:
            self._report("layout-unknown-key", "no LabelMe file (shapes, imagePath); it is not read", name)
            return
        self.files += 1
        shapes, image = content.shapes, self._image_of(file, content.image_path, name)
        if not isinstance(shapes, list):
            self._report("label-malformed", f"'shapes' must be a list, got {shapes!r:.40}", name, image=image)
            shapes = []
        elif not shapes:
            self._report("label-empty-file", "no object", name, image=image)
        self._count_flags(content.flags)
        if image is None:
            return
        embedded = len(content.image_data) > 4
        self._embedded += embedded
        note = "; its picture is embedded in the label file: save it as a file" if embedded else ""
        size_hw = self.images.add(
            image,
            stated_wh=(content.image_width, content.image_height),
            split=_split_in(image),
            place=(name, None),
            note=note,
        )
        if size_hw is not None:
            self._add_shapes(shapes, image, size_hw, name)

    def add_unlabelled(self) -> None:
        """The images in the folders of labelled ones that have no label file: images without objects, reported."""
        folders = {PurePosixPath(path).parent for path in self._pictures if path in self.images}
        for path in self._pictures:
            if path in self.images or PurePosixPath(path).parent not in folders:
                continue
            self.images.add(path, split=_split_in(path))
            if path not in self._unreadable:
                self._report("label-missing-file", "the image has no label file", path)

    def embedded_note(self) -> str:
        """What to add when no image is there: that the pictures are embedded."""
        return f"; {self._embedded} pictures are embedded in label files: save them as files" if self._embedded else ""

    def lines(self, places: Sequence[Place]) -> list[tuple[str, int | None]]:
        """Path and line of shapes."""
        wanted: dict[str, set[int]] = {}
        for name, index in places:
            wanted.setdefault(name, set()).add(index)
        found = {name: entry_lines(self.root / name, rows) for name, rows in wanted.items()}
        return [(name, found[name].get(index)) for name, index in places]

    def unused_flags(self) -> list[Finding]:
        """The flags that are set and mean nothing here, counted."""
        return [
            finding("layout-unknown-key", f"the flag '{name}' is set {count} times and is not used", count=count)
            for name, count in sorted(self._flags.items())
        ]

    def _image_of(self, file: Path, stated: Any, name: str) -> str | None:
        """The image's path: where the file says, else the one picture of that name or of the file's own."""
        text = stated.strip().replace("\\", "/").replace("\0", "") if isinstance(stated, str) else ""
        path, problem = "", f"'imagePath' must name the image, got {stated!r:.40}"
        if text:
            try:
                path = inside(self.root, relative(absolute(file.parent / text), self.root), name)
            except DataError as error:
                problem = error.what
        same_name = self._by_name.get(PurePosixPath(text).name, [])
        if path and path in same_name:
            return path
        found = self._namesake(name) or (same_name[0] if len(same_name) == 1 else None)
        if found is not None:
            self._report("layout-elsewhere", f"the image '{stated!s:.80}' was found as '{found}'", name, image=found)
            return found
        if not path:
            self._report("image-missing", f"{problem}; the shapes are left out", name)
        return path or None

    def _namesake(self, name: str) -> str | None:
        """The one picture beside a label file that has its name."""
        found = self._by_stem.get(str(PurePosixPath(name).with_suffix("")), [])
        return found[0] if len(found) == 1 else None

    def _add_shapes(self, shapes: list[Any], image: str, size_hw: tuple[int, int], name: str) -> None:
        problems: list[tuple[int, ShapeError]] = []
        for members in group_shapes(shapes):
            parts: list[Part] = []
            for index in members:
                try:
                    parts.append(read_part(shapes[index], size_hw, alone=len(members) == 1))
                except ShapeError as error:
                    problems.append((index, error))
                    parts += [error.kept] if error.kept is not None else []
            if parts:
                flags = joint_flags([shapes[i] for i in members], self._flags)
                label = shapes[members[0]]["label"].strip()
                self.objects.add(image, label, parts, flags, size_hw, (name, members[0]))
        places = self.lines([(name, index) for index, _ in problems]) if problems else []
        for (path, line), (index, problem) in zip(places, problems, strict=True):
            self._report(problem.code, f"shapes[{index}]: {problem.message}", path, line, entry=index, image=image)

    def _count_flags(self, flags: Any) -> None:
        self._flags.update(str(key)[:40] for key, value in (flags.items() if isinstance(flags, dict) else ()) if value)

    def _report(
        self,
        code: str,
        message: str,
        path: str,
        line: int | None = None,
        *,
        entry: int | None = None,
        image: str | None = None,
    ) -> None:
        """Note a finding at a place, and about the image of that path where one is meant."""
        facts = {} if image is None else {"image": image}
        self.objects.findings.append(finding(code, message, path=path, line=line, entry=entry, facts=facts))


def _parse(file: Path, name: str) -> _File:
    try:
        data = file.read_bytes().removeprefix(_MARK)
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=name) from None
    try:
        if not data.isascii():
            data.decode()  # what is passed over is not checked by the parser
        return msgspec.json.decode(data, type=_File)
    except msgspec.ValidationError as error:
        raise DataError(f"a LabelMe file must hold an object, got: {error}", where=name) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        at_byte = _BYTE.search(str(error))
        line = data.count(b"\n", 0, int(at_byte[1])) + 1 if at_byte else None
        raise DataError(f"must be valid JSON, got: {error}", where=name if line is None else f"{name}:{line}") from None
    except RecursionError:
        raise DataError("must be JSON of a sane shape, got nesting without end", where=name) from None


def _line_of(error: DataError) -> int | None:
    line = (error.where or "").rpartition(":")[2]
    return int(line) if line.isdecimal() else None


def entry_lines(file: Path, indices: Iterable[int]) -> dict[int, int]:
    """The 1-based lines of a file's shapes; OSError where it cannot be read."""
    data = file.read_bytes().removeprefix(_MARK)
    return JsonPlaces(np.frombuffer(data, dtype=np.uint8)).lines("shapes", indices)


def _split_in(path: str) -> str | None:
    """The split that one of the folders of a path speaks of."""
    return next((s for part in PurePosixPath(path).parts[:-1] if (s := split_of(part))), None)
