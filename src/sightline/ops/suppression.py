"""Which of many overlapping boxes are one object: greedy, by centre distance, or by decaying scores.

Every way depends on nothing but its input, never on the clock, and needs memory linear in the boxes. Sources: Bodla et
al. 2017 (Soft-NMS), Zheng et al. 2020 (DIoU-NMS).
"""

import math

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from sightline.core.errors import DataError
from sightline.core.kernels import njit
from sightline.core.metadata import OperatingPoint
from sightline.ops.boxes import FloatArray, as_boxes

__all__ = ["nms", "soft_nms", "suppress"]

IntArray = npt.NDArray[np.int64]


def suppress(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, class_ids: npt.ArrayLike, point: OperatingPoint
) -> tuple[IntArray, NDArray[np.float64]]:
    """Indices (K,) of the boxes that stay, by descending score, and their scores, as `point.suppression` decides.

    `none` keeps the best `max_det` as they are, for networks that give each object once. Only Soft-NMS changes scores.
    Raises DataError as `nms` does.
    """
    boxes, score_array, classes = _checked(boxes_xyxy, scores, class_ids)
    method = point.suppression
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
    over that of the corners of the box around both. The search stops at `max_det` survivors over all classes. Raises
    DataError where lengths differ or a score is not a number.
    """
    boxes, score_array, classes = _checked(boxes_xyxy, scores, class_ids)
    if len(boxes) == 0 or max_det <= 0:
        return np.zeros(0, dtype=np.int64)
    _, slots = np.unique(classes, return_inverse=True)
    order = np.argsort(-score_array, kind="stable")
    slots = slots.astype(np.int64)[order]
    return _greedy(boxes[order], slots, order, float(iou_threshold), int(max_det), by_centre)


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
    boxes, score_array, classes = _checked(boxes_xyxy, scores, class_ids)
    order = np.lexsort((-score_array, classes))
    edges = np.concatenate([[0], np.flatnonzero(np.diff(classes[order])) + 1, [len(order)]]).astype(np.int64)
    threshold = -1.0 if iou_threshold is None else float(iou_threshold)
    decayed = _decay(boxes[order], score_array[order], edges, threshold, float(sigma), float(conf))
    stays = np.flatnonzero(decayed >= conf)
    best = stays[np.lexsort((order[stays], -decayed[stays]))][:max_det]
    return order[best], decayed[best]


def _checked(
    boxes_xyxy: npt.ArrayLike, scores: npt.ArrayLike, class_ids: npt.ArrayLike
) -> tuple[FloatArray, NDArray[np.float64], IntArray]:
    boxes = as_boxes(boxes_xyxy)
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


@njit(cache=True)
def _greedy(
    boxes: FloatArray, slots: IntArray, order: IntArray, iou_threshold: float, max_det: int, by_centre: bool
) -> IntArray:
    # The survivors of each class form a linked list, newest first: a candidate meets survivors of its own class only.
    newest = np.full(slots.max() + 1, -1, dtype=np.int64)
    older = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    kept = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    count = 0
    for i in range(len(boxes)):
        if count == len(kept):
            break
        k = newest[slots[i]]
        while k >= 0 and not _overlaps(boxes[i], boxes[kept[k]], iou_threshold, by_centre):
            k = older[k]
        if k < 0:
            kept[count] = i
            older[count] = newest[slots[i]]
            newest[slots[i]] = count
            count += 1
    return order[kept[:count]]


@njit(cache=True)
def _overlaps(a: FloatArray, b: FloatArray, iou_threshold: float, by_centre: bool) -> bool:
    iou = _iou(a, b)
    if by_centre and iou > iou_threshold:  # DIoU is never above IoU
        across = max(a[2], b[2]) - min(a[0], b[0])
        down = max(a[3], b[3]) - min(a[1], b[1])
        x = 0.5 * ((a[0] + a[2]) - (b[0] + b[2]))
        y = 0.5 * ((a[1] + a[3]) - (b[1] + b[3]))
        iou -= (x * x + y * y) / (across * across + down * down)
    return bool(iou > iou_threshold)


@njit(cache=True)
def _iou(a: FloatArray, b: FloatArray) -> float:
    """0 for boxes that do not meet, and so below every threshold."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    common = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return float(common / (area_a + area_b - common))


@njit(cache=True)
def _decay(
    boxes: FloatArray, scores: FloatArray, edges: IntArray, iou_threshold: float, sigma: float, conf: float
) -> FloatArray:
    """Final scores of boxes sorted by class, class by class."""
    scores = scores.copy()
    for e in range(len(edges) - 1):
        first, last = edges[e], edges[e + 1]
        _decay_class(boxes[first:last], scores[first:last], iou_threshold, sigma, conf)
    return scores


@njit(cache=True)
def _decay_class(boxes: FloatArray, scores: FloatArray, iou_threshold: float, sigma: float, conf: float) -> None:
    """Lower `scores` in place; a box below `conf` is out of it, and decays nobody."""
    waiting = np.flatnonzero(scores >= conf)
    count = len(waiting)
    while count > 0:
        best = np.argmax(scores[waiting[:count]])
        taken = waiting[best]
        left = 0
        for k in range(count):
            i = waiting[k]
            if i == taken:
                continue
            scores[i] *= _factor(_iou(boxes[taken], boxes[i]), iou_threshold, sigma)
            waiting[left] = i
            left += scores[i] >= conf
        count = left


@njit(cache=True)
def _factor(iou: float, iou_threshold: float, sigma: float) -> float:
    if iou_threshold < 0.0:
        return math.exp(-iou * iou / sigma)
    return 1.0 - iou if iou > iou_threshold else 1.0
