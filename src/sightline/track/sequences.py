"""Tracking saved predictions: a data set of sequences in, the same predictions with track ids out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import supervision as sv

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.track.registry import Tracker

__all__ = ["detections_from_table", "sequence_frames", "track_predictions"]

_ROW = "_row"


@dataclass(frozen=True, slots=True)
class SequenceFrame:
    """One frame of one sequence of a data set."""

    group: str
    frame: int
    image_id: int
    time_s: float | None


def sequence_frames(dataset: Dataset) -> dict[str, list[SequenceFrame]]:
    """The frames of each sequence in time order; DataError for a data set without sequences or with repeated frames."""
    images = dataset.images
    loose = images.filter(pl.col("group").is_null() | pl.col("frame").is_null())
    if images.is_empty() or not loose.is_empty():
        what = f"got '{loose['path'][0]}' outside any" if not images.is_empty() else "got no images"
        raise DataError(f"tracking must have images that belong to sequences, {what}", where=str(dataset.root))
    sequences: dict[str, list[SequenceFrame]] = {}
    columns = images.sort("group", "frame").select("group", "frame", "image_id", "time_s")
    for row in columns.iter_rows():
        frames = sequences.setdefault(row[0], [])
        if frames and frames[-1].frame == row[1]:
            raise DataError(
                f"frame {row[1]} must be unique in sequence '{row[0]}', got it twice", where=str(dataset.root)
            )
        frames.append(SequenceFrame(*row))
    return sequences


def detections_from_table(rows: pl.DataFrame) -> sv.Detections:
    """The detections of one image from rows of a predictions table."""
    return sv.Detections(
        xyxy=rows.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64).reshape(-1, 4),
        confidence=rows["score"].to_numpy(),
        class_id=rows["class_id"].to_numpy().astype(np.int64),
    )


def track_predictions(predictions: Predictions, dataset: Dataset, create: Callable[[], Tracker]) -> Predictions:
    """The detections that belong to confirmed tracks, with `track_id`; a fresh tracker from `create` for each sequence.

    Ids restart at 1 in every sequence. Times are the data set's `time_s` where all frames of a sequence have one.
    `meta` gains `tracked_from`, how many detections went in. DataError when a prediction is of an unknown image.
    """
    table = predictions.table.with_row_index(_ROW)
    sequences = sequence_frames(dataset)
    known = {f.image_id for frames in sequences.values() for f in frames}
    by_image = {int(key[0]): rows for key, rows in table.partition_by("image_id", as_dict=True).items()}
    stray = sorted(set(by_image) - known)
    if stray:
        raise DataError(f"predictions must be of images of the data set, got image_id {stray[0]}")
    kept_rows: list[int] = []
    track_ids: list[int] = []
    empty = table.clear()
    for frames in sequences.values():
        tracker = create()
        timed = all(f.time_s is not None for f in frames)
        for frame in frames:
            detections = detections_from_table(rows := by_image.get(frame.image_id, empty))
            detections.data[_ROW] = rows[_ROW].to_numpy()
            tracked = tracker.update(detections, time_s=frame.time_s if timed else None)
            if len(tracked):
                kept_rows.extend(np.asarray(tracked.data[_ROW]).tolist())
                track_ids.extend(np.asarray(tracked.tracker_id).tolist())
    kept = predictions.table[kept_rows].with_columns(pl.Series("track_id", track_ids, dtype=pl.Int64))
    meta = {**predictions.meta, "task": "track", "tracked_from": len(predictions)}
    return replace(predictions_from_rows(kept, meta), images=predictions.images)
