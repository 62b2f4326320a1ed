"""Labels and predictions side by side, image by image: which predictions speak against which labels."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions
from sightline.evaluate import MATCH_IOU, detection_arrays, match_detections
from sightline.ops.boxes import iou_matrix

__all__ = ["BADLY_LOCATED", "NEAR_IOU", "OVERLOOKED", "SWAPPED", "WELL_IOU", "Suspicions", "find_suspicions"]

OVERLOOKED, BADLY_LOCATED, SWAPPED = 0, 1, 2
WELL_IOU = 0.7  # from here on the two agree about the place
NEAR_IOU = 0.1  # below, the prediction is about something else

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Suspicions:
    """Parallel arrays (K,): kind, label (-1: an overlooked object), prediction, IoU, suspicion.

    Labels and predictions are given by their rows in the data set's `objects` and the predictions' `table`.
    """

    kind: Ints
    label: Ints
    prediction: Ints
    iou: Floats
    suspicion: Floats


def find_suspicions(dataset: Dataset, predictions: Predictions) -> Suspicions:
    """Every prediction that speaks against the labels, with a suspicion in 0..1: see `rank_label_errors`.

    A prediction confirms the label it is matched with in evaluation. Others that are half inside a crowd or ignored
    object, or about what a better prediction is about, say nothing.
    """
    arrays = detection_arrays(dataset, predictions, "bbox")
    matching = match_detections(arrays, len(dataset.class_names), len(predictions))
    scores = arrays.detection_scores.clip(0, 1)
    parts = []
    for image in range(len(arrays.sizes_hw)):
        g = slice(arrays.truth_starts[image], arrays.truth_starts[image + 1])
        d = slice(arrays.detection_starts[image], arrays.detection_starts[image + 1])
        if d.start == d.stop:
            continue
        boxes, ignored = arrays.detection_boxes_xyxy[d], arrays.truth_crowd[g]
        overlap = matching.iou[matching.iou_starts[image] : matching.iou_starts[image + 1]].reshape(len(boxes), -1)
        confirmed = np.where(matching.true[d], matching.found[d] - g.start, -1)
        # Against a crowd or ignored object the overlap is the share of the prediction that is inside.
        beside = (confirmed < 0) & (overlap[:, ignored] >= MATCH_IOU).any(axis=1)
        _set_repeats_aside(iou_matrix(boxes, boxes), confirmed, beside)
        sides = (overlap, arrays.truth_classes[g], ignored, arrays.detection_classes[d])
        kind, label, prediction, iou, suspicion = _suspect(*sides, confirmed, beside, scores[d])
        labels = np.where(label < 0, -1, arrays.truth_rows[g.start + label] if len(ignored) else -1)
        parts.append((kind, labels, arrays.detection_rows[d.start + prediction], iou, suspicion))
    if not parts:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return Suspicions(none, none, none, nothing, nothing)
    return Suspicions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@njit(cache=True)
def _set_repeats_aside(iou: Floats, confirmed: Ints, beside: Bools) -> None:
    """Mark in `beside` the unconfirmed predictions that overlap a better one which is not itself set aside."""
    for p in range(len(confirmed)):
        if confirmed[p] >= 0:
            continue
        for q in range(p):
            beside[p] |= not beside[q] and iou[p, q] >= MATCH_IOU


@njit(cache=True)
def _suspect(
    overlap: Floats, label_classes: Ints, ignored: Bools, classes: Ints, confirmed: Ints, beside: Bools, scores: Floats
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    """Of one image: kind, label (or -1), prediction, IoU and suspicion; `overlap` is (predictions, labels)."""
    size = len(classes) + len(label_classes)
    kind, label, prediction = np.empty(size, np.int64), np.full(size, -1, np.int64), np.empty(size, np.int64)
    ious, suspicion = np.zeros(size), np.empty(size)
    count = 0
    used = beside | (confirmed >= 0)
    for g in range(len(label_classes)):
        if ignored[g]:
            continue
        found, p, iou, doubt = _doubt(overlap[:, g], label_classes[g], g, classes, confirmed, scores)
        if p >= 0:
            used[p] = True
        if doubt > 0:
            kind[count], label[count], prediction[count] = found, g, p
            ious[count], suspicion[count] = iou, doubt
            count += 1
    for p in range(len(classes)):
        if not used[p]:
            ious[count] = overlap[p].max() if len(label_classes) else 0.0
            kind[count], prediction[count], suspicion[count] = OVERLOOKED, p, scores[p] * (1.0 - ious[count])
            count += 1
    return kind[:count], label[:count], prediction[:count], ious[:count], suspicion[:count]


@njit(cache=True)
def _doubt(
    ious: Floats, class_id: int, g: int, classes: Ints, confirmed: Ints, scores: Floats
) -> tuple[int, int, float, float]:
    """What the predictions of its image say against label `g`: kind, prediction (or -1), IoU, suspicion (or 0)."""
    same, same_iou, same_score = -1, NEAR_IOU, 0.0
    other, other_iou, other_score = -1, 0.0, 0.0
    for p in range(len(ious)):
        iou = ious[p]
        if classes[p] == class_id:
            same_score = max(same_score, scores[p]) if iou >= MATCH_IOU else same_score
            if iou >= same_iou and (confirmed[p] < 0 or confirmed[p] == g):
                same, same_iou = p, iou
        elif iou >= MATCH_IOU and confirmed[p] < 0 and scores[p] > other_score:
            other, other_iou, other_score = p, iou, scores[p]
    swapped = other_score * other_iou * (1.0 - same_score)
    misplaced = scores[same] * (1.0 - same_iou) if same >= 0 and same_iou < WELL_IOU else 0.0
    if swapped > misplaced:
        return SWAPPED, other, other_iou, swapped
    return BADLY_LOCATED, same, same_iou, misplaced
