"""Semantic segmentation: counts of pixels, pooled and image by image, and what is measured beside them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

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
from sightline.evaluate.foreground import ForegroundCounts, ForegroundCurves, ForegroundPoint, declared_point
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.intervals import Intervals, Measure, intervals_of, metric_frame
from sightline.evaluate.object_errors import component_errors, errors_of_parts, stated_errors
from sightline.evaluate.pixels import SemanticAccumulator, class_table, image_ratios, pooled_summary
from sightline.ops import rle
from sightline.ops.boxes import FloatArray

IntArray: TypeAlias = npt.NDArray[np.int64]
ClassIds = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class SemanticResult(Result):
    """Pixel metrics over all images, by class, and image by image.

    `metrics` of the pixels of all images together: pixel_accuracy, frequency_weighted_iou, mcc (Matthews' correlation),
    mean_iou, mean_dice, mean_sensitivity, mean_specificity, mean_precision (means over classes); with two classes also
    foreground_* of the second. A name that ends in `_image_mean` is another number: each image's own ratio (see
    `image_ratios`), and the mean of these over the images where it is defined. `per_class` and `confusion` (C, C), with
    ground truth in rows, are pooled; `per_image`: image_id, path, counted_pixels, image_dice and the image's other
    ratios, image_iou and so on. `intervals` are the 95 % intervals of the metrics, where asked for.

    With boundaries asked for, the metrics and columns of `BoundaryAccumulator` too; with objects, `object_errors` and
    `objects_concerned` of the connected parts of maps, see `sightline.evaluate.object_errors`; with the foreground's
    probabilities, foreground_average_precision and foreground_roc_auc, and `curves`. `operating_point` says from which
    probability on pixels of two classes are foreground.
    """

    metrics: dict[str, float]
    per_class: pl.DataFrame
    per_image: pl.DataFrame
    confusion: IntArray
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()
    intervals: Intervals = field(default_factory=dict)
    object_errors: pl.DataFrame | None = None
    objects_concerned: pl.DataFrame | None = None
    operating_point: ForegroundPoint | None = None
    curves: ForegroundCurves | None = None

    def __getitem__(self, metric: str) -> float:
        """One of the metrics, such as `result["foreground_dice"]`."""
        return self.metrics[metric]

    def to_frame(self) -> pl.DataFrame:
        """The metrics as `metric`, `value`, and the ends of the intervals where asked for."""
        return metric_frame(self.metrics, self.intervals)


class _Wanted(NamedTuple):
    """What is measured beside the pixels."""

    resamples: int
    boundaries: BoundaryOptions | None
    objects: bool
    foreground: ForegroundCounts | None = None


def evaluate_semantic(
    dataset: Dataset,
    predictions: Predictions,
    *,
    resamples: int = 0,
    boundaries: BoundaryOptions | None = None,
    objects: bool = False,
    foreground: ForegroundCounts | None = None,
) -> SemanticResult:
    """Metrics of saved predictions: for each image one mask per class that together cover it once.

    `resamples` draws of the images (1000 are usual) give 95 % intervals; `boundaries` adds how well those are met,
    `objects` what went wrong with connected parts, and `foreground` the curves of probabilities counted beside.

    Raises DataError where an image has no prediction, masks overlap or leave pixels free, predictions belong to other
    images or classes, or ground truth holds values that are neither a class nor ignored.
    """
    predictions = fit_predictions(dataset, predictions)
    maps, conventions = _saved_maps(dataset, predictions), describe_inputs(dataset, predictions)
    result = _evaluate(dataset, maps, conventions, _Wanted(resamples, boundaries, objects, foreground))
    return replace(result, operating_point=declared_point(predictions.meta, len(dataset.class_names)))


def evaluate_semantic_maps(
    dataset: Dataset,
    maps: Iterable[tuple[int, SemanticMap]],
    *,
    resamples: int = 0,
    boundaries: BoundaryOptions | None = None,
    objects: bool = False,
) -> SemanticResult:
    """Metrics of maps given as `(image_id, map)`, each image of the data set exactly once, in any order.

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
    return _evaluate(dataset, _checked_maps(dataset, maps), conventions, _Wanted(resamples, boundaries, objects))


