"""Which of many overlapping boxes are one object: greedy, by centre distance, or by decaying scores.

Every way depends on nothing but its input, never on the clock, and needs memory linear in the boxes. Sources: Bodla et
al. 2017 (Soft-NMS), Zheng et al. 2020 (DIoU-NMS).
"""

import math

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from sightline.core.errors import ConfigError, DataError
from sightline.core.kernels import njit
from sightline.core.metadata import OperatingPoint
from sightline.ops.boxes import FloatArray, as_boxes
from sightline.ops.oriented import corners_iou

__all__ = ["ORIENTED", "IntArray", "checked_boxes", "nms", "overlap", "soft_nms", "suppress"]

IntArray = npt.NDArray[np.int64]
ORIENTED = 3
"""Dimensions of oriented boxes, given by their corners (N, 4, 2)."""
_GONE = -np.inf  # the score of a box that has been taken, or is out of it


def suppress(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, class_ids: npt.ArrayLike, point: OperatingPoint
) -> tuple[IntArray, NDArray[np.float64]]:
    """Indices (K,) of the boxes that stay, by descending score, and their scores, as `point.suppression` decides.

    `none` keeps the best `max_det` as they are, for networks that give each object once. Only Soft-NMS changes scores.
    Raises DataError as `nms` does, and ConfigError for `diou` of oriented boxes.
    """
    boxes, score_array, classes = checked_boxes(boxes_xyxy, scores, class_ids)
    method = point.suppression
    if method == "diou" and boxes.ndim == ORIENTED:
        raise ConfigError("the suppression of oriented boxes must be one by overlap, got diou", do="use nms")
    if method == "none":
        kept = np.argsort(-score_array, kind="stable")[: point.max_det]
        return kept, score_array[kept]
    if method in ("soft-linear", "soft-gaussian"):
        return soft_nms(
            boxes,
            score_array,
            classes,
            iou_threshold=point.iou if method == "soft-linear" else None,
            sigma=point.sigma,
            conf=point.conf,
            max_det=point.max_det,
        )
    if method == "agnostic":
        classes = np.zeros_like(classes)
    kept = nms(boxes, score_array, classes, point.iou, point.max_det, by_centre=method == "diou")
    return kept, score_array[kept]


def nms(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    iou_threshold: float,
    max_det: int,
    *,
    by_centre: bool = False,
) -> IntArray:
    """Indices (K,) of the boxes that survive, by descending score; equal scores keep their input order.

    A box is suppressed when a better-scored, surviving box of its own class overlaps it with an IoU above
    `iou_threshold` (equal survives); `by_centre` takes DIoU in place of IoU: less the squared distance of the centres
    over that of the corners of the box around both. Oriented boxes are given by their corners (N, 4, 2), see
    `sightline.ops.oriented`, and overlap exactly as they lie. The search stops at `max_det` survivors over all classes.
    Raises DataError where lengths differ or a score is not a number.
    """
    boxes, score_array, classes = checked_boxes(boxes_xyxy, scores, class_ids)
    if len(boxes) == 0 or max_det <= 0:
        return np.zeros(0, dtype=np.int64)
    order, edges = _by_class(score_array, classes)
    columns = np.ascontiguousarray(boxes[order].T)
    kept = order[_greedy(columns, edges, float(iou_threshold), int(max_det), by_centre)]
    return kept[np.lexsort((kept, -score_array[kept]))][:max_det]


def soft_nms(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    *,
    iou_threshold: float | None,
    sigma: float = 0.5,
    conf: float = 0.001,
    max_det: int = 300,
) -> tuple[IntArray, NDArray[np.float64]]:
    """Soft-NMS: indices (K,) of the boxes whose decayed score is at least `conf`, by descending score, and the scores.

    In turn the best box of a class is taken, and the others lose score: linear, times 1 - IoU where the IoU is above
    `iou_threshold`; Gaussian (no `iou_threshold`), times exp(-IoU² / sigma). Raises DataError as `nms` does.
    """
    boxes, score_array, classes = checked_boxes(boxes_xyxy, scores, class_ids)
    order, edges = _by_class(score_array, classes)
    threshold = -1.0 if iou_threshold is None else float(iou_threshold)
    columns = np.ascontiguousarray(boxes[order].T)
    decayed = _decay(columns, score_array[order], edges, threshold, float(sigma), float(conf))
    stays = np.flatnonzero(decayed >= conf)
    best = stays[np.lexsort((order[stays], -decayed[stays]))][:max_det]
    return order[best], decayed[best]


def checked_boxes(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, class_ids: npt.ArrayLike
) -> tuple[FloatArray, NDArray[np.float64], IntArray]:
    """Boxes (N, 4), or corners (N, 4, 2) of oriented ones, scores (N,) and classes (N,) as arrays; DataError where
    lengths differ or a score is no number.
    """
    given = np.asarray(boxes_xyxy, dtype=np.float64)
    boxes = np.ascontiguousarray(given) if given.ndim == ORIENTED else as_boxes(given)
    score_array = np.asarray(scores, dtype=np.float64).reshape(-1)
    class_array = np.ascontiguousarray(np.asarray(class_ids, dtype=np.int64).reshape(-1))
    if not len(boxes) == len(score_array) == len(class_array):
        raise DataError(
            "boxes_xyxy, scores and class_ids must have one entry per box, "
            f"got {len(boxes)}, {len(score_array)} and {len(class_array)}"
        )
    if np.isnan(score_array).any():
        raise DataError(f"scores must be numbers, got {int(np.isnan(score_array).sum())} NaN")
    return boxes, score_array, class_array


