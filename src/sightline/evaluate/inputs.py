"""Do these predictions belong to this data set? Asked once, before anything is measured."""

from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions

_SETTINGS = ("model_digest", "backend", "conf", "iou", "max_det")


def check_predictions(dataset: Dataset, predictions: Predictions) -> None:
    """Refuse predictions for other images or other classes than the data set's: DataError."""
    names = predictions.meta.get("class_names")
    if names is not None and tuple(names) != dataset.class_names:
        raise DataError(
            f"the predictions must have the {len(dataset.class_names)} classes of data set '{dataset.name}' "
            f"({_shorten(dataset.class_names)}), got {len(names)} ({_shorten(names)})",
            do="Evaluate on the data set the model was trained for, or map its classes first.",
        )
    table, count = predictions.table, len(dataset.class_names)
    wrong = table.filter((pl.col("class_id") < 0) | (pl.col("class_id") >= count))["class_id"]
    if len(wrong):
        raise DataError(f"predicted class ids must be in 0..{count - 1}, got {wrong[0]} in {len(wrong)} rows")
    strangers = table.join(dataset.images.select("image_id"), on="image_id", how="anti")["image_id"].unique().sort()
    if len(strangers):
        raise DataError(
            f"predictions must be for images of data set '{dataset.name}', got {len(strangers)} other images "
            f"(first image_id {strangers[0]})",
            do="Check that the predictions were made on this split.",
        )


def describe_inputs(dataset: Dataset, predictions: Predictions) -> dict[str, Any]:
    """What was compared with what: data set, splits, counts, digests of the labels and of the predictions."""
    return {
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": dataset.label_digest(),
        "predictions": len(predictions),
        "prediction_digest": predictions.digest(),
        "predicted_with": {key: predictions.meta[key] for key in _SETTINGS if key in predictions.meta},
    }


def _shorten(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