def _evaluate(
    dataset: Dataset, maps: Iterator[tuple[int, ClassIds]], conventions: dict[str, Any], wanted: _Wanted
) -> SemanticResult:
    names = dataset.class_names
    edges = None if wanted.boundaries is None else BoundaryAccumulator(len(names), wanted.boundaries)
    errors = errors_of_parts(names) if wanted.objects else None
    images = {row["image_id"]: row for row in dataset.images.sort("image_id").iter_rows(named=True)}
    accumulator = SemanticAccumulator(len(names))
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
        if errors is not None:
            component_errors(errors, image_id, truth, class_ids)
        pixels[image_id] = np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
    missing = [row["path"] for image_id, row in images.items() if image_id not in pixels]
    if missing:
        raise DataError(f"every image of data set '{dataset.name}' must have a prediction, got none for {missing[0]}")
    own = image_ratios(np.stack([pixels[i] for i in images])) if images else {}
    measure = _measure(pixels, own, edges)
    intervals, drawn = intervals_of(dataset, wanted.resamples, lambda: measure)
    per_class = class_table(accumulator.confusion, names)
    areas = {} if wanted.foreground is None else wanted.foreground.areas()
    return SemanticResult(
        metrics=dict(measure(np.ones(len(images), dtype=np.int64)))
        | {f"foreground_{name}": value for name, value in areas.items()},
        per_class=per_class if edges is None else per_class.join(edges.per_class(), on="class_id", how="left"),
        per_image=_per_image(dataset, pixels, own),
        confusion=accumulator.confusion,
        conventions=conventions
        | _stated(dataset, accumulator.confusion, own)
        | drawn
        | ({} if edges is None else edges.stated())
        | ({} if errors is None else stated_errors()),
        intervals=intervals,
        object_errors=None if errors is None else errors.counts(),
        objects_concerned=None if errors is None else errors.concerned(),
        curves=None if wanted.foreground is None else wanted.foreground.curves(),
    )


def _per_image(dataset: Dataset, pixels: dict[int, IntArray], own: dict[str, FloatArray]) -> pl.DataFrame:
    """A row for each image, in the order of the data set."""
    columns: dict[str, Any] = {
        "image_id": sorted(pixels),
        "counted_pixels": [int(pixels[i][1].sum()) for i in sorted(pixels)],
    }
    ratios = {f"image_{name.removeprefix('foreground_').removeprefix('mean_')}": own[name] for name in own}
    table = pl.DataFrame(columns | ratios)
    return dataset.images.select("image_id", "path").join(table, on="image_id", how="left", maintain_order="left")


def _measure(pixels: dict[int, IntArray], own: dict[str, FloatArray], edges: BoundaryAccumulator | None) -> Measure:
    """The metrics as a function of the images' weights, in the order of their ids; `own` are the images' ratios (I,) in
    that order, `pixels` and edges as they came."""
    of_edges = None if edges is None else edges.measure()
    ranks = np.argsort(np.argsort(list(pixels)))
    counts = np.stack([pixels[i] for i in sorted(pixels)])  # (I, 3, C): right, true, predicted
    flat, shape = counts.reshape(len(counts), -1), counts.shape[1:]
    alone = np.stack(list(own.values()))
    defined = ~np.isnan(alone)
    alone = np.where(defined, alone, 0.0)

    def measure(weights: IntArray) -> dict[str, float]:
        tp, truth, predicted = (weights @ flat).reshape(shape)
        there = defined @ weights
        means = np.divide(alone @ weights, there, out=np.full(len(alone), np.nan), where=there > 0)
        values = pooled_summary(tp, truth, predicted)
        values |= {f"{name}_image_mean": float(mean) for name, mean in zip(own, means, strict=True)}
        return values if of_edges is None else {**values, **of_edges(weights[ranks])}

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


def _stated(dataset: Dataset, confusion: IntArray, own: dict[str, FloatArray]) -> dict[str, Any]:
    whole = int((dataset.images["width"].cast(pl.Int64) * dataset.images["height"].cast(pl.Int64)).sum())
    return {
        "pooling": "pixel counts of all images; only names ending in _image_mean are means over images",
        "images_undefined": {name: count for name, values in own.items() if (count := int(np.isnan(values).sum()))},
        "resolution": "of the images",
        "ignore_values": list(dataset.ignore_values),
        "counted_pixels": int(confusion.sum()),
        "ignored_pixels": whole - int(confusion.sum()),
        "absent_classes": "neither in ground truth nor prediction: not a number, left out of means",
        **({"foreground": dataset.class_names[1]} if len(dataset.class_names) == 2 else {}),
    }
