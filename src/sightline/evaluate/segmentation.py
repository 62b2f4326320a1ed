"""Semantic segmentation of a data set, from saved predictions or from maps as they are made."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX, SemanticMap
from sightline.core.predictions import Predictions
from sightline.core.results import Result
from sightline.data import read_class_mask
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.semantic_scores import (
    IntArray,
    SemanticAccumulator,
    class_table,
    image_dice,
    mean_defined,
    summary,
)
from sightline.ops import rle

ClassIds = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class SemanticResult(Result):
    """Pooled pixel metrics over all images, by class, and Dice image by image.

    `metrics`: pixel_accuracy, mean_iou, mean_dice, mean_sensitivity, mean_specificity, mean_precision (means over
    classes of ratios of pooled counts); with two classes also foreground_* of the second; and mean_image_dice, the mean
    of the images' own Dice, which is another number than the pooled one. `per_image`: image_id, path, counted_pixels,
    image_dice. `confusion` (C, C) has ground truth in rows.
    """

    metrics: dict[str, float]
    per_class: pl.DataFrame
    per_image: pl.DataFrame
    confusion: IntArray
    conventions: dict[str, Any]

    def __getitem__(self, metric: str) -> float:
        """One of the metrics, such as `result["foreground_dice"]`."""
        return self.metrics[metric]

    def to_frame(self) -> pl.DataFrame:
        """The metrics as `metric`, `value`."""
        columns = {"metric": list(self.metrics), "value": list(self.metrics.values())}
        return pl.DataFrame(columns, schema_overrides={"value": pl.Float64})


def evaluate_semantic(dataset: Dataset, predictions: Predictions) -> SemanticResult:
    """Pooled metrics of saved predictions: for each image one mask per class that together cover it once.

    Raises DataError where an image has no prediction, masks overlap or leave pixels free, predictions belong to other
    images or classes, or ground truth holds values that are neither a class nor ignored.
    """
    predictions = fit_predictions(dataset, predictions)
    return _evaluate(dataset, _saved_maps(dataset, predictions), describe_inputs(dataset, predictions))


def evaluate_semantic_maps(dataset: Dataset, maps: Iterable[tuple[int, SemanticMap]]) -> SemanticResult:
    """Pooled metrics of maps given as `(image_id, map)`, each image of the data set exactly once, in any order.

    The same numbers as `evaluate_semantic` of the same maps; raises DataError in the same cases.
    """
    conventions = {
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": dataset.label_digest(),
        "predictions": "maps, not saved",
    }
    return _evaluate(dataset, _checked_maps(dataset, maps), conventions)


def _evaluate(dataset: Dataset, maps: Iterator[tuple[int, ClassIds]], conventions: dict[str, Any]) -> SemanticResult:
    names = dataset.class_names
    images = {row["image_id"]: row for row in dataset.images.iter_rows(named=True)}
    accumulator = SemanticAccumulator(len(names))
    scored: dict[int, dict[str, Any]] = {}
    for image_id, class_ids in maps:
        image = images[image_id]
        if image["mask_path"] is None:
            raise DataError("every image to evaluate must have a mask, got none", where=image["path"])
        size_hw = image["height"], image["width"]
        truth = read_class_mask(dataset.image_path(image["mask_path"]), dataset, size_hw)
        counts = accumulator.update(truth, class_ids)
        counted = int(counts.sum())
        scored[image_id] = {"image_id": image_id, "path": image["path"], "counted_pixels": counted}
        scored[image_id]["image_dice"] = image_dice(counts)
    missing = [row["path"] for image_id, row in images.items() if image_id not in scored]
    if missing:
        raise DataError(f"every image of data set '{dataset.name}' must have a prediction, got none for {missing[0]}")
    schema = {"image_id": pl.Int64, "path": pl.String, "counted_pixels": pl.Int64, "image_dice": pl.Float64}
    per_image = pl.DataFrame([scored[i] for i in images], schema=schema)
    metrics = summary(accumulator.confusion)
    return SemanticResult(
        metrics=metrics | {"mean_image_dice": mean_defined(per_image["image_dice"].to_numpy())},
        per_class=class_table(accumulator.confusion, names),
        per_image=per_image,
        confusion=accumulator.confusion,
        conventions=conventions | _stated(dataset, accumulator.confusion),
    )


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
    class_ids = np.full(size_hw, IGNORE_INDEX, dtype=np.int32)
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
