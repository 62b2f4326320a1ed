"""Panoptic quality: segments of things and stuff, each pixel of one, as the reference implementation counts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.core.results import Result
from sightline.data import check_panoptic_labels
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.intervals import Intervals, Measure, intervals_of, metric_frame
from sightline.ops import rle
from sightline.ops.overlaps import overlaps_of, segment_map

__all__ = ["PanopticAccumulator", "PanopticResult", "Segments", "evaluate_panoptic"]

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

_TP = 1  # of an image and class: summed IoU of matches, their number, false ones, missed ones
_MATCH = 0.5  # above it no segment can be met by two that do not overlap, so nothing has to be chosen


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of a map: `ids` (S,) above 0, once each, and `class_ids` (S,).

    Of ground truth `crowd` (S,) marks regions that are neither found nor missed, and `areas` (S,) are what its file
    states, pixels; without them the map's own are taken. Predictions have neither.
    """

    ids: npt.ArrayLike
    class_ids: npt.ArrayLike
    crowd: npt.ArrayLike | None = None
    areas: npt.ArrayLike | None = None

    def column(self, values: npt.ArrayLike | None, kind: type, default: Any = 0) -> npt.NDArray[Any]:
        """One of the fields as an array (S,); DataError for one of another length."""
        count = len(np.atleast_1d(np.asarray(self.ids)))
        array: npt.NDArray[Any] = np.full(count, default, kind)
        if values is not None:
            array = np.asarray(values, kind).reshape(-1)
        if len(array) != count:
            raise DataError(f"segments must have a class (crowd, area) each, got {len(array)} of {count}")
        return array


