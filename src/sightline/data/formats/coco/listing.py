"""The images COCO files list, as a table of a data set, wherever they lie; and which kind a file is."""

import math
import mmap
import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.coco.document import Document, Problem, has_json_name, is_sound
from sightline.data.formats.coco.text import label_bytes
from sightline.data.formats.shared.image_tables import float_rows, integers
from sightline.data.layout import folders_up_to, inside, list_images, read_head, relative, split_of, subfolder
from sightline.media import MAX_SIDE, read_header

__all__ = ["fullest_folder", "image_folder", "json_kind", "read_images", "top_folder"]

_SAMPLE = 50  # files that decide which folder the file names are relative to
_ADDRESS = re.compile(r"[a-z]{2,}://|/\S*\?d=")  # of a picture on a server, or in a labelling tool's store
_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN = 5
_OF_LVIS = ("neg_category_ids", "not_exhaustive_category_ids")
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")  # names that are a path inside any folder, as they stand


def top_folder(path: Path) -> Path:
    """The uppermost folder that is looked into for pictures of the label file or folder that was named.

    Nothing above the named path belongs to the set, but for a file in `annotations/`, whose set is the folder above.
    One folder more may hold pictures: `images/` beside the named folder, as several sets of labels share it.
    """
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name.lower() == "annotations" else path.parent


def image_folder(document: Document, top: Path) -> Path:
    """The folder file names are relative to: of the usual places below `top` the one that holds most of a sample."""
    names = [name for entry in document.images[0] if isinstance(name := entry.get("file_name"), str)]
    whole = [n for n in names if n.startswith("/")]
    if whole:
        near = [base for base in document.file.parents[:3] if base != Path(base.anchor)]
        shared = Path(os.path.commonpath([posixpath.dirname(n) for n in whole]))
        if len(whole) == len(names) and any(shared.is_relative_to(base) for base in near) and shared.is_dir():
            return shared
        names = [n for n in names if not n.startswith("/")]  # which any folder would hold
    stem = (
        document.file.name.split(".json")[0]
        .removeprefix("instances_")
        .removeprefix("person_keypoints_")
        .removeprefix("panoptic_")
    )
    places = ["", "images", "data", "JPEGImages", stem, f"images/{stem}"]
    if document.split:
        places += [document.split, f"images/{document.split}"]
    bases = folders_up_to(document.file, top)
    folders = [base / place for base in bases for place in places]
    folders += [folder for base in bases if (folder := subfolder(base, ("images", "image", "img", "imgs"))) is not None]
    folders += [top.parent / place for place in places if place.startswith("images")]
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
    listing.find_elsewhere()
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
        self.text_ids = False
        self._missing: list[dict[str, Any]] = []
        self._restated: list[dict[str, Any]] = []  # named by more than a path inside the folder
        self._files = _Files()
        self._base = self.root.as_posix()

    def read(self, document: Document, folder: Path) -> dict[int, dict[str, Any]]:
        """The rows of one file by the file's own ids."""
        entries, index, found = document.images
        del document.images  # as Python objects they are larger than the file
        problems = list(found)
        self.text_ids |= document.has_text_ids
        prefix = inside(self.root, f"{relative(folder, self.root)}/x", document.name)[:-1]
        by_id: dict[int, dict[str, Any]] = {}
        columns = [integers([e.get(key) for e in entries]) for key in ("id", "width", "height")]
        values = [column.tolist() for column in (index, *columns[0], columns[1][0], columns[2][0])]
        for entry, i, number, bad, width, height in zip(entries, *values, strict=True):
            name = entry.get("file_name", entry.get("coco_url"))  # LVIS v1 has addresses alone
            if bad or not isinstance(name, str) or number in by_id:
                code = "label-duplicate-id" if number in by_id and not bad else "label-malformed"
                got = f"{entry.get('id')!r:.20}, {name!r:.60}"
                message = f"images[{i}] must have an id of its own and a file_name, got {got}"
                problems.append(Problem(code, i, message))
                continue
            plain = _PLAIN.fullmatch(name) is not None
            path = prefix + name if plain else self._path_of(name, prefix)
            if path is None:
                message = f"images[{i}] (id {number}) must name a file, got {name!r:.60}"
                problems.append(Problem("label-malformed", i, message))
                continue
            row = {
                "image_id": number,
                "path": path,
                "width": width,
                "height": height,
                "split": document.split,
                "dropped": False,
                "named": name,
                "entry": (document, i, number),
            }
            if not plain and posixpath.normpath(name.strip().replace("\\", "/")) not in path:
                self._restated.append(row)
            problem = self._add(row, i)
            by_id[number] = self._by_path[path]
            if problem is not None:
                problems.append(problem)
                if problem.code == "split-overlap-path":
                    by_id.pop(number)
        self.findings += document.findings("images", problems + _federated(entries, index))
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
                return Problem("image-unreadable", index, str(error), facts={"image": row["path"]})
        return None

    def _path_of(self, name: str, prefix: str) -> str | None:
        """The path a name stands for that is no plain one: absolute, an address, with `..`; None where it is none."""
        if "\0" in name:
            return None
        text = (
            unquote(parse_qs(urlsplit(name).query).get("d", [urlsplit(name).path])[0]) if _ADDRESS.match(name) else name
        )
        parts = PurePosixPath(text.strip().replace("\\", "/")).parts
        own = PurePosixPath(self._base).parts
        if parts[: len(own)] == own:
            return "/".join(parts[len(own) :]) or None
        if text == name and not {"..", "/"}.intersection(parts) and not _DRIVE.match(name):
            return posixpath.normpath(prefix + "/".join(parts)) if parts else None
        kept = [part for part in parts if part not in {"..", "/", "."} and not _DRIVE.fullmatch(part)]
        return prefix + "/".join(kept) if kept else None

    def find_elsewhere(self) -> None:
        """Take missing images for the one picture of their name that no other entry stands for, and say so."""
        moved: dict[Document, list[tuple[int, str, str]]] = defaultdict(list)

        def say(row: dict[str, Any]) -> None:
            document, index, number = row["entry"]
            moved[document].append((index, f"id {number}: '{row['named']:.80}' is '{row['path']}'", row["path"]))

        for row in self._restated:
            if row not in self._missing:
                say(row)
        for row, path in self._found_by_name():
            self._missing.remove(row)
            row["path"] = path
            say(row)
        for document, found in moved.items():
            listed_here = "; ".join(text for _, text, _ in found[:_SHOWN]) + ("; …" if len(found) > _SHOWN else "")
            message = (
                f"{len(found)} images lie elsewhere than the file says and were found by their names: {listed_here}"
            )
            facts = {"images": [path for _, _, path in found], "entries": [index for index, _, _ in found]}
            problem = Problem("layout-elsewhere", found[0][0], message, count=len(found), facts=facts)
            self.findings += document.findings("images", [problem])

    def _found_by_name(self) -> list[tuple[dict[str, Any], str]]:
        """The missing images whose name one free picture has, and no other missing image, with its path."""
        if not self._missing or self.root == Path(self.root.anchor):  # no data set is the whole disk
            return []
        listed = {row["path"] for row in self.rows}
        free: dict[str, list[str]] = defaultdict(list)
        for file in list_images(self.root, recursive=True):
            path = relative(file, self.root)
            if path not in listed:
                free[file.name].append(path)
        if not free:
            return []
        names = [row["path"].rpartition("/")[2] for row in self._missing]
        wanted = Counter(names)
        sure = [(row, free[name]) for row, name in zip(self._missing, names, strict=True) if wanted[name] == 1]
        return [(row, paths[0]) for row, paths in sure if len(paths) == 1 and self._is_same(row, paths[0])]

    def _is_same(self, row: dict[str, Any], path: str) -> bool:
        """Whether a picture of the right name has the size and the split an entry states; takes the size where none."""
        splits = {split_of(part) for part in (*PurePosixPath(row["path"]).parts[:-1], *PurePosixPath(path).parts[:-1])}
        if len(splits - {None}) > 1:
            return False
        try:
            height, width = read_header(self.root / path).size_hw
        except DataError:
            return False
        if not _has_size(row):
            row["height"], row["width"] = height, width
        return (row["height"], row["width"]) in {(height, width), (width, height)}

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
        for row in self._missing:
            _, index, number = row["entry"]
            said = "" if row["path"].endswith(row["named"]) else f", which the file calls '{row['named']:.80}'"
            message = f"the image does not exist{said}"
            facts = {"images_entry": index, "id": number}
            self.findings.append(finding("image-missing", message, path=row["path"], facts=facts))