def _by_class(scores: NDArray[np.float64], classes: IntArray) -> tuple[IntArray, IntArray]:
    """The order by class and descending score, equals as given, and where in it the classes begin and end."""
    order = np.lexsort((-scores, classes))
    inner = np.flatnonzero(np.diff(classes[order])) + 1
    return order, np.concatenate([np.zeros(1, np.int64), inner, np.full(1, len(order))]).astype(np.int64)


@njit(cache=True)
def _greedy(
    columns: FloatArray, edges: IntArray, iou_threshold: float, max_det: int, by_centre: bool
) -> npt.NDArray[np.bool_]:
    """Which boxes stay; `columns` (4, N) are x1, y1, x2, y2 of boxes sorted by class and score, (2, 4, N) corners."""
    stays, near = np.ones(columns.shape[-1], dtype=np.bool_), np.empty(columns.shape[-1])
    for e in range(len(edges) - 1):
        left, last = max_det, edges[e + 1]
        for i in range(edges[e], last):
            stays[i] &= left > 0
            left -= stays[i]
            if stays[i]:
                _overlaps(columns, i, i + 1, last, by_centre, near)
                stays[i + 1 : last] &= near[i + 1 : last] <= iou_threshold
    return stays


@njit(cache=True)
def _overlaps(columns: FloatArray, i: int, first: int, last: int, by_centre: bool, out: FloatArray) -> None:
    """IoU (or DIoU) of box `i` with those from `first` to `last`; which kind they are is known when it is compiled."""
    if columns.ndim == ORIENTED:
        own = np.ascontiguousarray(columns[..., i].T)
        for j in range(first, last):
            out[j] = corners_iou(own, np.ascontiguousarray(columns[..., j].T))
    else:
        _upright_overlaps(columns, i, first, last, by_centre, out)


@njit(cache=True, error_model="numpy")
def _upright_overlaps(columns: FloatArray, i: int, first: int, last: int, by_centre: bool, out: FloatArray) -> None:
    """Without a branch, so that many are done at once."""
    x1, y1, x2, y2 = columns[0, i], columns[1, i], columns[2, i], columns[3, i]
    area = (x2 - x1) * (y2 - y1)
    for j in range(first, last):
        width = max(min(x2, columns[2, j]) - max(x1, columns[0, j]), 0.0)
        height = max(min(y2, columns[3, j]) - max(y1, columns[1, j]), 0.0)
        common = width * height
        union = area + (columns[2, j] - columns[0, j]) * (columns[3, j] - columns[1, j]) - common
        out[j] = common / union if common > 0.0 else 0.0
    if by_centre:
        for j in range(first, last):
            across = max(x2, columns[2, j]) - min(x1, columns[0, j])
            down = max(y2, columns[3, j]) - min(y1, columns[1, j])
            x = 0.5 * ((x1 + x2) - (columns[0, j] + columns[2, j]))
            y = 0.5 * ((y1 + y2) - (columns[1, j] + columns[3, j]))
            if out[j] > 0.0:
                out[j] -= (x * x + y * y) / (across * across + down * down)


@njit(cache=True)
def _decay(
    columns: FloatArray, scores: FloatArray, edges: IntArray, iou_threshold: float, sigma: float, conf: float
) -> FloatArray:
    """Final scores of boxes sorted by class, class by class."""
    scores = scores.copy()
    for e in range(len(edges) - 1):
        first, last = edges[e], edges[e + 1]
        _decay_class(columns[..., first:last].copy(), scores[first:last], iou_threshold, sigma, conf)
    return scores


@njit(cache=True)
def _decay_class(columns: FloatArray, scores: FloatArray, iou_threshold: float, sigma: float, conf: float) -> None:
    """Lower `scores` in place; a box below `conf` is out of it, and decays nobody.

    What is taken or out is marked, and now and then the others are moved together, in the same order.
    """
    rows, now, near = np.arange(len(scores)), scores.copy(), np.empty(len(scores))
    count = alive = _together(columns, rows, now, len(scores), conf)
    while alive > 0:
        best = _first_best(now, count)
        scores[rows[best]], now[best] = now[best], _GONE
        alive -= 1
        _overlaps(columns, best, 0, count, False, near)
        for k in range(count):
            if near[k] == 0.0 or now[k] < conf:
                continue
            now[k] *= _factor(near[k], iou_threshold, sigma)
            if now[k] < conf:
                scores[rows[k]], now[k] = now[k], _GONE
                alive -= 1
        if 4 * alive < 3 * count:
            count = _together(columns, rows, now, count, conf)


@njit(cache=True)
def _first_best(now: FloatArray, count: int) -> int:
    best, at = now[0], 0
    for k in range(1, count):
        if now[k] > best:
            best, at = now[k], k
    return at


@njit(cache=True)
def _together(columns: FloatArray, rows: IntArray, now: FloatArray, count: int, conf: float) -> int:
    """Close the gaps that boxes below `conf` leave; how many are left."""
    left = 0
    for k in range(count):
        if now[k] >= conf:
            rows[left], now[left] = rows[k], now[k]
            for side in range(len(columns)):
                columns[side, ..., left] = columns[side, ..., k]
            left += 1
    return left


@njit(cache=True)
def _factor(iou: float, iou_threshold: float, sigma: float) -> float:
    if iou_threshold < 0.0:
        return math.exp(-iou * iou / sigma)
    return 1.0 - iou if iou > iou_threshold else 1.0


@njit(cache=True)
def overlap(a: FloatArray, i: int, b: FloatArray, j: int) -> float:
    """IoU of row `i` of boxes (N, 4) and row `j` of others, 0 where they do not meet.

    Rows are given by number: taking them out as arrays costs several times the arithmetic.
    """
    width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
    height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    common = width * height
    area_a = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
    area_b = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
    return float(common / (area_a + area_b - common))
