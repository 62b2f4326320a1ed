"""Labels and predictions side by side, image by image: which predictions speak against which labels."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions

__all__ = ["BADLY_LOCATED", "OVERLOOKED", "SWAPPED", "Suspicions", "find_suspicions"]

OVERLOOKED, BADLY_LOCATED, SWAPPED = 0, 1, 2
SAME_IOU = 0.5  # a prediction of the label's class that confirms it
WELL_IOU = 0.7  # from here on the two agree about the place
NEAR_IOU = 0.1  # below, the prediction is about something else

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Suspicions:
    """Parallel arrays (K,): kind, row in `labels` (-1 for an overlooked object), row in `predictions`, IoU, suspicion.

    `labels` and `predictions` are the tables of the data set and the predictions, sorted by image.
    """

    kind: Ints
    label: Ints
    prediction: Ints
    iou: Floats
    suspicion: Floats
    labels: pl.DataFrame
    predictions: pl.DataFrame


def find_suspicions(dataset: Dataset, predictions: Predictions) -> Suspicions:
    """Every prediction that speaks against the labels, with a suspicion in 0..1: see `rank_label_errors`."""
    images = dataset.images.select("image_id").with_row_index("image").with_columns(pl.col("image").cast(pl.Int64))
    labels = dataset.objects.join(images, on="image_id").sort("image", "object_id")
    found = predictions.table.join(images, on="image_id").sort("image", "score", descending=[False, True])
    starts = [np.searchsorted(t["image"].to_numpy(), np.arange(images.height + 1)) for t in (labels, found)]
    label_boxes, boxes = (np.ascontiguousarray(t.select("x1", "y1", "x2", "y2").to_numpy()) for t in (labels, found))
    label_classes, classes = (t["class_id"].cast(pl.Int64).to_numpy() for t in (labels, found))
    ignored = (labels["crowd"] | labels["ignore"]).to_numpy()
    sides = (starts[0], label_boxes, label_classes, ignored, starts[1], boxes, classes)
    confirmed, beside = _confirm(*sides)
    kind, label, prediction, iou, suspicion = _suspect(*sides, confirmed, beside, found["score"].clip(0, 1).to_numpy())
    return Suspicions(kind, label, prediction, iou, suspicion, labels, found)


@njit(cache=True)
def _overlap(a: Floats, b: Floats, of_first: bool) -> float:
    """IoU of two boxes; the share of the first inside the second where `of_first`."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common, area = width * height, (a[2] - a[0]) * (a[3] - a[1])
    return float(common / (area if of_first else area + (b[2] - b[0]) * (b[3] - b[1]) - common))


@njit(cache=True)
def _confirm(
    label_starts: Ints,
    label_boxes: Floats,
    label_classes: Ints,
    ignored: Bools,
    starts: Ints,
    boxes: Floats,
    classes: Ints,
) -> tuple[Ints, Bools]:
    """For each prediction the label of its class it finds (IoU of 0.5, best score first) or -1; and whether it is
    about nothing that counts: half inside a crowd or ignored object, or about what a better prediction is about."""
    confirmed, beside = np.full(len(boxes), -1, dtype=np.int64), np.zeros(len(boxes), dtype=np.bool_)
    free = ~ignored
    for image in range(len(starts) - 1):
        low, high = label_starts[image], label_starts[image + 1]
        for p in range(starts[image], starts[image + 1]):
            allowed = free[low:high] & (label_classes[low:high] == classes[p])
            best = _best(boxes[p], label_boxes[low:high], allowed, False)
            if best >= 0:
                confirmed[p], free[low + best] = low + best, False
                continue
            first = starts[image]
            inside = _best(boxes[p], label_boxes[low:high], ignored[low:high], True) >= 0
            beside[p] = inside or _best(boxes[p], boxes[first:p], ~beside[first:p], False) >= 0
    return confirmed, beside


@njit(cache=True)
def _best(box: Floats, others: Floats, allowed: Bools, of_first: bool) -> int:
    """The allowed box with the largest overlap of at least `SAME_IOU`, or -1."""
    best, largest = -1, SAME_IOU
    for k in range(len(others)):
        if allowed[k]:
            overlap = _overlap(box, others[k], of_first)
            if overlap >= largest:
                best, largest = k, overlap
    return best


@njit(cache=True)
def _suspect(
    label_starts: Ints,
    label_boxes: Floats,
    label_classes: Ints,
    ignored: Bools,
    starts: Ints,
    boxes: Floats,
    classes: Ints,
    confirmed: Ints,
    beside: Bools,
    scores: Floats,
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    size = len(boxes) + len(label_boxes)
    kind, label, prediction = np.empty(size, np.int64), np.full(size, -1, np.int64), np.empty(size, np.int64)
    ious, suspicion = np.zeros(size), np.empty(size)
    count = 0
    used = beside | (confirmed >= 0)
    for image in range(len(starts) - 1):
        first, last = starts[image], starts[image + 1]
        for g in range(label_starts[image], label_starts[image + 1]):
            if ignored[g]:
                continue
            part = slice(first, last)
            found, p, iou, doubt = _doubt(
                label_boxes[g], label_classes[g], g, boxes[part], classes[part], confirmed[part], scores[part]
            )
            if p >= 0:
                used[first + p] = True
            if doubt > 0:
                kind[count], label[count], prediction[count] = found, g, first + p
                ious[count], suspicion[count] = iou, doubt
                count += 1
        for p in range(first, last):
            if used[p]:
                continue
            for g in range(label_starts[image], label_starts[image + 1]):
                ious[count] = max(ious[count], _overlap(boxes[p], label_boxes[g], ignored[g]))
            kind[count], prediction[count], suspicion[count] = OVERLOOKED, p, scores[p] * (1.0 - ious[count])
            count += 1
    return kind[:count], label[:count], prediction[:count], ious[:count], suspicion[:count]


@njit(cache=True)
def _doubt(
    box: Floats, class_id: int, g: int, boxes: Floats, classes: Ints, confirmed: Ints, scores: Floats
) -> tuple[int, int, float, float]:
    """What the predictions of its image say against label `g`: kind, prediction (or -1), IoU, suspicion (or 0)."""
    same, same_iou, same_score = -1, NEAR_IOU, 0.0
    other, other_iou, other_score = -1, 0.0, 0.0
    for p in range(len(boxes)):
        iou = _overlap(boxes[p], box, False)
        if classes[p] == class_id:
            same_score = max(same_score, scores[p]) if iou >= SAME_IOU else same_score
            if iou >= same_iou and (confirmed[p] < 0 or confirmed[p] == g):
                same, same_iou = p, iou
        elif iou >= SAME_IOU and confirmed[p] < 0 and scores[p] > other_score:
            other, other_iou, other_score = p, iou, scores[p]
    swapped = other_score * other_iou * (1.0 - same_score)
    misplaced = scores[same] * (1.0 - same_iou) if same >= 0 and same_iou < WELL_IOU else 0.0
    if swapped > misplaced:
        return SWAPPED, other, other_iou, swapped
    return BADLY_LOCATED, same, same_iou, misplaced