def _federated(entries: list[dict[str, Any]], index: npt.NDArray[np.int64]) -> list[Problem]:
    """What LVIS says of images beyond their objects, which no table here has a place for."""
    counts = {key: [i for i, e in zip(index.tolist(), entries, strict=True) if key in e] for key in _OF_LVIS}
    if not any(counts.values()):
        return []
    said = " and ".join(f"{key} in {len(images)} images" for key, images in counts.items() if images)
    message = (
        f"the labels are federated (LVIS): {said} are not kept, so that a right detection of a category that was not "
        "looked for counts as false"
    )
    first = min(images[0] for images in counts.values() if images)
    return [Problem("label-federated", first, message, count=len(set().union(*counts.values())))]


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


_WHOLE = 1 << 22  # up to so many bytes all of a file is searched
_NEAR = 1 << 16  # of a larger file, so much behind the key of its annotations: the first entry is in it
Kind: TypeAlias = Literal["instances", "panoptic", "listing", "damaged", "other"]


def json_kind(path: Path) -> Kind:
    """What a file is that ends in .json: annotations of objects or, where they have segments, panoptic ones.

    "listing" names images and classes and has no annotations. "damaged" is what cannot be understood at all and
    `Document` refuses: no file (a folder, a pipe), unreadable, empty, cut, in another encoding, without classes.
    "other" is sound JSON of another kind, or a file of another suffix.
    """
    if not has_json_name(path):
        return "other"
    if not read_head(path, 1):
        return "damaged"
    if path.suffix.lower() != ".json":  # packed
        try:
            return _kind_of(label_bytes(path), path)
        except OSError:
            return "damaged"
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return _kind_of(text, path)


def _kind_of(text: bytes | mmap.mmap, path: Path) -> Kind:
    first = text.find(b'"annotations"')
    if text.find(b'"images"') < 0 or text.rfind(b'"categories"') < 0:
        lacks_classes = text.find(b'"images"') >= 0 and first >= 0
        is_other = is_sound(path) and (not lacks_classes or text.find(b'"caption"') >= 0)
        return "other" if is_other else "damaged"
    if first < 0:
        return "listing" if is_sound(path) else "damaged"
    last = len(text) if len(text) <= _WHOLE else first + _NEAR
    return "instances" if text.find(b'"segments_info"', first, last) < 0 else "panoptic"
