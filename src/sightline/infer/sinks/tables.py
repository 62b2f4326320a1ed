"""Results that are one document, written at the end: MOTChallenge text, COCO results JSON, Parquet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.errors import ConfigError
from sightline.core.files import file_sha256, write_json_atomic
from sightline.core.frames import picture_file
from sightline.core.predictions import PREDICTED_IMAGES_SCHEMA, PREDICTIONS_SCHEMA, predictions_from_rows
from sightline.core.tables import fit_table
from sightline.data.formats.mot import write_mot_txt
from sightline.infer.dataset import result_rows
from sightline.infer.sinks.protocol import FrameResult, RunInfo

__all__ = ["TableSink", "coco_sink", "mot_sink", "parquet_sink"]


@dataclass(frozen=True, slots=True)
class Collected:
    """All rows of a run (`image_id` is the frame index), the file and size of each frame, and what the run was."""

    table: pl.DataFrame
    files: dict[int, str]
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
        self._files: dict[int, str] = {}
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
        frame = result.frame
        self._parts.append(result_rows(frame.index, found))
        self._files[frame.index] = frame.file if frame.file is not None else f"{frame.source}#{frame.index:06d}"
        self._sizes[frame.index] = frame.size_hw

    def close(self) -> None:
        """Write the document."""
        if self._info is not None:
            self._save(self.path, Collected(pl.concat(self._parts), self._files, self._sizes, self._info))

    def discard(self) -> None:
        """Forget the rows; nothing has been written."""
        self._parts.clear()
        self._info = None


def parquet_sink(path: str | Path) -> TableSink:
    """A predictions table as `Predictions.save` writes it, the predictor's description in its metadata."""
    return TableSink(path, "parquet", _save_parquet)


def mot_sink(path: str | Path) -> TableSink:
    """MOTChallenge results: frame from 1, id, left and top from 1, width, height, score, -1, -1, -1.

    Without a tracker every id is -1, as in files of detections. With one, detections without an id are left out: the
    benchmark's tools take -1 for one track that is in many places.
    """
    return TableSink(path, "mot", _save_mot, boxes_only=True)


def coco_sink(path: str | Path) -> TableSink:
    """COCO results: image_id (frame index), file_name, category_id (class id from 0), bbox (xywh), score, track_id.

    `file_name` says which image it is, since a run numbers the frames of its source as they come. Label maps become one
    `segmentation` (RLE) per frame and class.
    """
    return TableSink(path, "coco", _save_coco)


def _save_parquet(path: Path, collected: Collected) -> None:
    info = collected.info
    meta = {**info.meta, "source": info.source, "images": len(collected.files)}
    digest_of = {file: _digest(file) for file in {picture_file(f) for f in collected.files.values()}}
    images = [
        {"image_id": index, "path": file, "sha256": digest_of[picture_file(file)]}
        for index, file in collected.files.items()
    ]
    predictions = predictions_from_rows(collected.table, meta)
    replace(predictions, images=fit_table("images", images, PREDICTED_IMAGES_SCHEMA)).save(path)


def _digest(file: Path) -> str | None:
    """Of the file a frame came from; None for a camera's frames, and where the file is gone by now."""
    try:
        return file_sha256(file) if file.is_file() else None
    except OSError:
        return None


def _save_mot(path: Path, collected: Collected) -> None:
    columns = (pl.col("image_id").alias("frame"), pl.col("track_id").fill_null(-1), "x1", "y1", "x2", "y2", "score")
    table = collected.table.filter(pl.col("track_id").is_not_null()) if collected.info.tracked else collected.table
    write_mot_txt(path, table.select(*columns))


def _save_coco(path: Path, collected: Collected) -> None:
    entries = [_coco_entry(row, collected) for row in collected.table.iter_rows(named=True)]
    write_json_atomic(path, entries, indent=None)


def _coco_entry(row: dict[str, Any], collected: Collected) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_id": row["image_id"],
        "file_name": collected.files[row["image_id"]],
        "category_id": row["class_id"],
        "bbox": [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]],
        "score": row["score"],
    }
    if row["track_id"] is not None:
        entry["track_id"] = row["track_id"]
    if row["rle"] is not None:
        entry["segmentation"] = {
            "size": list(collected.sizes_hw[row["image_id"]]),
            "counts": row["rle"].decode("ascii"),
        }
    return entry