class PanopticAccumulator:
    """Matched segments of as many images as are given; `things` (C,) says of each class whether it is countable.

    Two accumulators add up. Counts are those of panopticapi: a predicted segment and a true one of its class match
    where their IoU, without the prediction's pixels of no true segment, is above 0.5. A prediction without a match does
    not count where more than half of it lies on pixels of no true segment and on the crowd region of its class (the
    last one, where an image has several).
    """

    def __init__(self, things: Sequence[bool]) -> None:
        self.things = np.asarray(things, dtype=np.bool_)
        self.images: list[FloatArray] = []  # (C, 4) of each image: summed IoU of matches, their number, FP, FN

    def update(
        self,
        truth_ids: npt.NDArray[np.integer],
        truth: Segments,
        predicted_ids: npt.NDArray[np.integer],
        predicted: Segments,
    ) -> FloatArray:
        """Add an image: ids of segments (H, W) of both sides, 0 of none; returns its (C, 4) summed IoU, TP, FP, FN.

        DataError for maps of two shapes, predicted ids that are not listed, segments without a pixel, and classes
        outside 0..C-1. Ground truth with an id that is not listed is of no class, and no prediction is excused there.
        """
        found = self._match(truth_ids, truth, predicted_ids, predicted)
        self.images.append(found)
        return found

    def merge(self, other: "PanopticAccumulator") -> None:
        """Add the images of another accumulator of the same classes."""
        if other.things.tolist() != self.things.tolist():
            raise ValueError("accumulators must be of the same classes")
        self.images += other.images

    def _match(
        self,
        truth_ids: npt.NDArray[np.integer],
        truth: Segments,
        predicted_ids: npt.NDArray[np.integer],
        predicted: Segments,
    ) -> FloatArray:
        shared = overlaps_of(truth_ids, predicted_ids, truth.ids, predicted.ids)
        classes, guesses = truth.column(truth.class_ids, np.int64), predicted.column(predicted.class_ids, np.int64)
        crowd, counted = truth.column(truth.crowd, np.bool_, False), len(self.things)
        for name, ids in (("true", classes), ("predicted", guesses)):
            if len(ids) and not 0 <= ids.min() <= ids.max() < counted:
                raise DataError(f"{name} classes must be in 0..{counted - 1}, got {ids.min()}..{ids.max()}")
        nobody, strange = len(classes), len(guesses) + 1
        areas, own_areas = (
            np.bincount(side, weights=shared.pixels, minlength=len(ids) + 2)
            for side, ids in ((shared.columns, guesses), (shared.rows, classes))
        )
        if areas[strange] or not areas[:-2].all():
            what = f"{areas[strange]:.0f} pixels of others"
            what = what if areas[strange] else f"{int((areas[:-2] == 0).sum())} without a pixel"
            raise DataError(f"the predicted map must show the segments that are listed, got {what}")
        true_areas = own_areas if truth.areas is None else truth.column(truth.areas, np.float64)
        nowhere = np.zeros(len(guesses) + 2)
        nowhere[shared.columns[shared.rows == nobody]] = shared.pixels[shared.rows == nobody]
        real = (shared.rows < len(classes)) & (shared.columns < len(guesses))
        rows, columns, pixels = shared.rows[real], shared.columns[real], shared.pixels[real]
        same = classes[rows] == guesses[columns]
        union = areas[columns] + true_areas[rows] - pixels - nowhere[columns]
        iou = np.divide(pixels, union, out=np.zeros(len(pixels)), where=union > 0)
        match = (iou > _MATCH) & same & ~crowd[rows]
        excused = nowhere[: len(guesses)].copy()
        last = np.full(counted, -1)
        last[classes[crowd]] = np.flatnonzero(crowd)  # of several crowd regions of a class the last one remains
        on_crowd = last[guesses[columns]] == rows
        excused[columns[on_crowd]] += pixels[on_crowd]
        false, missed = ~(excused > 0.5 * areas[:-2]), ~crowd
        false[columns[match]] = False
        missed[rows[match]] = False
        met = classes[rows[match]]
        return np.stack(
            [
                np.bincount(met, weights=iou[match], minlength=counted),
                *(np.bincount(ids, minlength=counted) for ids in (met, guesses[false], classes[missed])),
            ],
            axis=1,
            dtype=np.float64,
        )

    def metrics(self) -> dict[str, float]:
        """PQ, SQ and RQ over all images, of all classes, of things and of stuff, 0..1 and 1 at best."""
        return dict(self.measure()(np.ones(len(self.images), dtype=np.int64)))

    def measure(self) -> Measure:
        """The metrics as a function of the images' weights, in the order they were added."""
        counts = np.stack(self.images) if self.images else np.zeros((0, len(self.things), 4))
        kinds = {"": np.ones_like(self.things), "_things": self.things, "_stuff": ~self.things}

        def of_weights(weights: IntArray) -> dict[str, float]:
            by_class = _qualities(np.tensordot(weights, counts, 1))
            return {
                f"{name}{suffix}": _mean(values[chosen])
                for suffix, chosen in kinds.items()
                for name, values in by_class.items()
            }

        return of_weights

    def per_class(self, class_names: Sequence[str]) -> pl.DataFrame:
        """A row for each class: thing or stuff, PQ, SQ and RQ (NaN where the class does not occur), TP, FP, FN."""
        counts = sum(self.images, np.zeros((len(self.things), 4)))
        numbers = counts[:, _TP:].astype(np.int64)
        return pl.DataFrame(
            {
                "class_id": np.arange(len(class_names)),
                "class": list(class_names),
                "kind": ["thing" if thing else "stuff" for thing in self.things],
                **_qualities(counts),
                "tp": numbers[:, 0],
                "fp": numbers[:, 1],
                "fn": numbers[:, 2],
            }
        )


def _qualities(counts: FloatArray) -> dict[str, FloatArray]:
    """PQ, SQ and RQ (C,) of counts (C, 4); NaN of a class without a segment on either side."""
    iou, tp, fp, fn = counts.T
    whole = tp + 0.5 * fp + 0.5 * fn
    occurs = whole > 0
    quality = np.divide(iou, tp, out=np.zeros_like(iou), where=tp > 0)
    return {
        "PQ": np.divide(iou, whole, out=np.full(len(iou), np.nan), where=occurs),
        "SQ": np.where(occurs, quality, np.nan),
        "RQ": np.divide(tp, whole, out=np.full(len(iou), np.nan), where=occurs),
    }


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


