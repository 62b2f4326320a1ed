"""How far a number might lie elsewhere on other images of the same kind: the percentile bootstrap.

Images are drawn with replacement, never boxes: objects of one image stand and fall together, and so do the images of
one group (a video, a patient), which are drawn together. Source: Efron and Tibshirani 1993, chapter 13.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.kernels import njit
from sightline.evaluate.coco import IOU_THRESHOLDS, DetectionArrays, IntArray
from sightline.evaluate.detection_matching import RECALL_POINTS, Matching, match_detections
from sightline.ops.boxes import FloatArray

__all__ = ["RESAMPLES", "Intervals", "Measure", "detection_measure", "intervals_of", "metric_frame"]

Intervals: TypeAlias = dict[str, tuple[float, float]]
"""By metric the lower and upper end of its 95 % interval."""
Measure: TypeAlias = Callable[[IntArray], Mapping[str, float]]
"""Metrics of a data set in which image `i`, in the order of the ids, occurs as often as the weights (I,) say."""

RESAMPLES = 1000
"""The ends of a 95 % interval are then the 25th value from either side: steady to about a tenth of its width."""
LEAST_UNITS = 10
"""Of fewer images (or groups) too few different draws can be made for the ends to mean anything."""
_ENDS = (2.5, 97.5)


def intervals_of(dataset: Dataset, resamples: int, build: Callable[[], Measure]) -> tuple[Intervals, dict[str, Any]]:
    """The intervals of what the measure built gives, and what the conventions say of them; nothing without `resamples`.

    A draw in which a metric is not defined does not count for it.
    """
    if not resamples:
        return {}, {}
    units = _units(dataset)
    count, kind = int(units.max(initial=-1)) + 1, "images" if dataset.images["group"].null_count() else "groups"
    if count < LEAST_UNITS:
        return {}, {"intervals": f"not measured: at least {LEAST_UNITS} {kind} to draw from are needed, got {count}"}
    measure = build()
    drawn = [measure(weights) for weights in _draws(units, count, resamples)]
    intervals: Intervals = {}
    for metric in drawn[0]:
        values = np.array([one[metric] for one in drawn])
        if not np.isnan(values).all():
            low, high = np.nanpercentile(values, _ENDS)
            # Nothing found, or all of it, in every draw: that says how little the draws can tell, not how sure it is.
            if low < high:
                intervals[metric] = (float(low), float(high))
    if not intervals:
        return {}, {"intervals": "not measured: no draw differs from another"}
    return intervals, {"intervals": f"95 %, percentile bootstrap of {count} {kind}, {resamples} draws, seed 0"}


def metric_frame(values: Mapping[str, float], intervals: Intervals) -> pl.DataFrame:
    """`metric`, `value` and, where there are intervals, their ends `low` and `high`."""
    columns = {"metric": list(values), "value": list(values.values())}
    frame = pl.DataFrame(columns, schema_overrides={"value": pl.Float64})
    if not intervals:
        return frame
    ends = [intervals.get(metric, (None, None)) for metric in values]
    ends_schema = {"low": pl.Float64, "high": pl.Float64}
    return frame.hstack(pl.DataFrame(ends, schema=ends_schema, orient="row"))


def _units(dataset: Dataset) -> IntArray:
    """For each image, in the order of the ids, what it is drawn with: its group, or itself where it has none."""
    images = dataset.images.select("image_id", "group").sort("image_id")
    names = [f"i{image_id}" if group is None else f"g{group}" for image_id, group in images.iter_rows()]
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _draws(units: IntArray, count: int, resamples: int) -> Iterator[IntArray]:
    """How often each image is there, draw by draw; always the same ones for the same images."""
    random = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.bincount(random.integers(count, size=count), minlength=count)[units]


def detection_measure(
    arrays: DetectionArrays, matching: Matching, class_count: int, max_det: int, conf: float
) -> Measure:
    """AP, AP50, AP75, and precision, recall and F1 at the threshold `conf`, as a function of the images' weights.

    With every image once these are the very numbers of COCO's evaluation and of the operating point. (Where an image
    is drawn again, its own equal scores of a class stay together, which in a file of all copies they would not.)
    `matching` is of all detections, which count at the operating point as they do beside the confusion matrix.
    """
    image = _owners(arrays.detection_starts)
    matchings = (match_detections(arrays, class_count, max_det, matching, iou) for iou in IOU_THRESHOLDS)
    judged = np.stack([_judged(one) for one in matchings])
    order = np.lexsort((-arrays.detection_scores, arrays.detection_classes))  # stable: ties in the order of the images
    starts = np.searchsorted(arrays.detection_classes[order], np.arange(class_count + 1)).astype(np.int64)
    judged, owner = np.ascontiguousarray(judged[:, order]), image[order]
    counted = ~arrays.truth_crowd
    objects_image, objects_class = _owners(arrays.truth_starts)[counted], arrays.truth_classes[counted]
    at_point = _judged(matching)
    chosen = arrays.detection_scores >= conf
    found, false = (np.bincount(image[chosen & (at_point == k)], minlength=len(arrays.sizes_hw)) for k in (1, 0))
    objects = np.bincount(objects_image, minlength=len(arrays.sizes_hw))

    def measure(weights: IntArray) -> dict[str, float]:
        of_class = np.bincount(objects_class, weights[objects_image], class_count).astype(np.float64)
        ap = _weighted_ap(judged, owner, starts, weights, of_class, RECALL_POINTS)
        ap = ap[:, of_class > 0].mean(axis=1) if of_class.any() else np.full(len(ap), np.nan)
        tp, fp, there = (float(part @ weights) for part in (found, false, objects))
        return {
            "AP": float(ap.mean()),
            "AP50": float(ap[0]),
            "AP75": float(ap[5]),
            "precision": tp / (tp + fp) if tp + fp else float("nan"),
            "recall": tp / there if there else float("nan"),
            "f1": 2 * tp / (tp + fp + there) if tp + fp + there else float("nan"),
        }

    return measure


def _owners(starts: IntArray) -> IntArray:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _judged(matching: Matching) -> Any:
    """1 for a true positive, 0 for a false one, -1 for what counts neither way (D,)."""
    return np.where(matching.true, 1, np.where(matching.false, 0, -1)).astype(np.int8)


@njit(cache=True)
def _weighted_ap(
    judged: Any, owner: IntArray, starts: IntArray, weights: IntArray, objects: FloatArray, recall_points: FloatArray
) -> FloatArray:
    """COCO's AP (T, C) where image `i` occurs `weights[i]` times; 0 for a class without objects."""
    levels, classes = len(judged), len(starts) - 1
    found = np.zeros((levels, classes))
    for level in range(levels):
        for c in range(classes):
            first, last = starts[c], starts[c + 1]
            if objects[c] > 0:
                found[level, c] = _class_ap(judged[level], owner, first, last, weights, objects[c], recall_points)
    return found


@njit(cache=True)
def _class_ap(
    judged: Any, owner: IntArray, first: int, last: int, weights: IntArray, objects: float, recall_points: FloatArray
) -> float:
    """AP of the detections `first` to `last`, the best score first.

    Down the scores recall only rises at true positives, so precision is carried upwards from the last detection and
    each recall point takes what has been carried when recall falls below it.
    """
    tp, fp = 0, 0
    for d in range(first, last):
        if judged[d] == 1:
            tp += weights[owner[d]]
        elif judged[d] == 0:
            fp += weights[owner[d]]
    if tp == 0:
        return 0.0
    point = len(recall_points) - 1
    while point > 0 and recall_points[point] > tp / objects:
        point -= 1
    best, total = 0.0, 0.0
    for d in range(last - 1, first - 1, -1):
        weight = weights[owner[d]]
        if judged[d] < 0 or weight == 0:
            continue
        best = max(best, tp / (tp + fp))
        if judged[d] == 0:
            fp -= weight
            continue
        tp -= weight
        while point > 0 and recall_points[point] > tp / objects:
            total += best
            point -= 1
    return (total + best) / len(recall_points)
