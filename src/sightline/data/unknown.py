"""What a place of no known format holds, which format is nearest, and what keeps it from being that."""

import os
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePath
from typing import NamedTuple

from sightline.data.layout import JUNK_FOLDERS, KIND_FOLDERS, read_head, split_of
from sightline.media import IMAGE_SUFFIXES

__all__ = ["Seen", "describe_unknown"]

_MOST_FILES = 100_000  # walked through at most: enough to tell what a folder is
_SAMPLES = 20  # files of a kind whose first line is looked at
_HEAD = 4096  # bytes in which a file's first keys and lines stand
_SHOWN = 6


class Seen(NamedTuple):
    """What lies there in words, the nearest format, what differs from it and what to do."""

    seen: str
    nearest: str
    do: str


_JSON_KINDS = (
    ('"rectanglelabels"|"from_name"', "label-studio", "each region must state original_width and original_height"),
    ('"shape_attributes"|"region_attributes"', "via", "it must have filename, regions and shape_attributes"),
    ('"items".*"label_id"|"categories": *{ *"label"', "datumaro", "it must have categories, with labels, and items"),
    ('"geometryType"|"classTitle"', "supervisely", "each `ann/<image>.json` must lie beside `img/`"),
    ('"imgHeight".*"objects"', "cityscapes", "`gtFine/<split>/<city>/` must stand beside `leftImg8bit/`"),
    ('"box2d"|"poly2d"', "bdd100k", "each frame must have a name and labels with a category"),
    ('"coordinates".*"width"', "createml", "each entry must have image, annotations and coordinates"),
    ('"shapes".*"imagePath"', "labelme", "one file for each image must lie beside it"),
    ('"bbox".*"segmentation"|"images"|"annotations"', "coco", "it must have the lists images, annotations, categories"),
)
"""What stands in the head of a JSON file, which format that is, and what to do; tried in order."""
_COLUMNS = re.compile(r"xmin|filename|ImageID|region_shape_attributes|image_path", re.IGNORECASE)
_INTEGER, _NUMBER = re.compile(r"-?\d+"), re.compile(r"-?\d*\.?\d+(?:[eE][-+]?\d+)?")


def describe_unknown(path: Path) -> Seen:
    """What is to be said of a folder or file that no format was recognised in."""
    files = _files(path)
    counts = Counter(_suffix(p) for p in files)
    lines = _first_lines(files)
    parts = []
    for suffix, count in counts.most_common(_SHOWN):
        kind = Counter(kind for kind, _ in lines.get(suffix, ())).most_common(1)
        parts.append(f"{count} {suffix or 'without suffix'}{f' with {kind[0][0]}' if kind else ''}")
    more = f"; {sum(counts.values())} files in all" if len(counts) > _SHOWN else ""
    seen = "; ".join(parts) + more if parts else "no file"
    return Seen(seen, *_nearest(counts, lines, files))


def _files(path: Path) -> list[str]:
    if path.is_file():
        return [str(path)]
    found: list[str] = []
    for parent, below, names in os.walk(path):
        below[:] = [b for b in below if not b.startswith(".") and b not in JUNK_FOLDERS]
        found += [f"{parent}{os.sep}{n}" for n in names if not n.startswith(".")]
        if len(found) > _MOST_FILES:
            break
    return found


def _suffix(path: str) -> str:
    return PurePath(path).suffix.lower()


