"""COCO's numbers of boxes that are in memory already, without files or a data set."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import supervision as sv

from sightline.audit import beside_baseline
from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.predictions import PREDICTIONS_SCHEMA, predictions_from_rows
from sightline.evaluate import DetectionResult, PanopticResult, SemanticResult, TrackingResult, evaluate_detection
from sightline.infer import NetworkPredictor

__all__ = ["evaluate_boxes", "with_context"]

Boxes: TypeAlias = sv.Detections | npt.ArrayLike
"""Of one image: `sv.Detections`, or rows x1, y1, x2, y2, class of ground truth and x1, y1, x2, y2, score, class of
predictions, in pixels."""

Measured = TypeVar("Measured", bound=DetectionResult | PanopticResult | SemanticResult | TrackingResult)


def with_context(result: Measured, whole: Dataset, measured: Dataset, predictor: NetworkPredictor | None) -> Measured:
    """The result with its model's file, beside what a predictor reaches that never looks at the pictures.

    That one is fitted on the split `train` of `whole`, where it has one; tracks and panoptic segments have none.
    """
    if predictor is not None:
        result = replace(result, conventions={**result.conventions, "model_file": predictor.where})
    if isinstance(result, (PanopticResult, TrackingResult)) or "train" not in whole.splits:
        return result
    size_hw = None if predictor is None else predictor.preprocess.size_hw
    steps = None if predictor is None else predictor.metadata.training.get("steps")
    beside = beside_baseline(result, whole.split("train"), measured, size_hw=size_hw, steps=steps)
    return cast("Measured", beside)


def evaluate_boxes(
    ground_truth: Sequence[Boxes],
    predictions: Sequence[Boxes],
    *,
    class_names: Sequence[str] | None = None,
    conf: float | None = None,
) -> DetectionResult:
    """COCO's 12 numbers and an operating point, see `evaluate_detection`; both sides an entry for each image, in order.

    Class names default to the ids. DataError for sides of other lengths, rows of other widths, and values that are no
    numbers.

    >>> truth, found = [[[0, 0, 10, 10, 0]]], [[[0, 0, 10, 10, 0.9, 0]]]
    >>> float(evaluate_boxes(truth, found)["AP50"])
    1.0
    """
    if len(ground_truth) != len(predictions):
        what = f"got {len(ground_truth)} of ground truth and {len(predictions)} of predictions"
        raise DataError(f"both sides must have an entry for each image, {what}")
    truth = _table([_rows(boxes, f"ground truth {i}", scored=False) for i, boxes in enumerate(ground_truth)])
    found = _table([_rows(boxes, f"prediction {i}", scored=True) for i, boxes in enumerate(predictions)])
    ids = np.concatenate([[0], truth["class_id"], found["class_id"]])
    names = list(class_names) if class_names is not None else [str(i) for i in range(ids.max() + 1)]
    if ids.min() < 0 or ids.max() >= len(names):
        raise DataError(f"class ids must be 0..{len(names) - 1}, got {ids.min()}..{ids.max()}")
    # Nothing here knows the images' size, and no number depends on it.
    size = {"width": 1, "height": 1}
    images = [{"image_id": i, "path": f"{i}", **size} for i in range(len(ground_truth))]
    flat = (pl.col("x2") <= pl.col("x1")) | (pl.col("y2") <= pl.col("y1"))
    objects = truth.drop("score").with_columns(ignore=flat)
    classes = [{"class_id": i, "name": name} for i, name in enumerate(names)]
    dataset = dataset_from_rows(images, objects, classes, root=".", name="arrays", task="detect", format="arrays")
    return evaluate_detection(dataset, predictions_from_rows(found, {}), conf=conf)


def _rows(boxes: Boxes, where: str, *, scored: bool) -> npt.NDArray[np.float64]:
    """(N, 6) x1, y1, x2, y2, score, class of one image."""
    if isinstance(boxes, sv.Detections):
        count = len(boxes)
        scores = np.ones(count) if boxes.confidence is None else np.asarray(boxes.confidence, np.float64)
        if boxes.class_id is None and count:
            raise DataError("detections must have class ids, got none", where=where)
        ids = np.zeros(count) if boxes.class_id is None else np.asarray(boxes.class_id, np.float64)
        return np.column_stack([np.asarray(boxes.xyxy, np.float64).reshape(-1, 4), scores, ids])
    width = 6 if scored else 5
    try:
        rows = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise DataError("boxes must be rows of numbers, got something else", where=where) from None
    if not rows.size:
        return np.empty((0, 6))
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
        columns = "x1, y1, x2, y2, score, class" if scored else "x1, y1, x2, y2, class"
        raise DataError(f"boxes must be rows of finite numbers {columns}, got an array {rows.shape}", where=where)
    return rows if scored else np.insert(rows, 4, 1.0, axis=1)


def _table(parts: list[npt.NDArray[np.float64]]) -> pl.DataFrame:
    counts = [len(part) for part in parts]
    values = np.concatenate([np.empty((0, 6)), *parts])
    columns = {"image_id": np.repeat(np.arange(len(parts)), counts), "class_id": values[:, 5].astype(np.int32)}
    columns |= dict(zip(("x1", "y1", "x2", "y2", "score"), values.T[:5], strict=True))
    return pl.DataFrame(columns, schema={name: PREDICTIONS_SCHEMA[name] for name in columns})
