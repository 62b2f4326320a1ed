"""Results that are one document, written at the end: MOTChallenge text, COCO results JSON, Parquet."""

from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.files import write_json_atomic
from sightline.core.predictions import PREDICTIONS_SCHEMA, predictions_from_rows
from sightline.data.formats.mot_txt import write_mot_txt
from sightline.infer.rows import result_rows
from sightline.infer.sinks.protocol import FrameResult, RunInfo, refuse_semantic

__all__ = ["CocoSink", "MotSink", "ParquetSink"]


class _TableSink:
    """Collects rows of a predictions table; `image_id` is the frame index."""

    needs_picture = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._parts: list[pl.DataFrame] = []
        self._sizes: dict[int, tuple[int, int]] = {}
        self._opened = False

    def open(self, info: RunInfo) -> None:
        """Remember what the run is."""
        self._info = info
        self._opened = True

    def write(self, result: FrameResult) -> None:
        """Collect the rows of one frame."""
        self._parts.append(
            result_rows(result.frame.index, result.semantic if result.detections is None else result.detections)
        )
        self._sizes[result.frame.index] = result.frame.size_hw

    def close(self) -> None:
        """Write the document in one step."""
        if self._opened:
            empty = pl.DataFrame(schema=PREDICTIONS_SCHEMA)
            self._save(pl.concat(self._parts) if self._parts else empty)

    def discard(self) -> None:
        """Forget the rows; nothing has been written."""
        self._parts.clear()

    def _save(self, table: pl.DataFrame) -> None:
        raise NotImplementedError


class ParquetSink(_TableSink):
    """A predictions table as `Predictions.save` writes it, the predictor's description in its metadata."""

    def _save(self, table: pl.DataFrame) -> None:
        meta = {**self._info.meta, "source": self._info.source, "frames": len(self._sizes)}
        predictions_from_rows(table, meta).save(self.path)


class MotSink(_TableSink):
    """MOTChallenge results: frame from 1, id, left and top from 1, width, height, score, -1, -1, -1.

    Without a tracker every id is -1, as in files of detections.
    """

    def open(self, info: RunInfo) -> None:
        """ConfigError for label maps."""
        refuse_semantic(info, self.path, "MOTChallenge")
        super().open(info)

    def _save(self, table: pl.DataFrame) -> None:
        rows = table.select(
            pl.col("image_id").alias("frame"), pl.col("track_id").fill_null(-1), "x1", "y1", "x2", "y2", "score"
        )
        write_mot_txt(self.path, rows)


class CocoSink(_TableSink):
    """COCO results: a list of image_id (frame index), category_id (class id from 0), bbox (xywh), score, track_id.

    Label maps become one `segmentation` (RLE) per frame and class.
    """

    def _save(self, table: pl.DataFrame) -> None:
        write_json_atomic(self.path, [self._entry(row) for row in table.iter_rows(named=True)], indent=None)

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "image_id": row["image_id"],
            "category_id": row["class_id"],
            "bbox": [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]],
            "score": row["score"],
        }
        if row["track_id"] is not None:
            entry["track_id"] = row["track_id"]
        if row["rle"] is not None:
            size = list(self._sizes[row["image_id"]])
            entry["segmentation"] = {"size": size, "counts": row["rle"].decode("ascii")}
        return entry
