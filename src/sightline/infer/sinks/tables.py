"""Results that are one document, written at the end: MOTChallenge text, COCO results JSON, Parquet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic
from sightline.core.predictions import PREDICTIONS_SCHEMA, predictions_from_rows
from sightline.data.formats.mot import write_mot_txt
from sightline.infer.dataset import result_rows
from sightline.infer.sinks.protocol import FrameResult, RunInfo

__all__ = ["TableSink", "coco_sink", "mot_sink", "parquet_sink"]


@dataclass(frozen=True, slots=True)
class Collected:
    """All rows of a run (`image_id` is the frame index), the size of each frame, and what the run was."""

    table: pl.DataFrame
    sizes_hw: dict[int, tuple[int, int]]
    info: RunInfo


class TableSink:
    """Collects rows; `save` writes the document from them at the end, in one step."""

    needs_picture = False

    def __init__(
        self, path: str | Path, kind: str, save: Callable[[Path, Collected], None], *, boxes_only: bool = False
    ) -> None:
        self.path = Path(path)
        self.kind = kind
        self._save = save
        self._boxes_only = boxes_only
        self._parts = [pl.DataFrame(schema=PREDICTIONS_SCHEMA)]
        self._sizes: dict[int, tuple[int, int]] = {}
        self._info: RunInfo | None = None

    def open(self, info: RunInfo) -> None:
        """Remember what the run is; ConfigError when a document of boxes is asked for label maps."""
        if self._boxes_only and info.task == "semantic":
            raise ConfigError(
                f"a {self.kind} file holds boxes, got a model of label maps",
                where=str(self.path),
                do="use jsonl or parquet",
            )
        self._info = info

    def write(self, result: FrameResult) -> None:
        """Collect the rows of one frame."""
        found = result.semantic if result.detections is None else result.detections
        self._parts.append(result_rows(result.frame.index, found))
        self._sizes[result.frame.index] = result.frame.size_hw

    def close(self) -> None:
        """Write the document."""
        if self._info is not None:
            self._save(self.path, Collected(pl.concat(self._parts), self._sizes, self._info))

    def discard(self) -> None:
        """Forget the rows; nothing has been written."""
        self._parts.clear()
        self._info = None


def parquet_sink(path: str | Path) -> TableSink:
    """A predictions table as `Predictions.save` writes it, the predictor's description in its metadata."""
    return TableSink(path, "parquet", _save_parquet)


def mot_sink(path: str | Path) -> TableSink:
    """MOTChallenge results: frame from 1, id, left and top from 1, width, height, score, -1, -1, -1.

    Without a tracker every id is -1, as in files of detections.
    """
    return TableSink(path, "mot", _save_mot, boxes_only=True)


def coco_sink(path: str | Path) -> TableSink:
    """COCO results: a list of image_id (frame index), category_id (class id from 0), bbox (xywh), score, track_id.

    Label maps become one `segmentation` (RLE) per frame and class.
    """
    return TableSink(path, "coco", _save_coco)


def _save_parquet(path: Path, collected: Collected) -> None:
    info = collected.info
    meta = {**info.meta, "source": info.source, "frames": len(collected.sizes_hw)}
    predictions_from_rows(collected.table, meta).save(path)


def _save_mot(path: Path, collected: Collected) -> None:
    columns = (pl.col("image_id").alias("frame"), pl.col("track_id").fill_null(-1), "x1", "y1", "x2", "y2", "score")
    write_mot_txt(path, collected.table.select(*columns))


def _save_coco(path: Path, collected: Collected) -> None:
    entries = [_coco_entry(row, collected.sizes_hw) for row in collected.table.iter_rows(named=True)]
    write_json_atomic(path, entries, indent=None)


def _coco_entry(row: dict[str, Any], sizes_hw: dict[int, tuple[int, int]]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_id": row["image_id"],
        "category_id": row["class_id"],
        "bbox": [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]],
        "score": row["score"],
    }
    if row["track_id"] is not None:
        entry["track_id"] = row["track_id"]
    if row["rle"] is not None:
        entry["segmentation"] = {"size": list(sizes_hw[row["image_id"]]), "counts": row["rle"].decode("ascii")}
    return entry
