"""The confidence at which small, medium and large boxes are best taken, each by itself."""

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions
from sightline.evaluate.coco import AREA_RANGES, IouType, detection_arrays
from sightline.evaluate.detection_matching import match_detections
from sightline.evaluate.inputs import fit_predictions

__all__ = ["SIZES", "best_conf_by_size"]

SIZES = ("small", "medium", "large")


def best_conf_by_size(
    dataset: Dataset, predictions: Predictions, iou_type: IouType = "bbox"
) -> dict[str, float | None]:
    """For each of COCO's sizes the score with the best F1 among the boxes of that size; None where nothing is right.

    Detections count by the area of their box, objects by theirs, in image pixels; matched at IoU 0.5 of boxes or, with
    `iou_type` segm, of masks, whatever their sizes.
    """
    arrays = detection_arrays(dataset, fit_predictions(dataset, predictions), iou_type)
    matching = match_detections(arrays, len(dataset.class_names))
    areas = np.prod(arrays.detection_boxes_xyxy[:, 2:] - arrays.detection_boxes_xyxy[:, :2], axis=1)
    counted = matching.true | matching.false
    best: dict[str, float | None] = {}
    for size in SIZES:
        low, high = AREA_RANGES[size]
        inside = counted & (areas >= low) & (areas < high)
        objects = int(((arrays.truth_areas >= low) & (arrays.truth_areas < high) & ~arrays.truth_crowd).sum())
        order = np.argsort(-arrays.detection_scores[inside], kind="stable")
        scores, true = arrays.detection_scores[inside][order], matching.true[inside][order]
        f1 = 2 * np.cumsum(true) / np.maximum(np.arange(1, len(true) + 1) + objects, 1)
        ends = np.append(np.diff(scores) < 0, True)[: len(scores)]  # a threshold takes all detections of its score
        best[size] = float(scores[np.argmax(np.where(ends, f1, -1))]) if true.any() else None
    return best
