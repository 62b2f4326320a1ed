"""Signs that predictions are not what they were read as: ids shifted by one, corners for sizes, fractions for pixels.

Each sign is tried as a hypothesis: the predictions are changed as it says, and only where far more of them then lie on
an object is anything said, with both shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sightline.evaluate.coco import DetectionArrays, IntArray
from sightline.evaluate.detection_matching import MATCH_IOU, average_precision, match_detections
from sightline.ops.boxes import FloatArray, grouped_iou

__all__ = ["suspicions"]

LEAST_OBJECTS = 5
"""With fewer objects chance alone makes any hypothesis look good."""
CLEARLY_BETTER = 0.3
"""Share of objects that a hypothesis must find beyond what is found as it is: half of that is seen between good models
and their neighbours in time, none of the mistakes looked for gains less than twice as much."""
WELL_FOUND = 0.5
"""Where half of the objects are found as it is, the places are right and no hypothesis about them is tried."""
MOST_FOR_AN_OBJECT, MOST_BESIDE = 3, 5
"""How many of an image's surest detections are looked at: of hundreds, as a model that hardly learnt gives, some lie
on any object, whatever they are taken for."""


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """What the detections may really be: boxes (D, 4) read so, and where each image begins among them."""

    sentence: str
    boxes_xyxy: FloatArray
    starts: IntArray


def suspicions(arrays: DetectionArrays, class_names: tuple[str, ...], max_det: int) -> list[str]:
    """Sentences about what these predictions seem to be in truth; empty where nothing points elsewhere."""
    said = []
    scores = arrays.detection_scores
    if len(scores) and scores.max() > 1:
        said.append(f"scores must be in 0..1, got up to {scores.max():g}: AP only ranks them, thresholds mean nothing")
    if int((~arrays.truth_crowd).sum()) < LEAST_OBJECTS or not len(scores):
        return said
    shifted = _shifted_classes(arrays, class_names, max_det)
    if shifted is not None:
        return [*said, shifted]
    arrays = _surest(arrays)
    as_it_is = _found_share(arrays, arrays.detection_boxes_xyxy, arrays.detection_starts)
    if as_it_is >= WELL_FOUND:
        return said
    for hypothesis in (*_other_boxes(arrays), *_other_images(arrays)):
        share = _found_share(arrays, hypothesis.boxes_xyxy, hypothesis.starts)
        if share >= as_it_is + CLEARLY_BETTER:
            sentence = f"{hypothesis.sentence}: {share:.0%} of the objects are found then, {as_it_is:.0%} as it is"
            return [*said, sentence]
    return said


def _surest(arrays: DetectionArrays) -> DetectionArrays:
    """The same with the surest detections of each image alone."""
    starts = arrays.detection_starts
    most = MOST_FOR_AN_OBJECT * np.diff(arrays.truth_starts) + MOST_BESIDE
    counts = np.minimum(np.diff(starts), most)
    rank = np.arange(len(arrays.detection_scores)) - np.repeat(starts[:-1], np.diff(starts))
    kept = rank < np.repeat(counts, np.diff(starts))  # they go by descending score
    return replace(
        arrays,
        detection_starts=np.concatenate([starts[:1], counts]).cumsum(),
        detection_boxes_xyxy=arrays.detection_boxes_xyxy[kept],
        detection_scores=arrays.detection_scores[kept],
        detection_classes=arrays.detection_classes[kept],
    )


def _shifted_classes(arrays: DetectionArrays, class_names: tuple[str, ...], max_det: int) -> str | None:
    """Whether class ids are one too high or too low: AP50 as it is against AP50 with all ids moved."""
    count = len(class_names)
    as_it_is = _mean_ap50(arrays, count, max_det)
    if as_it_is >= WELL_FOUND:
        return None
    for step, how in ((-1, "one too high"), (1, "one too low")):
        moved = arrays.detection_classes + step
        if moved.min() < 0 or moved.max() >= count:
            continue
        ap50 = _mean_ap50(replace(arrays, detection_classes=moved), count, max_det)
        if ap50 >= as_it_is + CLEARLY_BETTER:
            return (
                f"class ids look {how}: nearly all of the confusion lies one off the diagonal, "
                f"and moving them by {step:+d} gives AP50 {ap50:.3f} in place of {as_it_is:.3f}"
            )
    return None


def _mean_ap50(arrays: DetectionArrays, count: int, max_det: int) -> float:
    matching = match_detections(arrays, count, max_det)
    counted = np.flatnonzero(matching.true | matching.false)
    order = counted[np.argsort(-arrays.detection_scores[counted], kind="stable")]
    objects = np.bincount(arrays.truth_classes[~arrays.truth_crowd], minlength=count)
    of_class = [order[arrays.detection_classes[order] == c] for c in range(count)]
    found = [average_precision(matching.true[of_class[c]], int(objects[c])) for c in np.flatnonzero(objects)]
    return float(np.mean(found)) if found else 0.0


def _other_boxes(arrays: DetectionArrays) -> Iterator[_Hypothesis]:
    """Boxes that were corners where sizes were read, sizes where corners were, centred, or fractions of the image."""
    boxes, starts = arrays.detection_boxes_xyxy, arrays.detection_starts
    x1, y1, x2, y2 = boxes.T
    corners = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
    yield _Hypothesis("boxes look like corners (x1, y1, x2, y2) where x, y, width, height were read", corners, starts)
    sizes = np.stack([x1, y1, x1 + x2, y1 + y2], axis=1)
    yield _Hypothesis("boxes look like x, y, width, height where corners were read", sizes, starts)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    centred = boxes - np.concatenate([half, half], axis=1)
    yield _Hypothesis("boxes look centred on the point that was read as their corner", centred, starts)
    if np.abs(boxes).max() <= 2:  # fractions of the image, and a size added to a corner, stay below 2
        image = np.repeat(np.arange(len(arrays.sizes_hw)), np.diff(starts))
        scale = np.array([(w, h, w, h) for h, w in arrays.sizes_hw], dtype=np.float64)[image]
        for fractions in (boxes, corners):
            sentence = "boxes look like fractions of the image where pixels were read"
            yield _Hypothesis(sentence, fractions * scale, starts)


def _other_images(arrays: DetectionArrays) -> Iterator[_Hypothesis]:
    """Detections that belong to the image after or before the one they are filed under, in the order of the ids."""
    boxes, starts = arrays.detection_boxes_xyxy, arrays.detection_starts
    sentence = "detections look filed under the image {} theirs (ids counted from another number)"
    yield _Hypothesis(sentence.format("before"), boxes[: starts[-2]], np.concatenate([starts[:1], starts[:-1]]))
    behind = np.concatenate([starts[1:], starts[-1:]]) - starts[1]
    yield _Hypothesis(sentence.format("after"), boxes[starts[1] :], behind)


def _found_share(arrays: DetectionArrays, boxes_xyxy: FloatArray, starts: IntArray) -> float:
    """Share of objects, crowd aside, that any detection of their image overlaps by `MATCH_IOU`, whatever its class."""
    truth = arrays.truth_boxes_xyxy, arrays.truth_starts, arrays.truth_crowd
    overlap = grouped_iou(boxes_xyxy, starts, *truth)
    found = np.zeros(len(arrays.truth_boxes_xyxy), dtype=np.bool_)
    place = 0
    for i, first in enumerate(arrays.truth_starts[:-1]):
        detections, objects = starts[i + 1] - starts[i], arrays.truth_starts[i + 1] - first
        block = overlap[place : place + detections * objects].reshape(detections, objects)
        found[first : first + objects] = (block >= MATCH_IOU).any(axis=0)
        place += detections * objects
    return float(found[~arrays.truth_crowd].mean())
