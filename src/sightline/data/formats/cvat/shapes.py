"""The elements of a CVAT file as they are streamed, and what each shape of them draws and says."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sightline.core.errors import DataError
from sightline.data.formats.shared.image_tables import LARGEST
from sightline.data.formats.shared.shapes import (
    Flags,
    Part,
    ShapeError,
    checked_ring,
    ellipse_ring,
    rle_of_crop,
    turned_box_ring,
)
from sightline.data.formats.shared.xml import Attributes, walk_xml

__all__ = ["AREAS", "UNSAID", "CvatShape", "Meta", "Owner", "read_cvat", "read_flags", "read_part", "says_occluded"]

SHAPES = frozenset({"box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton", "tag"})


@dataclass(frozen=True, slots=True)
class Owner:
    """The `<image>` or `<track>` that shapes stand in."""

    kind: str
    attributes: Attributes
    line: int


@dataclass(slots=True)
class CvatShape:
    """A shape as text: its element's name and attributes, the `<attribute>`s inside it, and its line."""

    kind: str
    attributes: Attributes
    line: int
    extra: dict[str, str] = field(default_factory=dict)


@dataclass
class Meta:
    """What stands before the images: label names in order, and the first text of each other entry by its name."""

    labels: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    tasks: int = 0


OnShape: TypeAlias = Callable[[Owner, CvatShape], None]


def read_cvat(file: Path, where: str, meta: Meta, on_owner: Callable[[Owner], None], on_shape: OnShape) -> None:
    """Walk through a file, calling `on_owner` for each image and track and `on_shape` for each of its shapes.

    `meta` is filled from the file's meta entry, which comes first. DataError (with line) when it is no well-formed XML
    or declares entities.
    """
    stack: list[str] = []
    owner: Owner | None = None
    shape: CvatShape | None = None
    attribute = ""

    def start(tag: str, attributes: Attributes, line: int) -> None:
        nonlocal owner, shape, attribute
        stack.append(tag)
        if len(stack) == 2 and tag in {"image", "track"}:
            owner = Owner(tag, attributes, line)
            on_owner(owner)
        elif len(stack) == 3 and owner is not None and tag in SHAPES:
            shape = CvatShape(tag, attributes, line)
        elif len(stack) == 4 and shape is not None and tag == "attribute":
            attribute = attributes.get("name", "")

    def end(tag: str, text: str, _: int) -> None:
        nonlocal owner, shape
        if len(stack) == 2:
            owner = None
        elif len(stack) == 3 and owner is not None and shape is not None:
            on_shape(owner, shape)
            shape = None
        elif len(stack) == 4 and shape is not None and tag == "attribute":
            shape.extra.setdefault(attribute, text)
        elif stack[1:2] == ["meta"]:
            _take_meta(meta, stack, text)
        stack.pop()

    with file.open("rb") as stream:
        walk_xml(stream, where, start, end)


def _take_meta(meta: Meta, stack: list[str], text: str) -> None:
    if stack[-3:] == ["labels", "label", "name"]:
        if text and text not in meta.labels:
            meta.labels.append(text)
    elif stack[-3:] == ["labels", "label", "parent"] and text and meta.labels:
        meta.labels.pop()  # a skeleton's part, listed beside the skeleton
    elif stack[-1] == "task":
        meta.tasks += 1
    elif text:
        meta.values.setdefault(stack[-1], text)


AREAS = frozenset({"box", "polygon", "mask", "ellipse"})
UNSAID = -1.0
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no", ""})
_MEANINGS = {
    "ignore": "ignore",
    "difficult": "ignore",
    "is_crowd": "crowd",
    "iscrowd": "crowd",
    "crowd": "crowd",
    "occluded": "occlusion",
    "occlusion": "occlusion",
    "truncated": "truncation",
    "truncation": "truncation",
    "track_id": "track_id",
}
_LONGEST_RLE = 50_000_000  # characters


