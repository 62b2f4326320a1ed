"""Where predicted and labelled semantic masks disagree by more than their borders."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX
from sightline.core.predictions import Predictions
from sightline.data import read_class_mask
from sightline.evaluate import SemanticAccumulator, class_ratios
from sightline.ops import rle

__all__ = ["TOLERANCE_PX", "find_mask_suspicions"]

TOLERANCE_PX = 3
_BACKGROUND = 0
_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "kind": pl.String,
    "predicted": pl.String,
    "label": pl.String,
    "score": pl.Float64,
    "iou": pl.Float64,
    "differing": pl.Int64,  # pixels
    "union": pl.Int64,  # of the class in label and prediction, pixels
    "class_id": pl.Int64,
    **dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float64),
}

ClassMap: TypeAlias = npt.NDArray[np.uint8]
Bools: TypeAlias = npt.NDArray[np.bool_]


def find_mask_suspicions(dataset: Dataset, predictions: Predictions) -> pl.DataFrame:
    """One row per image, class and kind with differing pixels: see `rank_label_errors`.

    Suspicion is the score times the differing pixels over the class's pixels in label or prediction, or over the
    class's median area where that is more, so that a speck in an empty image weighs little. Class 0 is the background.
    """
    if predictions.table["rle"].null_count():
        raise DataError("predictions for semantic data must have masks, got rows without")
    rows: list[dict[str, Any]] = []
    areas: list[dict[str, int]] = []
    names = dataset.class_names
    images = dataset.images.filter(pl.col("mask_path").is_not_null())
    masks = predictions.table.partition_by("image_id", as_dict=True)
    for image_id, path, height, width in images.select("image_id", "mask_path", "height", "width").iter_rows():
        part = masks.get((image_id,))
        if part is None:
            continue
        truth = read_class_mask(dataset.image_path(path), dataset)
        if truth.shape != (height, width):
            raise DataError(
                f"a mask must have its image's size {width} × {height}, got {truth.shape[::-1]}", where=path
            )
        predicted, scores = _predicted_map(part, truth)
        counts = SemanticAccumulator(len(names)).update(truth, predicted)
        for class_id in range(_BACKGROUND + 1, len(names)):
            areas.append({"class_id": class_id, "area": int(counts[class_id].sum())})
            rows += [
                {"image_id": image_id, "score": scores.get(seen, 1.0), **row}
                for seen, row in _differences(truth, predicted, class_id, names, counts)
            ]
    typical = pl.DataFrame(areas, schema={"class_id": pl.Int64, "area": pl.Int64}).filter(pl.col("area") > 0)
    typical = typical.group_by("class_id").agg(typical=pl.col("area").median())
    weight = pl.col("differing") / pl.max_horizontal("union", pl.col("typical").fill_null(0.0))
    return (
        pl.DataFrame(rows, schema=_SCHEMA)
        .join(typical, on="class_id", how="left")
        .with_columns(
            suspicion=pl.col("score").clip(0, 1) * weight,
            object_id=pl.lit(None, dtype=pl.Int64),
            **{f"label_{c}": pl.lit(None, dtype=pl.Float64) for c in ("x1", "y1", "x2", "y2")},
        )
    )


def _predicted_map(rows: pl.DataFrame, truth: ClassMap) -> tuple[ClassMap, dict[int, float]]:
    """The predicted class of each pixel, background where nothing is predicted, and the score of each class."""
    size_hw = (truth.shape[0], truth.shape[1])
    found = np.full(size_hw, _BACKGROUND, dtype=np.uint8)
    scores = {}
    for class_id, score, counts in rows.select("class_id", "score", "rle").iter_rows():
        found[rle.decode(counts, size_hw)] = class_id
        scores[class_id] = score
    found[truth == IGNORE_INDEX] = IGNORE_INDEX
    return found, scores


def _differences(
    truth: ClassMap, predicted: ClassMap, class_id: int, names: tuple[str, ...], counts: npt.NDArray[np.int64]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Of one class, by kind: the class the model sees there, and the row; `counts` is the image's confusion."""
    common_pixels = int(counts[class_id, class_id])
    union = int(counts[class_id].sum() + counts[:, class_id].sum()) - common_pixels
    if union == common_pixels:
        return
    labelled, seen = truth == class_id, predicted == class_id
    surplus, lack = seen & ~_grown(labelled), labelled & ~_grown(seen)
    on_background = truth == _BACKGROUND
    common = {"class_id": class_id, "iou": float(class_ratios(counts)["iou"][class_id]), "union": union}
    parts = (
        ("overlooked", surplus & on_background, class_id),
        ("swapped", surplus & ~on_background & (truth != IGNORE_INDEX), class_id),
        ("badly_located", lack & (predicted == _BACKGROUND), _BACKGROUND),
    )
    for kind, where, seen_class in parts:
        if not where.any():
            continue
        label = None if kind == "overlooked" else names[int(np.bincount(truth[where]).argmax())]
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        yield (
            seen_class,
            common
            | {
                "kind": kind,
                "predicted": names[seen_class],
                "label": label,
                "differing": int(where.sum()),
                "x1": float(columns[0]),
                "y1": float(rows[0]),
                "x2": float(columns[-1] + 1),
                "y2": float(rows[-1] + 1),
            },
        )


def _grown(mask: Bools) -> Bools:
    kernel = np.ones((2 * TOLERANCE_PX + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)
