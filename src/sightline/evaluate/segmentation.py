"""Semantic segmentation: one integer confusion matrix of pooled pixels, and everything that follows from it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX, SemanticMap
from sightline.core.predictions import Predictions
from sightline.core.results import Result
from sightline.core.runs import code_version
from sightline.data import read_class_mask
from sightline.evaluate.boundaries import BoundaryAccumulator, BoundaryOptions
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.intervals import Intervals, Measure, intervals_of, metric_frame
from sightline.ops import rle
from sightline.ops.boxes import FloatArray
from sightline.ops.confusion import confusion_matrix

IntArray: TypeAlias = npt.NDArray[np.int64]

RATIOS = ("iou", "dice", "sensitivity", "specificity", "precision")


class SemanticAccumulator:
    """Pixel counts of as many images as are given, `confusion` (C, C) with ground truth in rows.

    Image by image or batch by batch makes no difference to the result, and two accumulators add up.
    """

    def __init__(self, class_count: int) -> None:
        self.confusion: IntArray = np.zeros((class_count, class_count), dtype=np.int64)

    def update(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> IntArray:
        """Add class ids of one shape, `IGNORE_INDEX` truth left out; returns the counts (C, C) of these alone.

        Raises DataError for other shapes or ids outside 0..C-1.
        """
        if not truth.dtype == prediction.dtype == np.uint8:  # bytes are fastest; one kernel serves all other types
            truth, prediction = truth.astype(np.int32, copy=False), prediction.astype(np.int32, copy=False)
        counts = confusion_matrix(truth, prediction, len(self.confusion), ignore_values=(IGNORE_INDEX,))
        self.confusion += counts
        return counts


def class_ratios(confusion: IntArray) -> dict[str, FloatArray]:
    """IoU, Dice, sensitivity, specificity and precision (C,) of each class, in 0..1 and 1 at best.

    A class neither in the ground truth nor in the prediction is NaN in all of them. Of a class that occurs, sensitivity
    without ground truth and precision without predictions are 0, as IoU and Dice are; specificity without a single
    negative pixel is NaN.
    """
    return _ratios_of(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def _ratios_of(tp: IntArray, truth: IntArray, predicted: IntArray) -> dict[str, FloatArray]:
    fp, fn = predicted - tp, truth - tp
    tn = truth.sum() - tp - fp - fn
    occurs = tp + fp + fn > 0
    return {
        "iou": _ratio(tp, tp + fp + fn, occurs),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn, occurs),
        "sensitivity": _ratio(tp, np.maximum(truth, 1), occurs),
        "specificity": _ratio(tn, tn + fp, occurs & (tn + fp > 0)),
        "precision": _ratio(tp, np.maximum(predicted, 1), occurs),
    }


def class_table(confusion: IntArray, class_names: tuple[str, ...]) -> pl.DataFrame:
    """A row for each class: pixel counts and the ratios of `class_ratios`."""
    tp = np.diag(confusion)
    return pl.DataFrame(
        {
            "class_id": np.arange(len(class_names)),
            "class": list(class_names),
            "truth_pixels": confusion.sum(axis=1),
            "predicted_pixels": confusion.sum(axis=0),
            "tp": tp,
            "fp": confusion.sum(axis=0) - tp,
            "fn": confusion.sum(axis=1) - tp,
            **class_ratios(confusion),
        }
    )


def summary(confusion: IntArray) -> dict[str, float]:
    """Pixel accuracy, each ratio's mean over the classes where it is defined, and for two classes the foreground's.

    With two classes the second is the foreground and `foreground_*` are its pooled ratios, which binary
    segmentation is usually published with.
    """
    return _summary_of(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def _summary_of(tp: IntArray, truth: IntArray, predicted: IntArray) -> dict[str, float]:
    ratios = _ratios_of(tp, truth, predicted)
    counted = int(truth.sum())
    values = {"pixel_accuracy": int(tp.sum()) / counted if counted else float("nan")}
    values |= {
        "frequency_weighted_iou": _frequency_weighted(ratios["iou"], truth),
        "mcc": matthews(tp, truth, predicted),
    }
    values |= {f"mean_{name}": mean_defined(ratios[name]) for name in RATIOS}
    if len(tp) == 2:
        values |= {f"foreground_{name}": float(ratios[name][1]) for name in RATIOS}
    return values


def matthews(tp: IntArray, truth: IntArray, predicted: IntArray) -> float:
    """Matthews' correlation coefficient of pooled counts (C,), -1..1; of many classes after Gorodkin (2004).

    0 where only one class is true or predicted, NaN without pixels.
    """
    total = float(truth.sum())
    if not total:
        return float("nan")
    right, t, p = float(tp.sum()), truth.astype(np.float64), predicted.astype(np.float64)
    spread = np.sqrt(total**2 - p @ p) * np.sqrt(total**2 - t @ t)
    return float((right * total - t @ p) / spread) if spread else 0.0


def _frequency_weighted(iou: FloatArray, truth: IntArray) -> float:
    """The mean IoU weighted by how many pixels the ground truth has of each class; NaN without pixels."""
    total = int(truth.sum())
    return float((np.nan_to_num(iou) * truth).sum() / total) if total else float("nan")


def image_dice(confusion: IntArray) -> float:
    """Dice of one image: the foreground's with two classes, else the mean over the classes that occur; else NaN."""
    dice = class_ratios(confusion)["dice"]
    return float(dice[1]) if len(confusion) == 2 else mean_defined(dice)