def read_part(shape: CvatShape, size_hw: tuple[int, int]) -> Part:
    """What a box, polygon, ellipse or mask draws; ShapeError where it cannot be read."""
    if shape.kind == "polygon":
        return Part(ring=checked_ring(_points(shape.attributes.get("points", ""))))
    if shape.kind == "mask":
        return _read_mask(shape, size_hw)
    rotation = _number(shape.attributes.get("rotation", "0"), "rotation")
    if shape.kind == "ellipse":
        x, y, radius_x, radius_y = (_attribute(shape, k) for k in ("cx", "cy", "rx", "ry"))
        return Part(ring=checked_ring(ellipse_ring(x, y, radius_x, radius_y, rotation)))
    x1, y1, x2, y2 = (_attribute(shape, k) for k in _CORNERS)
    if rotation % 360:
        return Part(ring=checked_ring(turned_box_ring((x1, y1, x2, y2), rotation)))
    return Part(box=(x1, y1, x2, y2))


def says_occluded(shape: CvatShape) -> bool:
    """Whether the shape's own flag says that the object is hidden in part."""
    return shape.attributes.get("occluded", "").lower() in _TRUE


def read_flags(shapes: list[CvatShape], unused: Counter[str]) -> Flags:
    """What the attributes of an object's shapes say of it; those that mean nothing here are counted in `unused`.

    `occlusion` is what an attribute of that name says, else 1 where the shape's flag is set, else `UNSAID`: whether a
    flag that is not set means "seen whole" is for the reader to say, who knows whether anybody sets it.
    """
    values: dict[str, float | None] = {"occlusion": 1.0 if any(says_occluded(s) for s in shapes) else UNSAID}
    for name, text in [pair for shape in shapes for pair in shape.extra.items()]:
        meaning = _MEANINGS.get(name.lower())
        value = _value(text.strip().lower(), meaning)
        if meaning is None or (value is None and text):
            unused[name[:40]] += 1
        else:
            values[meaning] = value
    track = values.get("track_id")
    return Flags(
        crowd=bool(values.get("crowd")),
        ignore=bool(values.get("ignore")),
        occlusion=values["occlusion"],
        truncation=values.get("truncation"),
        track_id=None if track is None else int(track),
    )


def _value(text: str, meaning: str | None) -> float | None:
    """The number, share or yes and no an attribute says, or None."""
    if text in _TRUE - {"1"}:
        return 1.0
    if text in _FALSE - {"0", ""}:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        return None
    if meaning == "track_id":
        return value if math.isfinite(value) and abs(value) < 2**53 and value == int(value) else None
    return value if 0 <= value <= 1 else None


def _attribute(shape: CvatShape, key: str) -> float:
    return _number(shape.attributes.get(key, ""), key)


def _number(text: str, key: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ShapeError("label-malformed", f"'{key}' must be a number up to 1e15, got '{text:.20}'")
    return value


def _points(text: str) -> list[float]:
    pairs = [pair.split(",") for pair in text.split(";") if pair.strip()]
    try:
        ring = [float(value) for pair in pairs for value in pair]
    except ValueError:
        ring = []
    if any(len(pair) != 2 for pair in pairs) or len(ring) < 6 or not max(map(abs, ring)) <= LARGEST:
        raise ShapeError("label-malformed", f"a polygon must have three points 'x,y;…' at least, got '{text:.40}'")
    return ring


def _read_mask(shape: CvatShape, size_hw: tuple[int, int]) -> Part:
    """A mask is run lengths along the rows of a crop, background first."""
    left, top, width, height = (int(_attribute(shape, k)) for k in ("left", "top", "width", "height"))
    text = shape.attributes.get("rle", "")
    box = (float(left), float(top), float(left + width), float(top + height))
    try:
        if not (0 < width <= size_hw[1] and 0 < height <= size_hw[0]) or len(text) > _LONGEST_RLE:
            raise DataError(f"a mask must fit its image, got {width} × {height} pixels")
        runs = np.array(text.split(",") if text.strip() else [], dtype=np.int64)
        # Their sum is only formed once each is known to be small: it must not wrap around.
        sound = len(runs) > 0 and runs.min() >= 0 and runs.max() <= width * height and runs.sum() == width * height
        if not sound:
            raise DataError(f"run lengths must fill {width} × {height} pixels")
        crop = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        return Part(counts=rle_of_crop(crop, left, top, size_hw))
    except (DataError, ValueError, OverflowError) as error:
        what = error.what if isinstance(error, DataError) else "run lengths must be whole numbers"
        raise ShapeError("label-bad-segmentation", f"the mask cannot be read: {what}", Part(box=box)) from None
