"""Weighted boxes fusion: what several models found of one object becomes one box, their mean weighted by score.

Source: Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object detection
models".
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from sightline.core.errors import DataError
from sightline.core.kernels import njit
from sightline.ops.boxes import FloatArray
from sightline.ops.suppression import IntArray, checked_boxes, overlap

__all__ = ["FusedBoxes", "fuse_boxes"]


class FusedBoxes(NamedTuple):
    """Boxes by descending score; of equal scores the one whose best box came first."""

    boxes_xyxy: FloatArray  # (K, 4)
    scores: NDArray[np.float64]  # (K,)
    class_ids: IntArray  # (K,)
    best: IntArray  # (K,) the row of the best box that went into each, of equal ones the first


def fuse_boxes(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    *,
    weights: npt.ArrayLike,
    models: npt.ArrayLike,
    iou_threshold: float = 0.55,
) -> FusedBoxes:
    """Fuse the boxes (N, 4) that `models` (N,), numbered from 0, found in one image; `weights` (M,) has one for each.

    By descending score a box joins the fused box of its class it overlaps most, where the IoU is above the threshold,
    else it begins one. A fused box is the mean of its members weighted by their scores; its score is their mean, less
    where fewer boxes than models were found: an object that one of two models saw keeps half. Raises DataError where
    lengths differ, a score is no number, a weight is not above 0 or a model has none.
    """
    boxes, score_array, classes = checked_boxes(boxes_xyxy, scores, class_ids)
    weight_array = np.asarray(weights, dtype=np.float64).reshape(-1)
    model_array = np.asarray(models, dtype=np.int64).reshape(-1)
    if len(model_array) != len(boxes):
        raise DataError(f"models must have one entry per box, got {len(model_array)} for {len(boxes)}")
    if not len(weight_array) or not (np.isfinite(weight_array) & (weight_array > 0)).all():
        raise DataError(f"weights must be numbers above 0, one for each model, got {weight_array.tolist()}")
    if len(boxes) and not 0 <= model_array.min() <= model_array.max() < len(weight_array):
        raise DataError(f"models must be 0..{len(weight_array) - 1}, got up to {model_array.max()}")
    weighted = score_array * weight_array[model_array]
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (weighted > 0)
    order = np.argsort(-weighted, kind="stable")
    order = order[solid[order]]
    _, slots = np.unique(classes[order], return_inverse=True)
    fused, sums, counts, firsts = _fuse(boxes[order], weighted[order], slots.astype(np.int64), float(iou_threshold))
    seen = np.minimum(counts, len(weight_array))
    means = sums / np.maximum(counts, 1) * seen / weight_array.sum()
    best = np.argsort(-means, kind="stable")
    rows = order[firsts[best]]
    return FusedBoxes(fused[best], means[best], classes[rows], rows)


@njit(cache=True)
def _fuse(
    boxes: FloatArray, scores: FloatArray, slots: IntArray, iou_threshold: float
) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Fused boxes, sums of scores, numbers of members, and the first member of each."""
    fused, sums = np.empty((len(boxes), 4)), np.zeros(len(boxes))
    weighted = np.zeros((len(boxes), 4))  # sums of box times score
    counts, firsts = np.zeros(len(boxes), dtype=np.int64), np.empty(len(boxes), dtype=np.int64)
    # The fused boxes of each class form a linked list, newest first; of equal overlaps the oldest takes the box.
    newest, older = np.full(len(boxes), -1, dtype=np.int64), np.empty(len(boxes), dtype=np.int64)
    count = 0
    for i in range(len(boxes)):
        best, best_iou = count, iou_threshold
        k = newest[slots[i]]
        while k >= 0:
            iou = overlap(fused, k, boxes, i)
            if iou > iou_threshold and iou >= best_iou:
                best, best_iou = k, iou
            k = older[k]
        if best == count:
            firsts[count], older[count], newest[slots[i]] = i, newest[slots[i]], count
            count += 1
        sums[best] += scores[i]
        counts[best] += 1
        for side in range(4):
            weighted[best, side] += scores[i] * boxes[i, side]
            fused[best, side] = weighted[best, side] / sums[best]
    return fused[:count], sums[:count], counts[:count], firsts[:count]
