"""Non-maximum suppression: exact, greedy, by class, with no time limit."""

import numpy as np
import numpy.typing as npt
from numba import njit

from sightline.core.errors import DataError
from sightline.ops.boxes import FloatArray, as_boxes

IntArray = npt.NDArray[np.int64]


def nms(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    iou_threshold: float,
    max_det: int,
) -> IntArray:
    """Indices (K,) of the boxes that survive, by descending score; equal scores keep their input order.

    A box is suppressed when a better-scored, surviving box of its own class overlaps it with an IoU above
    `iou_threshold` (equal survives). The search stops at `max_det` survivors over all classes, never by the clock.
    Raises DataError where lengths differ or a score is not a number.
    """
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
    if len(boxes) == 0 or max_det <= 0:
        return np.zeros(0, dtype=np.int64)
    _, slots = np.unique(class_array, return_inverse=True)
    order = np.argsort(-score_array, kind="stable")
    return _greedy(boxes[order], slots.astype(np.int64)[order], order, float(iou_threshold), int(max_det))


@njit(cache=True)
def _greedy(boxes: FloatArray, slots: IntArray, order: IntArray, iou_threshold: float, max_det: int) -> IntArray:
    # The survivors of each class form a linked list, newest first: a candidate meets survivors of its own class only.
    newest = np.full(slots.max() + 1, -1, dtype=np.int64)
    older = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    kept = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    count = 0
    for i in range(len(boxes)):
        if count == len(kept):
            break
        k = newest[slots[i]]
        while k >= 0 and not _overlaps(boxes[i], boxes[kept[k]], iou_threshold):
            k = older[k]
        if k < 0:
            kept[count] = i
            older[count] = newest[slots[i]]
            newest[slots[i]] = count
            count += 1
    return order[kept[:count]]


@njit(cache=True)
def _overlaps(a: FloatArray, b: FloatArray, iou_threshold: float) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return False
    common = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return bool(common / (area_a + area_b - common) > iou_threshold)
