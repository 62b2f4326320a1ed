"""The segmentations of Pascal VOC: palette pictures of object numbers and of classes, and the list of labels.

In `SegmentationObject/<name>.png` the value k marks the k-th object of the annotation; in `SegmentationClass/` a value
is a class. 0 is background, 255 belongs to nobody (borders, "void"). Pictures that exporters have turned into RGB are
read through the VOC palette. `labelmap.txt` (`label:r,g,b:parts:actions`, one class a line, background first) is how
exporters give class names other than VOC's twenty.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.data.formats.shared.object_masks import split_ids
from sightline.data.layout import read_text
from sightline.media import read_header, read_mask

__all__ = [
    "BACKGROUND",
    "LABELMAP_NAME",
    "VOID",
    "LabelMap",
    "Segments",
    "read_label_map",
    "read_segments",
    "voc_colours",
]

VOID = 255
BACKGROUND = "background"
LABELMAP_NAME = "labelmap.txt"
_VOID_COLOUR = (224, 224, 192)
_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_ROW = re.compile(r"(?P<name>.+?):(?P<red>\d{1,3}),(?P<green>\d{1,3}),(?P<blue>\d{1,3}):[^:]*:[^:]*")

Colour: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class LabelMap:
    """Class names by value in `SegmentationClass/` (0 is background), and the colour that stands for each value."""

    names: dict[int, str]
    colours: dict[Colour, int]
    declared: bool  # by a file, rather than VOC's own twenty


@dataclass(frozen=True)
class Segments:
    """The masks of one image by object number, and the class value most of each one's pixels have, where known."""

    size_hw: tuple[int, int]
    rles: dict[int, bytes]
    classes: dict[int, int]


def voc_colours() -> list[Colour]:
    """The 256 colours of the VOC palette: the bits of the index dealt out to red, green and blue, highest first."""
    colours = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return colours


def read_label_map(root: Path) -> LabelMap:
    """The label map of a VOC folder, or that of VOC's own twenty classes. DataError (with line) for a bad row."""
    file = root / LABELMAP_NAME
    if not file.is_file():
        names = dict(enumerate(_NAMES, start=1))
        return LabelMap(names, _palette(), declared=False)
    rows: list[tuple[str, Colour]] = []
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        row = _ROW.fullmatch(text.strip())
        if row is not None:
            rows.append((row["name"], (int(row["red"]), int(row["green"]), int(row["blue"]))))
        elif text.strip() and not text.lstrip().startswith("#"):
            raise DataError(
                f"a row must be 'label:r,g,b:parts:actions', got '{text.strip():.60}'", where=f"{file}:{line}"
            )
    first = 0 if rows and rows[0] == (BACKGROUND, (0, 0, 0)) else 1
    names = {i: name for i, (name, _) in enumerate(rows, start=first) if i}
    if len(set(names.values())) < len(names):
        raise DataError("class names must differ, got one twice", where=str(file))
    colours = {colour: i for i, (_, colour) in enumerate(rows, start=first)}
    return LabelMap(names, {_VOID_COLOUR: VOID} | colours, declared=True)


def read_segments(objects: Path, classes: Path | None, labels: LabelMap) -> Segments:
    """The masks in a picture of object numbers; DataError when one of the pictures cannot be read."""
    values = _read_ids(objects, _palette())
    rles = {number: counts for number, counts in split_ids(values).items() if number not in {0, VOID}}
    pixels = None if classes is None else _read_ids(classes, labels.colours)
    of_class = {} if pixels is None or pixels.shape != values.shape else _commonest(values, pixels)
    return Segments((values.shape[0], values.shape[1]), rles, of_class)


def _read_ids(file: Path, colours: dict[Colour, int]) -> npt.NDArray[Any]:
    """The values of a picture: its palette's indices, its grays, or what its colours stand for."""
    is_colour = read_header(file).channels in {"rgb", "rgba", "rgb16"}
    return read_mask(file, colours if is_colour else None)


def _commonest(numbers: npt.NDArray[Any], classes: npt.NDArray[Any]) -> dict[int, int]:
    """The class value that most labelled pixels of each object have; objects without such pixels are left out."""
    if max(int(numbers.max()), int(classes.max())) > VOID:
        return {}
    pairs = numbers.astype(np.int64).ravel() * (VOID + 1) + classes.ravel()
    counts = np.bincount(pairs, minlength=(VOID + 1) ** 2).reshape(VOID + 1, VOID + 1)
    counts[:, [0, VOID]] = 0
    return {number: int(row.argmax()) for number, row in enumerate(counts) if row.any()}


@cache
def _palette() -> dict[Colour, int]:
    return {colour: i for i, colour in enumerate(voc_colours())}
