"""Results as tables, written as they come: MOTChallenge text, COCO results JSON, Parquet."""

import errno
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.files import file_sha256, plain
from sightline.core.frames import Frame, picture_file
from sightline.core.predictions import (
    PREDICTED_IMAGES_SCHEMA,
    PREDICTIONS_SCHEMA,
    Predictions,
    predictions_from_rows,
)
from sightline.core.seal import seal_file
from sightline.core.tables import fit_table
from sightline.data.formats.mot import mot_text
from sightline.infer.dataset import result_rows
from sightline.infer.sinks.protocol import FrameResult, PendingFile, RunInfo
from sightline.infer.sinks.text import LineSink

__all__ = ["ParquetSink", "coco_sink", "mot_sink", "parquet_sink"]

_FRAMES_IN_MEMORY = 512  # the table of one frame takes some kilobytes, however few its rows
_SEPARATOR = ", "


class ParquetSink:
    """A predictions table as `Predictions.save` writes it: in parts beside its place, which become one file at the end.

    Kept in memory are the rows of the last frames and the names of all.
    """

    kind = "parquet"
    needs_picture = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._info: RunInfo | None = None

    def open(self, info: RunInfo) -> None:
        """Make the temporary file and the folder of its parts."""
        self._info = info
        self._pending = PendingFile(self.path)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.stem[:40]}-", dir=self.path.parent))
        self._waiting: list[pl.DataFrame] = []
        self._parts: list[Path] = []
        self._files: dict[int, str] = {}

    def write(self, result: FrameResult) -> None:
        """Take the rows of one frame."""
        self._waiting.append(result_rows(result.frame.index, _found(result)))
        self._files[result.frame.index] = _file(result.frame)
        if len(self._waiting) == _FRAMES_IN_MEMORY:
            self._write_part()

    def close(self) -> None:
        """Join the parts to the file."""
        if self._info is None:
            return
        self._write_part()
        table = pl.scan_parquet(self._parts)
        try:
            table.sink_parquet(self._pending.temporary, metadata=self._metadata(self._info))
        except pl.exceptions.PolarsError as error:  # as which polars reports a full disk
            raise OSError(errno.EIO, str(error).splitlines()[0], str(self.path)) from None
        shutil.rmtree(self._folder)
        seal_file(self._pending.temporary)
        self._pending.commit()
        self._info = None

    def discard(self) -> None:
        """Remove what was written."""
        if self._info is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._pending.discard()
            self._info = None

    def _write_part(self) -> None:
        rows = pl.concat([pl.DataFrame(schema=PREDICTIONS_SCHEMA), *self._waiting])
        self._parts.append(self._folder / f"{len(self._parts):06d}.parquet")
        part = io.BytesIO()
        predictions_from_rows(rows, {}).table.write_parquet(part)
        self._parts[-1].write_bytes(part.getvalue())
        self._waiting.clear()

    def _metadata(self, info: RunInfo) -> dict[str, str]:
        meta = {**info.meta, "source": info.source, "images": len(self._files)}
        digest_of = {file: _digest(file) for file in {picture_file(f) for f in self._files.values()}}
        images = [
            {"image_id": index, "path": file, "sha256": digest_of[picture_file(file)]}
            for index, file in self._files.items()
        ]
        named = fit_table("images", images, PREDICTED_IMAGES_SCHEMA)
        return Predictions(pl.DataFrame(schema=PREDICTIONS_SCHEMA), meta, named).file_metadata()


def parquet_sink(path: str | Path) -> ParquetSink:
    """A predictions table as `Predictions.save` writes it, the predictor's description in its metadata."""
    return ParquetSink(path)


def mot_sink(path: str | Path) -> LineSink:
    """MOTChallenge results: frame from 1, id, left and top from 1, width, height, score, -1, -1, -1.

    Without a tracker every id is -1, as in files of detections. With one, detections without an id are left out: the
    benchmark's tools take -1 for one track that is in many places.
    """
    return LineSink(path, "mot", _mot_lines, boxes_only=True)


def coco_sink(path: str | Path) -> LineSink:
    """COCO results: image_id (frame index), file_name, category_id (class id from 0), bbox (xywh), score, track_id.

    `file_name` says which image it is, since a run numbers the frames of its source as they come. Masks become
    `segmentation` (RLE), keypoints `keypoints` (x, y, score of each), oriented boxes `oriented` (cx, cy, w, h,
    angle), label maps one per frame and class.
    """
    return LineSink(path, "coco", _coco_entries, head="[", separator=_SEPARATOR, tail="]\n")


def _found(result: FrameResult) -> Any:
    return result.semantic if result.detections is None else result.detections


def _file(frame: Frame) -> str:
    return frame.file if frame.file is not None else f"{frame.source}#{frame.index:06d}"


def _digest(file: Path) -> str | None:
    """Of the file a frame came from; None for a camera's frames, and where the file is gone by now."""
    try:
        return file_sha256(file) if file.is_file() else None
    except OSError:
        return None


def _mot_lines(result: FrameResult) -> str:
    table = result_rows(result.frame.index, result.detections)
    if result.detections is not None and result.detections.tracker_id is not None:
        table = table.filter(pl.col("track_id").is_not_null())
    ids = pl.col("track_id").fill_null(-1)
    return mot_text(table.select(pl.col("image_id").alias("frame"), ids, "x1", "y1", "x2", "y2", "score"))


def _coco_entries(result: FrameResult) -> str:
    rows = result_rows(result.frame.index, _found(result)).iter_rows(named=True)
    entries = (plain(_coco_entry(row, result.frame)) for row in rows)
    return _SEPARATOR.join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries)


def _coco_entry(row: dict[str, Any], frame: Frame) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_id": row["image_id"],
        "file_name": _file(frame),
        "category_id": row["class_id"],
        "bbox": [row["x1"], row["y1"], row["x2"] - row["x1"], row["y2"] - row["y1"]],
        "score": row["score"],
    }
    if row["track_id"] is not None:
        entry["track_id"] = row["track_id"]
    if row["rle"] is not None:
        entry["segmentation"] = {"size": list(frame.size_hw), "counts": row["rle"].decode("ascii")}
    if row["keypoints"] is not None:
        entry["keypoints"] = row["keypoints"]
    if row["oriented"] is not None:
        entry["oriented"] = row["oriented"]
    return entry
