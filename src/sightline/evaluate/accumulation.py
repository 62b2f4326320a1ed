"""AP and AR of any matching: what COCO's reference accumulates, for overlaps that the reference does not know."""

import numpy as np

from sightline.evaluate.coco import IOU_THRESHOLDS, CocoScores, DetectionArrays
from sightline.evaluate.detection_matching import RECALL_POINTS, Matching, match_detections, precision_curve
from sightline.ops.boxes import FloatArray

__all__ = ["accumulate"]


def accumulate(arrays: DetectionArrays, matching: Matching, class_count: int, max_det: int) -> CocoScores:
    """The scores of all objects, whatever their size, at one limit: `stats` are AP, AP50, AP75 and AR.

    `matching` is of the same arrays; its overlaps are used again. Of upright boxes these are the reference's numbers.
    """
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), class_count, 1, 1)
    precision, scores = np.full(shape, np.nan), np.full(shape, np.nan)
    recall = np.full((len(IOU_THRESHOLDS), class_count, 1, 1), np.nan)
    objects = np.bincount(arrays.truth_classes[~arrays.truth_crowd], minlength=class_count)
    order = np.argsort(-arrays.detection_scores, kind="stable")  # ties in the order of the images
    for level, iou in enumerate(IOU_THRESHOLDS):
        at = match_detections(arrays, class_count, max_det, matching, iou)
        counted = order[(at.true | at.false)[order]]
        for c in np.flatnonzero(objects).tolist():
            own = counted[arrays.detection_classes[counted] == c]
            precision[level, :, c, 0, 0], place = precision_curve(at.true[own], int(objects[c]))
            scores[level, :, c, 0, 0] = np.append(arrays.detection_scores[own], 0.0)[place]
            recall[level, c, 0, 0] = at.true[own].sum() / objects[c]
    stats = [_mean(precision), _mean(precision[:1]), _mean(precision[5:6]), _mean(recall)]
    return CocoScores(np.array(stats), precision, recall, scores)


def _mean(values: FloatArray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
