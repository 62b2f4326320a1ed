"""Boxes as arrays: conversions, areas, clipping and the IoU family, all in float64.

A box is `xyxy` in pixels: origin at the top-left corner of the top-left pixel, `x2` and `y2` exclusive, so the width
is `x2 - x1` and a box around one pixel has area 1. A box whose sides are not both positive is degenerate: its area is
0 and so is its overlap with anything.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.errors import DataError
from sightline.core.kernels import njit

FloatArray = npt.NDArray[np.float64]

_IOU, _GIOU, _DIOU, _CIOU = 0, 1, 2, 3


def as_boxes(boxes: npt.ArrayLike, name: str = "boxes_xyxy") -> FloatArray:
    """`boxes` as a contiguous float64 array (N, 4); an empty list becomes (0, 4). DataError for any other shape."""
    array: npt.NDArray[Any] = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.ndim <= 2:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"{name} must have the shape (N, 4), got {array.shape}", do="Give one row of four per box.")
    return np.ascontiguousarray(array)


def xywh_to_xyxy(boxes_xywh: npt.ArrayLike) -> FloatArray:
    """Boxes (N, 4) from top-left corner and size to two corners."""
    boxes = as_boxes(boxes_xywh, "boxes_xywh")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes_xyxy: npt.ArrayLike) -> FloatArray:
    """Boxes (N, 4) from two corners to top-left corner and size, as COCO and MOT files write them."""
    boxes = as_boxes(boxes_xyxy)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def xyxy_to_cxcywh(boxes_xyxy: npt.ArrayLike) -> FloatArray:
    """Boxes (N, 4) from two corners to centre and size."""
    boxes = as_boxes(boxes_xyxy)
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + size / 2, size], axis=1)


def cxcywh_to_xyxy(boxes_cxcywh: npt.ArrayLike) -> FloatArray:
    """Boxes (N, 4) from centre and size, as YOLO files write them, to two corners."""
    boxes = as_boxes(boxes_cxcywh, "boxes_cxcywh")
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def lost_sizes(low: FloatArray, high: FloatArray, given: FloatArray) -> pl.Series:
    """The given sizes where `high - low` is not exactly them, null elsewhere: what corners alone would lose."""
    return pl.Series(np.where(high - low == given, np.nan, given), dtype=pl.Float64).fill_nan(None)


def given_sizes(table: pl.DataFrame) -> FloatArray:
    """Width and height (N, 2) of the boxes of a table: as given where that belongs to its corners, else their distance.

    COCO's numbers are decided by the last bit where an area or an IoU lies on a limit, and `x + width - x` loses it.
    """
    sides = [
        pl.when(pl.col(low) + pl.col(given) == pl.col(high))
        .then(given)
        .otherwise(pl.col(high) - pl.col(low))
        .alias(low)
        for low, high, given in (("x1", "x2", "given_width"), ("y1", "y2", "given_height"))
    ]
    return np.ascontiguousarray(table.select(sides).to_numpy())


def box_area(boxes_xyxy: npt.ArrayLike) -> FloatArray:
    """Area (N,) in square pixels; 0 for a degenerate box."""
    boxes = as_boxes(boxes_xyxy)
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return np.asarray(size[:, 0] * size[:, 1])


def clip_boxes(boxes_xyxy: npt.ArrayLike, size_hw: tuple[int, int]) -> FloatArray:
    """Boxes (N, 4) cut at the borders of an image of `size_hw`; one wholly outside becomes degenerate, not removed."""
    height, width = size_hw
    return np.clip(as_boxes(boxes_xyxy), 0.0, np.array([width, height, width, height], dtype=np.float64))


def iou_matrix(
    boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike, crowd_b: npt.ArrayLike | None = None
) -> FloatArray:
    """Intersection over union (A, B) in 0..1, 1 for equal boxes.

    Where `crowd_b` (B,) is true the denominator is the area of `a` alone, as COCO scores a detection against a crowd
    region (Lin et al. 2014, "Microsoft COCO").
    """
    boxes_a, boxes_b = as_boxes(boxes_a_xyxy, "boxes_a_xyxy"), as_boxes(boxes_b_xyxy, "boxes_b_xyxy")
    crowd = np.zeros(len(boxes_b), dtype=np.bool_) if crowd_b is None else np.asarray(crowd_b, dtype=np.bool_)
    if crowd.shape != (len(boxes_b),):
        raise DataError(f"crowd_b must have the shape ({len(boxes_b)},), got {crowd.shape}")
    areas = box_area(boxes_a), box_area(boxes_b)
    return _overlap_matrix(boxes_a, areas[0], boxes_b, areas[1], np.ascontiguousarray(crowd), _IOU)


def grouped_iou(
    boxes_a_xyxy: FloatArray,
    starts_a: npt.NDArray[np.int64],
    boxes_b_xyxy: FloatArray,
    starts_b: npt.NDArray[np.int64],
    crowd_b: npt.NDArray[np.bool_],
    areas: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """The `iou_matrix` of each group, row by row, one after the other in one array.

    Group `i` of either side are its rows from `starts[i]` to `starts[i + 1]`, so `starts` is one longer than there are
    groups. `areas` of both sides are those of the boxes where none are given. As one computation, since a call for each
    of many small groups would take longer than the numbers do.
    """
    boxes_a, boxes_b = as_boxes(boxes_a_xyxy, "boxes_a_xyxy"), as_boxes(boxes_b_xyxy, "boxes_b_xyxy")
    area_a, area_b = areas or (box_area(boxes_a), box_area(boxes_b))
    return _overlap_groups(boxes_a, area_a, starts_a, boxes_b, area_b, starts_b, crowd_b)


def paired_iou(boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike) -> FloatArray:
    """Intersection over union (N,) in 0..1 of each box with the one in the same row; DataError for other lengths."""
    boxes_a, boxes_b = as_boxes(boxes_a_xyxy, "boxes_a_xyxy"), as_boxes(boxes_b_xyxy, "boxes_b_xyxy")
    if len(boxes_a) != len(boxes_b):
        raise DataError(f"boxes_b_xyxy must be as many as boxes_a_xyxy, {len(boxes_a)}, got {len(boxes_b)}")
    sides = np.minimum(boxes_a[:, 2:], boxes_b[:, 2:]) - np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    common = np.prod(np.maximum(sides, 0.0), axis=1)
    union = box_area(boxes_a) + box_area(boxes_b) - common
    return np.asarray(np.divide(common, union, out=np.zeros(len(common)), where=common > 0))


def giou_matrix(boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike) -> FloatArray:
    """Generalised IoU (A, B) in -1..1 (Rezatofighi et al. 2019): IoU less the empty share of the enclosing box."""
    return _measure(boxes_a_xyxy, boxes_b_xyxy, _GIOU)


def diou_matrix(boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike) -> FloatArray:
    """Distance IoU (A, B) in -1..1 (Zheng et al. 2020): IoU less the squared ratio of centre distance to diagonal."""
    return _measure(boxes_a_xyxy, boxes_b_xyxy, _DIOU)


def ciou_matrix(boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike) -> FloatArray:
    """Complete IoU (A, B), at most 1 (Zheng et al. 2020): distance IoU less a penalty for unlike aspect ratios."""
    return _measure(boxes_a_xyxy, boxes_b_xyxy, _CIOU)


def _measure(boxes_a_xyxy: npt.ArrayLike, boxes_b_xyxy: npt.ArrayLike, kind: int) -> FloatArray:
    boxes_a, boxes_b = as_boxes(boxes_a_xyxy, "boxes_a_xyxy"), as_boxes(boxes_b_xyxy, "boxes_b_xyxy")
    no_crowd = np.zeros(len(boxes_b), dtype=np.bool_)
    return _overlap_matrix(boxes_a, box_area(boxes_a), boxes_b, box_area(boxes_b), no_crowd, kind)


@njit(cache=True)
def _side(low: float, high: float) -> float:
    return high - low if high > low else 0.0


@njit(cache=True)
def _intersection(a: FloatArray, b: FloatArray) -> float:
    width = _side(max(a[0], b[0]), min(a[2], b[2]))
    if width == 0.0:
        return 0.0
    return width * _side(max(a[1], b[1]), min(a[3], b[3]))


@njit(cache=True)
def _penalty(a: FloatArray, b: FloatArray, iou: float, union: float, kind: int) -> float:
    hull_w = _side(min(a[0], b[0]), max(a[2], b[2]))
    hull_h = _side(min(a[1], b[1]), max(a[3], b[3]))
    if kind == _GIOU:
        hull = hull_w * hull_h
        return (hull - union) / hull if hull > 0.0 else 0.0
    diagonal2 = hull_w * hull_w + hull_h * hull_h
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2.0, (a[1] + a[3] - b[1] - b[3]) / 2.0
    penalty = (dx * dx + dy * dy) / diagonal2 if diagonal2 > 0.0 else 0.0
    if kind == _DIOU:
        return penalty
    angle_a = math.atan2(_side(a[0], a[2]), _side(a[1], a[3]))
    angle_b = math.atan2(_side(b[0], b[2]), _side(b[1], b[3]))
    shape = 4.0 / math.pi**2 * (angle_a - angle_b) ** 2
    weight = shape / (1.0 - iou + shape) if shape > 0.0 else 0.0
    return penalty + weight * shape


@njit(cache=True)
def _overlap_matrix(
    boxes_a: FloatArray,
    area_a: FloatArray,
    boxes_b: FloatArray,
    area_b: FloatArray,
    crowd_b: npt.NDArray[np.bool_],
    kind: int,
) -> FloatArray:
    out = np.empty((len(boxes_a), len(boxes_b)))
    for i in range(len(boxes_a)):
        for j in range(len(boxes_b)):
            common = _intersection(boxes_a[i], boxes_b[j])
            union = area_a[i] if crowd_b[j] else area_a[i] + area_b[j] - common
            iou = common / union if common > 0.0 else 0.0
            out[i, j] = iou if kind == _IOU else iou - _penalty(boxes_a[i], boxes_b[j], iou, union, kind)
    return out


@njit(cache=True)
def _overlap_groups(
    boxes_a: FloatArray,
    area_a: FloatArray,
    starts_a: npt.NDArray[np.int64],
    boxes_b: FloatArray,
    area_b: FloatArray,
    starts_b: npt.NDArray[np.int64],
    crowd_b: npt.NDArray[np.bool_],
) -> FloatArray:
    out = np.empty(((starts_a[1:] - starts_a[:-1]) * (starts_b[1:] - starts_b[:-1])).sum())
    end = 0
    for i in range(len(starts_a) - 1):
        a, b = slice(starts_a[i], starts_a[i + 1]), slice(starts_b[i], starts_b[i + 1])
        matrix = _overlap_matrix(boxes_a[a], area_a[a], boxes_b[b], area_b[b], crowd_b[b], _IOU)
        out[end : end + matrix.size] = matrix.reshape(-1)
        end += matrix.size
    return out