@dataclass(frozen=True, eq=False)
class PanopticResult(Result):
    """Panoptic quality over all images, and by class.

    `metrics`: PQ = SQ × RQ, SQ (mean IoU of matched segments) and RQ (F1 of segments), means over the classes that
    occur in ground truth or prediction; PQ_things and so on, PQ_stuff and so on of countable classes and of the others.
    `per_class` has a row for each class: kind, PQ, SQ, RQ, tp, fp, fn. `per_image`: image_id, path, tp, fp, fn and
    image_pq, the mean over the classes that occur in it. `intervals` are the 95 % intervals, where asked for.
    """

    metrics: dict[str, float]
    per_class: pl.DataFrame
    per_image: pl.DataFrame
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()
    intervals: Intervals = field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        """One of the metrics, such as `result["PQ_things"]`."""
        return self.metrics[metric]

    def to_frame(self) -> pl.DataFrame:
        """The metrics as `metric`, `value`, and the ends of the intervals where asked for."""
        return metric_frame(self.metrics, self.intervals)


def evaluate_panoptic(dataset: Dataset, predictions: Predictions, *, resamples: int = 0) -> PanopticResult:
    """PQ, SQ and RQ, equal to panopticapi's; predictions have a row for each segment, with its mask.

    `resamples` draws of the images (1000 are usual) give 95 % intervals. DataError for labels that are not panoptic,
    images without a prediction, segments that overlap or have no mask, and predictions for other images or classes.

    Source: Kirillov et al. 2019, "Panoptic Segmentation", and its reference implementation.
    """
    check_panoptic_labels(dataset)
    predictions = fit_predictions(dataset, predictions)
    looked_at = None if predictions.images is None else set(predictions.images["image_id"])
    truth_rows, found_rows = _by_image(dataset.objects), _by_image(predictions.table)
    accumulator = PanopticAccumulator(dataset.classes["thing"].to_list())
    rows, unlabelled = [], 0
    for image in dataset.images.sort("image_id").iter_rows(named=True):
        image_id, size_hw, path = image["image_id"], (image["height"], image["width"]), image["path"]
        truth = truth_rows.get(image_id, dataset.objects.clear())
        unlabelled += truth.is_empty()
        if not truth.is_empty() and looked_at is not None and image_id not in looked_at:
            message = f"every labelled image of data set '{dataset.name}' must have a prediction, got none"
            raise DataError(message, where=path)
        usable = truth.filter(~pl.col("ignore"))
        found = found_rows.get(image_id, predictions.table.clear())
        true_ids, true_segments = _map_of(usable, size_hw, path, "true")
        stated = Segments(true_segments.ids, true_segments.class_ids, usable["crowd"], usable["area"])
        counts = accumulator.update(true_ids, stated, *_map_of(found, size_hw, path, "predicted"))
        tp, fp, fn = counts[:, _TP:].sum(axis=0).astype(np.int64).tolist()
        row = {"image_id": image_id, "path": path, "tp": tp, "fp": fp, "fn": fn}
        rows.append(row | {"image_pq": _mean(_qualities(counts)["PQ"])})
    intervals, drawn = intervals_of(dataset, resamples, accumulator.measure)
    return PanopticResult(
        metrics=accumulator.metrics(),
        per_class=accumulator.per_class(dataset.class_names),
        per_image=pl.DataFrame(rows),
        conventions=describe_inputs(dataset, predictions)
        | {
            "matching": "segments of one class with an IoU above 0.5, as panopticapi",
            "void": "pixels of no true segment count for nothing",
            "images_without_segments": unlabelled,
            "absent_classes": "neither in ground truth nor prediction: not a number, left out of means",
        }
        | drawn,
        intervals=intervals,
    )


def _by_image(table: pl.DataFrame) -> dict[int, pl.DataFrame]:
    return {int(key[0]): part for key, part in table.partition_by("image_id", as_dict=True).items()}


def _map_of(
    rows: pl.DataFrame, size_hw: tuple[int, int], path: str, side: str
) -> tuple[npt.NDArray[np.int32], Segments]:
    missing = rows["rle"].null_count()
    # A labelled segment that its map does not show is missed; where the map itself is gone nothing can be measured.
    if missing and (side == "predicted" or missing == rows.height):
        raise DataError(f"every {side} segment must have a mask, got {missing} without", where=path)
    nothing = rle.runs_to_counts([size_hw[0] * size_hw[1]], size_hw)
    ids, covered = segment_map([nothing if code is None else code for code in rows["rle"]], size_hw)
    if covered:
        raise DataError(f"{side} segments must not overlap, got {covered} pixels of several", where=path)
    return ids, Segments(np.arange(1, rows.height + 1), rows["class_id"].to_numpy())
