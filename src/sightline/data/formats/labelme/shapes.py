"""The shapes of one LabelMe file: what each draws, what is said about it, and which of them are one object."""

import base64
import binascii
import math
from collections import Counter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.data.formats.shared.columns import LARGEST
from sightline.data.formats.shared.object_masks import rle_of_crop
from sightline.data.formats.shared.shapes import Corners, Flags, Part, ShapeError, checked_ring, ellipse_ring
from sightline.media import decode_mask

__all__ = ["BACKGROUND_LABEL", "IGNORE_LABEL", "group_shapes", "joint_flags", "read_part"]

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