def _first_lines(files: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Of a sample of text files by suffix what their first line is, and their head."""
    sample: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        if _suffix(file) in {".txt", ".json", ".csv", ".xml"} and len(sample[_suffix(file)]) < _SAMPLES:
            sample[_suffix(file)].append(file)
    heads = {s: [read_head(Path(f), _HEAD).decode("utf-8", "replace") for f in some] for s, some in sample.items()}
    return {suffix: [(_kind_of(head, suffix), head) for head in some] for suffix, some in heads.items()}


def _kind_of(head: str, suffix: str) -> str:
    line = next((line.strip() for line in head.splitlines() if line.strip()), "")
    if suffix == ".csv":
        return f"the columns {line:.60}" if _COLUMNS.search(line) else f"{line.count(',') + 1} columns"
    if suffix == ".json":
        keys = list(dict.fromkeys(re.findall(r'"([^"\\]{1,40})"\s*:', head)))[:4]
        whole = "a list" if line.startswith("[") else "an object"
        return f"{whole} with the keys {', '.join(keys)}" if keys else "no keys"
    if suffix == ".xml":
        root = re.search(r"<(\w[\w:.-]*)", re.sub(r"<[?!][^>]*>", "", head))
        return f"the root <{root[1]}>" if root else "no root"
    fields = [field for field in re.split(r"[,\s]+", line) if field]
    if not fields:
        return "nothing in it"
    kinds = {"integers": _INTEGER, "numbers": _NUMBER}
    kind = next((name for name, pattern in kinds.items() if all(map(pattern.fullmatch, fields))), "fields")
    return f"{len(fields)} {kind if len(fields) > 1 else kind.removesuffix('s')} a line"


def _nearest(counts: Counter[str], lines: dict[str, list[tuple[str, str]]], files: list[str]) -> tuple[str, str]:
    """The nearest format with what differs, and what to do."""
    pictures = sum(n for suffix, n in counts.items() if suffix in IMAGE_SUFFIXES)
    if counts[".zip"] or counts[".tar"] or counts[".gz"] or counts[".7z"]:
        archive = next(f for f in sorted(files) if _suffix(f) in {".zip", ".tar", ".gz", ".7z"})
        name = PurePath(archive).name
        if _suffix(archive) == ".7z":
            return "an archive that needs another program", f"Unpack it: 7z x {name}"
        return "an archive, which is read where it is named itself", f"Name it in place of its folder: {archive}"
    for _, head in lines.get(".json", ()):
        for pattern, name, do in _JSON_KINDS:
            if re.search(pattern, head, re.DOTALL):
                return name, f"{do[0].upper()}{do[1:]}"
    if counts[".csv"]:
        return (
            "csv-boxes, but no columns of image, class and corners",
            "Name them filename, class, xmin, ymin, …",
        )
    if counts[".txt"]:
        return _of_rows([head for _, head in lines[".txt"]], pictures)
    if counts[".xml"]:
        return "voc, but no root is <annotation>", "Export as Pascal VOC"
    named = _class_folders(files)
    if pictures and named:
        shown = ", ".join(named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
        nearest = f"a set for classification: {pictures} pictures sorted into the folders {shown}"
        return nearest, "Draw boxes or masks: whole images with a class are not read"
    if pictures:
        do = "Put the labels beside the images, or look at what a model finds: sightline run"
        return f"none: there are {pictures} pictures and no labels", do
    return "none: there is neither a picture nor a label", "Name the folder of the data set"


def _class_folders(files: list[str]) -> list[str]:
    """The folders that the pictures are sorted into as classes: two or more, none named for what kind of file it holds
    or for a split; none where pictures lie elsewhere too.
    """
    holders = {PurePath(file).parent for file in files if _suffix(file) in IMAGE_SUFFIXES}
    names = sorted({holder.name for holder in holders})
    above = {holder.parent for holder in holders}
    of_kinds = {name for name in names if name.lower() in KIND_FOLDERS or split_of(name) is not None}
    return [] if len(names) < 2 or of_kinds or above & holders else names


def _of_rows(heads: list[str], pictures: int) -> tuple[str, str]:
    """The nearest format of text files by the rows of one of them."""
    rows = [line.split() for head in heads for line in head.splitlines() if line.strip()]
    if any(len(row) >= 15 and not _NUMBER.fullmatch(row[0]) for row in rows):
        return (
            "kitti, but no `label_2/` stands beside `image_2/`",
            "Put them into folders of these names",
        )
    if any(len(row) == 10 and not _NUMBER.fullmatch(row[8]) for row in rows):
        return "dota, but no `labelTxt/` stands beside `images/`", "Put them into folders of these names"
    fives = [row for row in rows if len(row) == 5 and all(map(_NUMBER.fullmatch, row))]
    if not fives:
        return "yolo, but its rows must be `class cx cy width height` in numbers", "Export as YOLO or COCO"
    if any(float(value) > 2 for row in fives for value in row[1:]):
        differs = "yolo, but its coordinates must be 0..1 of the image's size, and these are pixels"
        return differs, "Divide by the image's width and height, or export as COCO"
    if not pictures:
        return "yolo, but there is no picture", "Put the images beside the labels, or in `images/`"
    return "yolo, but no text file has the name of a picture", "Name each label file like its image"
