"""Tracking metrics of a data set's predictions."""

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.evaluate.inputs import check_predictions, describe_inputs
from sightline.evaluate.tracking.result import TrackingResult, evaluate_sequences
from sightline.evaluate.tracking.sequences import (
    DISTRACTORS,
    PEDESTRIAN,
    MatchedSequence,
    Preprocessing,
    TrackRows,
    match_sequence,
    track_rows,
)


def evaluate_tracking(
    dataset: Dataset, predictions: Predictions, *, preprocessing: Preprocessing = "mot15"
) -> TrackingResult:
    """HOTA, CLEAR and Identity of each group (sequence) of the data set and of all combined.

    Tracks are matched across classes; crowd and ignored objects count as zero-marked. `mot17` and `mot20` read the
    benchmark's class numbers from `classes.source_id`. Sequences without predictions count as missed. Raises DataError
    where predictions are for other images, carry no track id, or repeat one within a frame.
    """
    check_predictions(dataset, predictions)
    frames = _frames(dataset)
    numbers = _class_numbers(dataset, preprocessing)
    truth = _placed(dataset.objects, frames, numbers)
    counted = truth.filter(~pl.col("crowd") & ~pl.col("ignore")) if preprocessing != "none" else truth
    _require_track_ids(counted, "ground truth")
    predicted = _placed(predictions.table, frames, numbers)
    _require_track_ids(predicted, "predictions")
    if preprocessing in DISTRACTORS and (other := predicted.filter(pl.col("number") != PEDESTRIAN)).height:
        raise DataError(
            f"predictions under {preprocessing} must be of class number {PEDESTRIAN} (pedestrian), "
            f"got {other['number'][0]} in {other.height} rows"
        )
    sequences = [
        _sequence(str(name), int(count), truth, predicted, preprocessing)
        for name, count in frames.group_by("group").agg(pl.col("frame").max() + 1).sort("group").iter_rows()
    ]
    conventions = describe_inputs(dataset, predictions) | {"sequences": len(sequences), "classes": "matched as one"}
    return evaluate_sequences(sequences, conventions, preprocessing)


def _frames(dataset: Dataset) -> pl.DataFrame:
    frames = dataset.images.select("image_id", "group", "frame")
    missing = frames.filter(pl.col("group").is_null() | pl.col("frame").is_null()).height
    if missing or frames.is_empty():
        raise DataError(
            f"every image of a tracking data set must have a group (its sequence) and a frame index, got {missing} of "
            f"{len(dataset)} without",
            where=str(dataset.root),
        )
    twice = frames.filter(pl.struct("group", "frame").is_duplicated())
    if twice.height:
        raise DataError(f"a frame must be one image, got frame {twice['frame'][0]} of '{twice['group'][0]}' twice")
    return frames


def _placed(rows: pl.DataFrame, frames: pl.DataFrame, numbers: pl.DataFrame) -> pl.DataFrame:
    """Rows with their group, frame and class number, in their own order, which decides ties."""
    placed = rows.join(frames, on="image_id", maintain_order="left")
    return placed.join(numbers, on="class_id", how="left", maintain_order="left")


def _class_numbers(dataset: Dataset, preprocessing: Preprocessing) -> pl.DataFrame:
    """Benchmark class number of each class; all are pedestrians where the preprocessing knows no classes."""
    if preprocessing not in DISTRACTORS:
        return dataset.classes.select("class_id", pl.lit(PEDESTRIAN, dtype=pl.Int64).alias("number"))
    unnumbered = dataset.classes.filter(pl.col("source_id").is_null())["name"]
    if len(unnumbered):
        raise DataError(
            f"preprocessing {preprocessing} needs the benchmark's class numbers, got none for class '{unnumbered[0]}'",
            do="Evaluate with preprocessing mot15 or none.",
        )
    return dataset.classes.select("class_id", number="source_id")


def _require_track_ids(rows: pl.DataFrame, side: str) -> None:
    missing = rows["track_id"].null_count()
    if missing:
        raise DataError(f"every box must have a track id, got {missing} boxes of the {side} without")


def _sequence(
    name: str, frame_count: int, truth: pl.DataFrame, predicted: pl.DataFrame, preprocessing: Preprocessing
) -> MatchedSequence:
    here = pl.col("group") == name
    return match_sequence(
        name,
        _rows(truth.filter(here), ignored=True),
        _rows(predicted.filter(here), ignored=False),
        preprocessing=preprocessing,
        frame_count=frame_count,
    )


def _rows(table: pl.DataFrame, *, ignored: bool) -> TrackRows:
    track_ids = table["track_id"].to_numpy() if not table["track_id"].null_count() else _with_placeholders(table)
    return track_rows(
        table["frame"].to_numpy(),
        track_ids,
        table.select("x1", "y1", "x2", "y2").to_numpy(),
        table["number"].to_numpy(),
        (table["crowd"] | table["ignore"]).to_numpy() if ignored else None,
    )


def _with_placeholders(table: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Track ids where ignored regions have none: each gets its own, below every real one, and is left out later."""
    lowest = table["track_id"].min()
    below = (int(lowest) if isinstance(lowest, int) else 0) - 1 - pl.int_range(pl.len())
    return table.select(pl.coalesce("track_id", below))["track_id"].to_numpy()