def mean_defined(values: FloatArray) -> float:
    """Mean of the values that are numbers; NaN where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _ratio(part: IntArray, whole: IntArray, defined: npt.NDArray[np.bool_]) -> FloatArray:
    ratio: FloatArray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=defined)
    return ratio


ClassIds = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class SemanticResult(Result):
    """Pooled pixel metrics over all images, by class, and Dice image by image.

    `metrics`: pixel_accuracy, frequency_weighted_iou, mcc (Matthews' correlation),
    mean_iou, mean_dice, mean_sensitivity, mean_specificity, mean_precision (means over
    classes of ratios of pooled counts); with two classes also foreground_* of the second; and mean_image_dice, the mean
    of the images' own Dice, which is another number than the pooled one. `per_image`: image_id, path, counted_pixels,
    image_dice. With boundaries asked for, the metrics and columns of `BoundaryAccumulator` too. `confusion` (C, C) has
    ground truth in rows. `intervals` are the
    95 % intervals of the metrics, where asked for.
    """

    metrics: dict[str, float]
    per_class: pl.DataFrame
    per_image: pl.DataFrame
    confusion: IntArray
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()
    intervals: Intervals = field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        """One of the metrics, such as `result["foreground_dice"]`."""
        return self.metrics[metric]

    def to_frame(self) -> pl.DataFrame:
        """The metrics as `metric`, `value`, and the ends of the intervals where asked for."""
        return metric_frame(self.metrics, self.intervals)


def evaluate_semantic(
    dataset: Dataset, predictions: Predictions, *, resamples: int = 0, boundaries: BoundaryOptions | None = None
) -> SemanticResult:
    """Pooled metrics of saved predictions: for each image one mask per class that together cover it once.

    `resamples` draws of the images (1000 are usual) give 95 % intervals; `boundaries` adds how well those are met.

    Raises DataError where an image has no prediction, masks overlap or leave pixels free, predictions belong to other
    images or classes, or ground truth holds values that are neither a class nor ignored.
    """
    predictions = fit_predictions(dataset, predictions)
    maps, conventions = _saved_maps(dataset, predictions), describe_inputs(dataset, predictions)
    return _evaluate(dataset, maps, conventions, resamples, boundaries)


def evaluate_semantic_maps(
    dataset: Dataset,
    maps: Iterable[tuple[int, SemanticMap]],
    *,
    resamples: int = 0,
    boundaries: BoundaryOptions | None = None,
) -> SemanticResult:
    """Pooled metrics of maps given as `(image_id, map)`, each image of the data set exactly once, in any order.

    The same numbers as `evaluate_semantic` of the same maps; raises DataError in the same cases.
    """
    conventions = {
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": dataset.label_digest(),
        "predictions": "maps, not saved",
        "code": code_version(),
    }
    return _evaluate(dataset, _checked_maps(dataset, maps), conventions, resamples, boundaries)


def _evaluate(
    dataset: Dataset,
    maps: Iterator[tuple[int, ClassIds]],
    conventions: dict[str, Any],
    resamples: int,
    boundaries: BoundaryOptions | None,
) -> SemanticResult:
    names = dataset.class_names
    edges = None if boundaries is None else BoundaryAccumulator(len(names), boundaries)
    images = {row["image_id"]: row for row in dataset.images.iter_rows(named=True)}
    accumulator = SemanticAccumulator(len(names))
    scored: dict[int, dict[str, Any]] = {}
    pixels: dict[int, IntArray] = {}
    for image_id, class_ids in maps:
        image = images[image_id]
        if image["mask_path"] is None:
            raise DataError("every image to evaluate must have a mask, got none", where=image["path"])
        size_hw = image["height"], image["width"]
        truth = read_class_mask(dataset.image_path(image["mask_path"]), dataset, size_hw)
        counts = accumulator.update(truth, class_ids)
        if edges is not None:
            edges.update(truth, class_ids)
        pixels[image_id] = np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
        counted = int(counts.sum())
        scored[image_id] = {"image_id": image_id, "path": image["path"], "counted_pixels": counted}
        scored[image_id]["image_dice"] = image_dice(counts)
    missing = [row["path"] for image_id, row in images.items() if image_id not in scored]
    if missing:
        raise DataError(f"every image of data set '{dataset.name}' must have a prediction, got none for {missing[0]}")
    schema = {"image_id": pl.Int64, "path": pl.String, "counted_pixels": pl.Int64, "image_dice": pl.Float64}
    per_image = pl.DataFrame([scored[i] for i in images], schema=schema)
    measure = _measure(pixels, per_image, edges)
    intervals, drawn = intervals_of(dataset, resamples, lambda: measure)
    per_class = class_table(accumulator.confusion, names)
    return SemanticResult(
        metrics=dict(measure(np.ones(len(images), dtype=np.int64))),
        per_class=per_class if edges is None else per_class.join(edges.per_class(), on="class_id", how="left"),
        per_image=per_image,
        confusion=accumulator.confusion,
        conventions=conventions
        | _stated(dataset, accumulator.confusion)
        | drawn
        | ({} if edges is None else edges.stated()),
        intervals=intervals,
    )


def _measure(pixels: dict[int, IntArray], per_image: pl.DataFrame, edges: BoundaryAccumulator | None) -> Measure:
    """The metrics as a function of the images' weights, in the order of their ids; `pixels` and edges as they came."""
    of_edges = None if edges is None else edges.measure()
    ranks = np.argsort(np.argsort(list(pixels)))
    counts = np.stack([pixels[i] for i in sorted(pixels)])  # (I, 3, C): right, true, predicted
    flat, shape = counts.reshape(len(counts), -1), counts.shape[1:]
    dice = per_image.sort("image_id")["image_dice"].to_numpy()
    defined = ~np.isnan(dice)

    def measure(weights: IntArray) -> dict[str, float]:
        tp, truth, predicted = (weights @ flat).reshape(shape)
        there = weights[defined]
        mean = float(there @ dice[defined] / there.sum()) if there.any() else float("nan")
        own = _summary_of(tp, truth, predicted) | {"mean_image_dice": mean}
        return own if of_edges is None else {**own, **of_edges(weights[ranks])}

    return measure


def _saved_maps(dataset: Dataset, predictions: Predictions) -> Iterator[tuple[int, ClassIds]]:
    missing = predictions.table["rle"].null_count()
    if missing:
        raise DataError(f"semantic predictions must carry a mask in every row, got {missing} without")
    rows = {key[0]: part for key, part in predictions.table.partition_by("image_id", as_dict=True).items()}
    for image_id, path, height, width in dataset.images.select("image_id", "path", "height", "width").iter_rows():
        if image_id in rows:
            part = rows[image_id].select("class_id", "rle").iter_rows()
            yield image_id, _map_of_masks(list(part), (height, width), path)


def _map_of_masks(masks: list[tuple[int, bytes]], size_hw: tuple[int, int], path: str) -> ClassIds:
    class_ids = np.full(size_hw, IGNORE_INDEX, dtype=np.uint8)
    covered = 0
    for class_id, counts in masks:
        class_ids[rle.decode(counts, size_hw)] = class_id
        covered += rle.area(counts)
    free = int((class_ids == IGNORE_INDEX).sum())
    if free or covered != class_ids.size:
        raise DataError(
            f"the predicted masks of an image must cover each pixel once, got {free} pixels free and "
            f"{covered + free - class_ids.size} covered again",
            where=path,
        )
    return class_ids


def _checked_maps(dataset: Dataset, maps: Iterable[tuple[int, SemanticMap]]) -> Iterator[tuple[int, ClassIds]]:
    expected = {i: (h, w) for i, h, w in dataset.images.select("image_id", "height", "width").iter_rows()}
    for image_id, semantic_map in maps:
        if image_id not in expected:
            raise DataError(f"maps must be of images of data set '{dataset.name}', each once, got image_id {image_id}")
        size_hw = expected.pop(image_id)
        if semantic_map.class_names != dataset.class_names:
            raise DataError(
                f"a map must have the classes {', '.join(dataset.class_names)}, "
                f"got {', '.join(semantic_map.class_names)}"
            )
        if semantic_map.class_ids.shape != size_hw:
            raise DataError(
                f"a map must have the size {size_hw} of its image, got {semantic_map.class_ids.shape} "
                f"for image_id {image_id}"
            )
        yield image_id, semantic_map.class_ids


def _stated(dataset: Dataset, confusion: IntArray) -> dict[str, Any]:
    whole = int((dataset.images["width"].cast(pl.Int64) * dataset.images["height"].cast(pl.Int64)).sum())
    return {
        "pooling": "pixel counts of all images; mean_image_dice alone is a mean over images",
        "resolution": "of the images",
        "ignore_values": list(dataset.ignore_values),
        "counted_pixels": int(confusion.sum()),
        "ignored_pixels": whole - int(confusion.sum()),
        "absent_classes": "neither in ground truth nor prediction: not a number, left out of means",
        **({"foreground": dataset.class_names[1]} if len(dataset.class_names) == 2 else {}),
    }
