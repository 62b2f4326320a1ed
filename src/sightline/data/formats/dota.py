"""DOTA: `labelTxt/*.txt` beside `images/`, four corners, a category and a difficulty a row, after two lines of head.

Oriented boxes are read as outlines; objects marked difficult (1) are ignored, as the benchmark does.
"""

from functools import partial
from pathlib import Path

from sightline.core.dataset import Dataset
from sightline.data.formats.shared.named import NamedObjects, folders_beside, open_named
from sightline.data.layout import absolute, list_files

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "DOTA `labelTxt/*.txt` beside `images/`"
_LABELS = ("labelTxt", "labelTxt-v1.0", "labelTxt-v1.5", "labelTxt-v2.0")
_HEADS = ("imagesource", "gsd", "acquisition")


def detect(path: Path) -> float | None:
    """How surely the path is DOTA, 0..1, or None."""
    return 0.95 if any(list_files(labels, (".txt",)) for labels, _ in _parts(path)) else None


def read(path: Path) -> Dataset:
    """The data set of a DOTA folder. DataError when it is none."""
    path = absolute(path)
    parts = _parts(path)
    found = open_named(path, [labels for labels, _ in parts], LOOKED_FOR)
    for labels, images in parts:
        found.read_texts(labels, images, partial(_read_file, found))
    return found.dataset(path, "dota")


def _read_file(found: NamedObjects, file: Path, image: str) -> None:
    for number, line in found.lines(file, image):
        if line.split(":")[0] in _HEADS:
            continue
        row = line.split()
        if len(row) not in (9, 10):
            message = f"a row must be eight numbers, a category and a difficulty, got {len(row)} words: '{line:.60}'"
            found.report("label-malformed", message, number, image)
            continue
        found.add(image, row[8], number, ring=row[:8], ignore=row[9:] == ["1"])


def _parts(path: Path) -> list[tuple[Path, Path]]:
    return folders_beside(path, _LABELS, ("images",))
