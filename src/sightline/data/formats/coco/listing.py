"""What COCO files list beside annotations: images and categories, as tables of a data set; and which kind a file is."""

import math
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA, IMAGES_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.coco.document import Document, Problem
from sightline.data.formats.shared.image_tables import float_rows, integers
from sightline.data.layout import inside, read_head, relative
from sightline.media import MAX_SIDE, read_header

__all__ = [
    "fullest_folder",
    "image_folder",
    "json_kind",
    "read_classes",
    "read_images",
    "without_empty_twins",
]

_SAMPLE = 50  # files that decide which folder the file names are relative to
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")  # names that are a path inside any folder, as they stand


def image_folder(document: Document) -> Path:
    """The folder the file names are relative to: of the usual places the one that holds most of a sample."""
    names = [name for entry in document.images[0] if isinstance(name := entry.get("file_name"), str)]
    stem = document.file.stem.removeprefix("instances_").removeprefix("person_keypoints_").removeprefix("panoptic_")
    places = ["", "images", "data", "JPEGImages", stem, f"images/{stem}"]
    if document.split:
        places += [document.split, f"images/{document.split}"]
    bases = document.file.parents[:3]
    folders = [base / place for base in bases for place in places]
    return fullest_folder(folders, names)


def fullest_folder(folders: Sequence[Path], names: Sequence[str]) -> Path:
    """The folder that holds most of a sample of files; the first of equals."""
    sample = [n for n in names[:: max(len(names) // _SAMPLE, 1)] if "\0" not in n]
    files = _Files()
    hits = [sum(f"{folder}/{n}" in files for n in sample) for folder in folders]
    return folders[hits.index(max(hits))]


def read_images(
    documents: list[Document], folders: list[Path], root: Path
) -> tuple[pl.DataFrame, list[dict[int, int | None]], list[Finding]]:
    """The images table of all files, per file the map from its image ids to the table's (None where the image is left
    out), and the findings.

    `folders` are those the files' names are relative to. Ids are renumbered where several files use the same.
    """
    listing = _Listing(root)
    maps = [listing.read(d, folder) for d, folder in zip(documents, folders, strict=True)]
    listing.decide_missing(documents, maps)
    used = [row for row in listing.rows if not row["dropped"]]
    if len({row["image_id"] for row in used}) < len(used):
        for number, row in enumerate(sorted(used, key=lambda r: str(r["path"]))):
            row["image_id"] = number
    id_maps = [{i: None if row["dropped"] else row["image_id"] for i, row in part.items()} for part in maps]
    keys = ("image_id", "path", "width", "height", "split")
    table = pl.DataFrame({k: [row[k] for row in used] for k in keys}, schema={k: IMAGES_SCHEMA[k] for k in keys})
    return table, id_maps, listing.findings


class _Files:
    """Which files exist, asking for whole folders instead of single files."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._folded: dict[str, set[str]] = {}

    def __contains__(self, file: str) -> bool:
        folder, _, name = file.rpartition("/")
        if folder not in self._names:
            self._names[folder] = _names_in(folder)
            self._folded[folder] = {n.casefold() for n in self._names[folder]}
        if name in self._names[folder]:
            return True
        # Where names that differ in case or in the form of their accents are one file, only the system knows.
        return (not name.isascii() or name.casefold() in self._folded[folder]) and _is_file(file)


def _names_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {e.name for e in entries if e.is_file()}
    except (OSError, ValueError):  # no such folder, or no name of one
        return set()


def _is_file(file: str) -> bool:
    try:
        return Path(file).is_file()
    except OSError:  # a name too long for the system
        return False


class _Listing:
    """The images of all files: one row per picture, with what is wrong about the entries that do not become one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.rows: list[dict[str, Any]] = []
        self._by_path: dict[str, dict[str, Any]] = {}
        self._missing: list[dict[str, Any]] = []
        self._files = _Files()
        self._base = self.root.as_posix()

    def read(self, document: Document, folder: Path) -> dict[int, dict[str, Any]]:
        """The rows of one file by the file's own ids."""
        entries, index, found = document.images
        del document.images  # as Python objects they are larger than the file
        problems = list(found)
        prefix = inside(self.root, f"{relative(folder, self.root)}/x", document.name)[:-1]
        by_id: dict[int, dict[str, Any]] = {}
        columns = [integers([e.get(key) for e in entries]) for key in ("id", "width", "height")]
        values = [column.tolist() for column in (index, *columns[0], columns[1][0], columns[2][0])]
        for entry, i, number, bad, width, height in zip(entries, *values, strict=True):
            name = entry.get("file_name")
            if bad or not isinstance(name, str) or number in by_id:
                code = "label-duplicate-id" if number in by_id and not bad else "label-malformed"
                got = f"{entry.get('id')!r:.20}, {name!r:.60}"
                message = f"images[{i}] must have an id of its own and a file_name, got {got}"
                problems.append(Problem(code, i, message))
                continue
            path = prefix + (name if _PLAIN.fullmatch(name) else inside(folder, name, document.name))
            row = {
                "image_id": number,
                "path": path,
                "width": width,
                "height": height,
                "split": document.split,
                "dropped": False,
            }
            problem = self._add(row, i)
            by_id[number] = self._by_path[path]
            if problem is not None:
                problems.append(problem)
                if problem.code == "split-overlap-path":
                    by_id.pop(number)
        self.findings += document.findings("images", problems)
        return by_id

    def _add(self, row: dict[str, Any], index: int) -> Problem | None:
        first = self._by_path.setdefault(row["path"], row)
        if first is not row:
            if first["split"] == row["split"]:
                return Problem(
                    "image-duplicate-entry", index, f"'{row['path']}' is listed again; its objects are merged"
                )
            return Problem(
                "split-overlap-path",
                index,
                f"'{row['path']}' is listed in '{first['split']}' and in '{row['split']}' and kept in the first",
                facts={"splits": [first["split"], row["split"]]},
            )
        self.rows.append(row)
        file = f"{self._base}/{row['path']}"
        if file not in self._files:
            self._missing.append(row)
        elif not _has_size(row):
            try:
                row["height"], row["width"] = read_header(file).size_hw
            except DataError as error:
                row["dropped"] = True
                return Problem("image-unreadable", index, str(error))
        return None

    def decide_missing(self, documents: list[Document], maps: list[dict[int, dict[str, Any]]]) -> None:
        """Labels without any picture are kept (they can be evaluated against); single missing pictures are not."""
        alone = len(self._missing) == len(self.rows)
        for row in self._missing:
            row["dropped"] = not alone
        if self._missing and alone:
            message = f"none of the {len(self._missing)} images was found; the labels can be evaluated, not trained on"
            unsized = sum(not _has_size(row) for row in self._missing)
            if unsized:
                for document, rows in zip(documents, maps, strict=True):
                    _size_by_labels(document, rows)
                message += f"; {unsized} without width and height are taken to be as large as their labels reach"
            self.findings.append(finding("image-missing", message, count=len(self._missing)))
            return
        self.findings += [
            finding("image-missing", "the image does not exist", path=row["path"]) for row in self._missing
        ]


def _size_by_labels(document: Document, rows: dict[int, dict[str, Any]]) -> None:
    """Give the rows without a size that of their masks, else the least that holds their boxes."""
    entries = document.entries("annotations")[0]
    boxes = float_rows([e.get("bbox") for e in entries], 4)[0]
    ids, bad = integers([e.get("image_id") for e in entries])
    unsized = {number: row for number, row in rows.items() if not _has_size(row)}
    for row in unsized.values():
        row["width"] = row["height"] = 1
    for entry, box, number, wrong in zip(entries, boxes.tolist(), ids.tolist(), bad.tolist(), strict=True):
        if wrong or number not in unsized:
            continue
        row, mask = unsized[number], entry.get("segmentation")
        reached = mask.get("size") if isinstance(mask, dict) else [box[1] + box[3], box[0] + box[2]]
        for side, end in zip(("height", "width"), float_rows([reached], 2)[0][0].tolist(), strict=True):
            if 1 <= end <= MAX_SIDE:
                row[side] = max(row[side], math.ceil(end))


def _has_size(row: dict[str, Any]) -> bool:
    width: int = row["width"]
    height: int = row["height"]
    return 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE


_KEPT = ("thing", "keypoint_names", "skeleton")


def read_classes(documents: list[Document]) -> tuple[list[dict[int, int]], pl.DataFrame, list[Finding]]:
    """Per file the map from category id to class id, the classes table, and the findings.

    Categories of one name are one class across files. Within a file, where they are two to COCO, the second is a class
    "name (id 5)", which `without_empty_twins` removes where it turns out to have no object. What a category says of its
    keypoints is taken from the first file with them.
    """
    findings: list[Finding] = []
    by_name: dict[str, int] = {}  # name → category id
    about: dict[str, dict[str, Any]] = {}  # name → what the table keeps
    pairs_of = []
    for document in documents:
        entries, index, problems = document.entries("categories")
        ids, bad = integers([e.get("id") for e in entries])
        pairs: dict[int, str] = {}
        for i, number, wrong, entry in zip(index.tolist(), ids.tolist(), bad.tolist(), entries, strict=True):
            name = entry.get("name")
            if wrong or not isinstance(name, str) or not name or pairs.get(number, name) != name:
                message = (
                    f"categories[{i}] must have an id of its own and a name, got {entry.get('id')!r:.20}, {name!r:.40}"
                )
                problems.append(Problem("label-malformed", i, message))
                continue
            if number not in pairs and name in pairs.values():
                same = [next(n for n, known in pairs.items() if known == name), number]
                message = f"categories[{i}]: '{name}' is the name of two ids, {same[0]} and {same[1]}"
                problems.append(Problem("class-duplicate-name", i, message, facts={"ids": same, "name": name}))
                name = name if by_name[name] == number else _twin(name, number)
            pairs[number] = name
            if by_name.setdefault(name, number) != number:
                message = f"categories[{i}]: '{name}' has id {number} here and {by_name[name]} in another file"
                problems.append(Problem("class-conflict", i, message))
            problems += _merge(about.setdefault(name, {}), entry, i)
        findings += document.findings("categories", problems)
        pairs_of.append(pairs)
    order = sorted(by_name, key=lambda name: by_name[name])
    slots = {name: i for i, name in enumerate(order)}
    columns: dict[str, Any] = {"class_id": range(len(order)), "name": order, "source_id": [by_name[n] for n in order]}
    columns |= {key: [about[n].get(key) for n in order] for key in _KEPT}
    classes = pl.DataFrame(columns, schema=CLASSES_SCHEMA)
    return [{i: slots[name] for i, name in pairs.items()} for pairs in pairs_of], classes, findings


def _twin(name: str, number: int) -> str:
    return f"{name} (id {number})"


def without_empty_twins(
    classes: pl.DataFrame, objects: pl.DataFrame, findings: list[Finding]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables without the classes that have no object and share their name with one that has, or with an earlier
    one; the class that is left takes the name.
    """
    used = set(objects["class_id"].unique())
    rows = {row["name"]: row for row in classes.iter_rows(named=True)}
    for facts in (f.facts for f in findings if f.code == "class-duplicate-name"):
        name, other = facts["name"], _twin(facts["name"], facts["ids"][1])
        if {name, other} <= rows.keys() and not {rows[name]["class_id"], rows[other]["class_id"]} <= used:
            row = rows.pop(other)
            if row["class_id"] in used:
                rows[name] = row | {"name": name}
    kept_ids = {row["class_id"]: new for new, row in enumerate(rows.values())}
    if len(kept_ids) == classes.height:
        return classes, objects
    for row in rows.values():
        row["class_id"] = kept_ids[row["class_id"]]
    renumbered = objects.with_columns(pl.col("class_id").replace_strict(kept_ids, return_dtype=pl.Int32))
    return pl.DataFrame(list(rows.values()), schema=CLASSES_SCHEMA), renumbered


def _merge(known: dict[str, Any], entry: dict[str, Any], index: int) -> list[Problem]:
    """Add what a category says of itself to what is known of its class, and return what is wrong or contradicts."""
    problems = []
    said: dict[str, Any] = {}
    if "isthing" in entry:
        said["thing"] = bool(entry["isthing"])
    names, skeleton = entry.get("keypoints"), entry.get("skeleton")
    if isinstance(names, list) and set(map(type, names)) <= {str}:
        said["keypoint_names"] = names or None
    elif names is not None:
        message = f"categories[{index}]: 'keypoints' must be a list of names, got {names!r:.40}"
        problems.append(Problem("label-malformed", index, message))
    if skeleton is not None:
        # The pairs count from 1, against everything else in COCO.
        said["skeleton"] = _pairs(skeleton, len(said.get("keypoint_names") or ()))
        if said["skeleton"] is None and skeleton != []:
            message = (
                f"categories[{index}]: 'skeleton' must be pairs of keypoint numbers from 1 on, got {skeleton!r:.40}"
            )
            problems.append(Problem("label-malformed", index, message))
    for key, value in said.items():
        if value is not None and known.setdefault(key, value) != value:
            message = (
                f"categories[{index}]: '{key.partition('_')[0]}' of '{entry['name']}' differs from what was said before"
            )
            problems.append(Problem("class-conflict", index, message))
    return problems


def _pairs(skeleton: Any, count: int) -> list[list[int]] | None:
    """0-based pairs of keypoints; None where there are none or one of them is no pair of the `count` keypoints."""
    if not isinstance(skeleton, list) or not skeleton:
        return None
    sound = all(
        isinstance(pair, list)
        and len(pair) == 2
        and set(map(type, pair)) <= {int}
        and 1 <= min(pair) <= max(pair) <= count
        for pair in skeleton
    )
    return [[a - 1, b - 1] for a, b in skeleton] if sound else None


_WHOLE = 1 << 22  # up to so many bytes all of a file is searched
_NEAR = 1 << 16  # of a larger file, so much behind the key of its annotations: the first entry is in it


def json_kind(path: Path) -> Literal["instances", "panoptic"] | None:
    """What the annotations of a JSON file with images and categories are, by whether they have segments; else None."""
    if path.suffix.lower() != ".json" or not read_head(path, 1):
        return None
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(b'"images"') < 0 or text.rfind(b'"categories"') < 0:
            return None
        first = max(text.find(b'"annotations"'), 0)
        last = len(text) if len(text) <= _WHOLE else first + _NEAR
        return "instances" if text.find(b'"segments_info"', first, last) < 0 else "panoptic"
