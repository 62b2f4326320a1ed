"""Predictions that are not what they were read as are said to be so; good and plainly bad ones are not."""

import re

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import Dataset, dataset_from_rows
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.evaluate import DetectionResult, evaluate_detection

NAMES = ("cat", "dog", "bird")
SIZE = (480, 640)


def made(seed: int = 0, images: int = 12, each: int = 4) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = [{"image_id": i, "path": f"{i}.png", "width": SIZE[1], "height": SIZE[0]} for i in range(images)]
    objects = []
    for i in range(images):
        corner, size = rng.uniform(20, 300, (each, 2)), rng.uniform(40, 120, (each, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        objects += [
            {"image_id": i, "class_id": int(rng.integers(0, 2)), **dict(zip(("x1", "y1", "x2", "y2"), b, strict=True))}
            for b in boxes.tolist()
        ]
    classes = [{"class_id": k, "name": n} for k, n in enumerate(NAMES)]
    return dataset_from_rows(rows, objects, classes, root=".", name="made", task="detect", format="made")


def judged(dataset: Dataset, **columns: pl.Expr | float) -> DetectionResult:
    table = dataset.objects.select("image_id", "class_id", "x1", "y1", "x2", "y2").with_columns(score=pl.lit(0.01))
    return evaluate_detection(dataset, predictions_from_rows(table.with_columns(**columns), {}))


X1, Y1, X2, Y2 = (pl.col(c) for c in ("x1", "y1", "x2", "y2"))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"class_id": pl.col("class_id") + 1}, "class ids look one too high.*moving them by -1 gives AP50 1.000"),
        ({"x2": X1 + X2, "y2": Y1 + Y2}, "boxes look like corners"),
        ({"x2": X2 - X1, "y2": Y2 - Y1}, "boxes look like x, y, width, height"),
        ({"x1": X1 / 640, "x2": X2 / 640, "y1": Y1 / 480, "y2": Y2 / 480}, "fractions of the image"),
        ({"x1": (X1 + X2) / 2, "y1": (Y1 + Y2) / 2, "x2": 1.5 * X2 - X1 / 2, "y2": 1.5 * Y2 - Y1 / 2}, "look centred"),
        ({"image_id": (pl.col("image_id") + 1).clip(0, 11)}, "filed under the image after"),
        ({"image_id": (pl.col("image_id") - 1).clip(0, 11)}, "filed under the image before"),
        ({"score": pl.lit(87.0)}, "scores must be in 0..1, got up to 87"),
    ],
)
def test_each_mistake_is_named(columns, said):
    result = judged(made(), **columns)
    assert len(result.warnings) == 1
    assert re.search(said, result.warnings[0]), result.warnings


def test_right_and_simply_poor_predictions_are_left_alone():
    dataset = made()
    assert judged(dataset).warnings == ()
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 400, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 200, (100, 2))], axis=1)
    rows = {"image_id": rng.integers(0, 12, 100), "class_id": rng.integers(0, 3, 100), "score": rng.random(100)}
    poor = pl.DataFrame(rows | dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True)))
    assert evaluate_detection(dataset, predictions_from_rows(poor, {})).warnings == ()
    nothing: Predictions = predictions_from_rows([], {})
    assert evaluate_detection(dataset, nothing).warnings == ()


def test_the_dense_boxes_of_a_model_that_hardly_learnt_are_left_alone():
    dataset = made()
    rng = np.random.default_rng(2)
    count = 300 * 12
    corner = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corner, corner + corner + rng.uniform(40, 120, (count, 2))], axis=1)  # as sizes they fit
    rows = {"image_id": np.repeat(np.arange(12), 300), "class_id": rng.integers(0, 3, count)}
    rows |= {"score": rng.uniform(0.001, 0.01, count)}
    dense = pl.DataFrame(rows | dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True)))
    assert evaluate_detection(dataset, predictions_from_rows(dense, {})).warnings == ()
