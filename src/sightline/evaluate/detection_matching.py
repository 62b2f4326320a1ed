"""Which detection found which object at one IoU: COCO's greedy matching, and the AP and confusion that follow from it.

The matching goes down the scores, so what a detection matches does not depend on those below it: one matching serves
every confidence threshold.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit
from sightline.evaluate.coco import BoolArray, DetectionArrays, IntArray, overlaps
from sightline.ops.boxes import FloatArray

MATCH_IOU = 0.5
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
_FALSE, _CROWD, _BEYOND = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Matching:
    """For each detection the object it found (index into the ground truth), or what it is instead.

    `true` and `false` are masks (D,) of true and false positives; `on_crowd` overlaps a crowd or ignored region and
    counts as neither; `beyond` exceeds the limit of detections per image and class and is not considered.
    """

    found: IntArray
    iou: FloatArray
    iou_starts: IntArray

    @property
    def true(self) -> BoolArray:
        """True positives (D,)."""
        return np.asarray(self.found >= 0)

    @property
    def false(self) -> BoolArray:
        """False positives (D,)."""
        return np.asarray(self.found == _FALSE)

    @property
    def on_crowd(self) -> BoolArray:
        """Detections of crowd or ignored regions (D,)."""
        return np.asarray(self.found == _CROWD)

    @property
    def beyond(self) -> BoolArray:
        """Detections beyond the limit (D,)."""
        return np.asarray(self.found == _BEYOND)


def match_detections(
    arrays: DetectionArrays,
    class_count: int,
    max_det: int | None = None,
    earlier: Matching | None = None,
    min_iou: float = MATCH_IOU,
) -> Matching:
    """COCO's matching from IoU `min_iou` on, class by class, of all detections or the `max_det` best of each image and
    class. What overlaps is taken from an `earlier` one of the same arrays.
    """
    iou, iou_starts = overlaps(arrays) if earlier is None else (earlier.iou, earlier.iou_starts)
    found = _match(
        arrays.truth_starts,
        arrays.truth_classes,
        arrays.truth_crowd,
        arrays.truth_once,
        arrays.detection_starts,
        arrays.detection_classes,
        iou,
        iou_starts,
        class_count,
        len(arrays.detection_classes) if max_det is None else max_det,
        min_iou,
    )
    return Matching(found, iou, iou_starts)


def average_precision(true: BoolArray, objects: int) -> float:
    """COCO's average precision of one class, 101 points, in 0..1 and 1 at best; NaN for a class without objects.

    `true` (K,) says of its detections, the best score first and equals in the order of their images, which are right;
    those that count neither way are left out.
    """
    return float(precision_curve(true, objects)[0].mean()) if objects else float("nan")


def precision_curve(true: BoolArray, objects: int) -> tuple[FloatArray, IntArray]:
    """Interpolated precision (101,) at `RECALL_POINTS`, 0 where a recall is never reached, and the detection (of the K,
    by descending score) that reaches each, K where none does; `true` as in `average_precision`.
    """
    found = np.cumsum(true)
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    place = np.searchsorted(found / objects, RECALL_POINTS)
    return np.append(precision, 0.0)[place], place


def detection_confusion(arrays: DetectionArrays, matching: Matching, class_count: int, conf: float) -> IntArray:
    """Counts (C + 1, C + 1) at a confidence threshold: row = ground truth, column = detection, last = background.

    The diagonal are the true positives of the matching. Objects and detections left over are then paired across classes
    (IoU at least 0.5, best score first): confusions. The rest is missed (last column) or false (last row). So rows sum
    to the objects of a class, columns to its detections, crowd aside.
    """
    return _confuse(
        arrays.truth_starts,
        arrays.truth_classes,
        arrays.truth_crowd,
        arrays.detection_starts,
        arrays.detection_classes,
        arrays.detection_scores >= conf,
        matching.found,
        matching.iou,
        matching.iou_starts,
        class_count,
    )


@njit(cache=True)
def _match(
    truth_starts: IntArray,
    truth_classes: IntArray,
    truth_crowd: BoolArray,
    truth_once: BoolArray,
    detection_starts: IntArray,
    detection_classes: IntArray,
    iou: FloatArray,
    iou_starts: IntArray,
    class_count: int,
    max_det: int,
    min_iou: float,
) -> IntArray:
    found = np.full(len(detection_classes), _FALSE, dtype=np.int64)
    taken = np.zeros(len(truth_classes), dtype=np.bool_)
    for image in range(len(truth_starts) - 1):
        first, last = truth_starts[image], truth_starts[image + 1]
        seen = np.zeros(class_count, dtype=np.int64)
        for d in range(detection_starts[image], detection_starts[image + 1]):
            class_id = detection_classes[d]
            seen[class_id] += 1
            if seen[class_id] > max_det:
                found[d] = _BEYOND
                continue
            row = iou_starts[image] + (d - detection_starts[image]) * (last - first) - first
            best, aside = _nearest(iou, row, first, last, truth_classes, class_id, taken, truth_crowd, min_iou)
            if best >= 0:
                found[d] = best
                taken[best] = True
            elif aside >= 0:
                found[d] = _CROWD
                taken[aside] = truth_once[aside]
    return found


@njit(cache=True)
def _nearest(
    iou: FloatArray,
    row: int,
    first: int,
    last: int,
    truth_classes: IntArray,
    class_id: int,
    taken: BoolArray,
    truth_crowd: BoolArray,
    min_iou: float,
) -> tuple[int, int]:
    """The free object of the class with the largest IoU from `min_iou` on, or -1; and the same of what counts neither
    way.
    """
    best, best_iou, aside, aside_iou = -1, min_iou, -1, min_iou
    for g in range(first, last):
        if truth_classes[g] != class_id or taken[g] or iou[row + g] < min_iou:
            continue
        if truth_crowd[g]:
            if iou[row + g] >= aside_iou:
                aside, aside_iou = g, iou[row + g]
        elif iou[row + g] >= best_iou:  # the later one of equals, as in the reference
            best, best_iou = g, iou[row + g]
    return best, aside


@njit(cache=True)
def _best(iou: FloatArray, row: int, first: int, allowed: npt.NDArray[np.bool_]) -> int:
    """The allowed object with the largest IoU of at least 0.5, the later one of equals as in the reference, or -1."""
    best, best_iou = -1, MATCH_IOU
    for k in range(len(allowed)):
        if allowed[k] and iou[row + first + k] >= best_iou:
            best, best_iou = first + k, iou[row + first + k]
    return best


@njit(cache=True)
def _confuse(
    truth_starts: IntArray,
    truth_classes: IntArray,
    truth_crowd: BoolArray,
    detection_starts: IntArray,
    detection_classes: IntArray,
    confident: BoolArray,
    found: IntArray,
    iou: FloatArray,
    iou_starts: IntArray,
    class_count: int,
) -> IntArray:
    counts = np.zeros((class_count + 1, class_count + 1), dtype=np.int64)
    free = ~truth_crowd
    for d in range(len(found)):
        if confident[d] and found[d] >= 0:
            counts[detection_classes[d], detection_classes[d]] += 1
            free[found[d]] = False
    for image in range(len(truth_starts) - 1):
        first, last = truth_starts[image], truth_starts[image + 1]
        for d in range(detection_starts[image], detection_starts[image + 1]):
            if not confident[d] or found[d] != _FALSE:
                continue
            row = iou_starts[image] + (d - detection_starts[image]) * (last - first) - first
            best = _best(iou, row, first, free[first:last])
            counts[truth_classes[best] if best >= 0 else class_count, detection_classes[d]] += 1
            if best >= 0:
                free[best] = False
        for g in range(first, last):
            if free[g]:
                counts[truth_classes[g], class_count] += 1
    return counts
