"""Results as lines of text, written as they come: JSON Lines, CSV, and the association log."""

import csv
import io
import json
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.errors import ConfigError
from sightline.core.files import plain
from sightline.infer.dataset import track_ids
from sightline.infer.object_masks import mask_codes
from sightline.infer.sinks.protocol import FrameResult, PendingFile, RunInfo
from sightline.ops import rle

__all__ = ["LineSink", "association_sink", "csv_sink", "detection_records", "jsonl_sink"]

CSV_COLUMNS = (
    "frame",
    "time_s",
    "source",
    "track_id",
    "class_id",
    "class_name",
    "score",
    "x1",
    "y1",
    "x2",
    "y2",
    "area_px",
)


class LineSink:
    """A text file that grows frame by frame: `lines` turns one into text, `head` comes first, `tail` last.

    `separator` stands between the texts of frames that have any.
    """

    needs_picture = False

    def __init__(
        self,
        path: str | Path,
        kind: str,
        lines: Callable[[FrameResult], str],
        *,
        head: str = "",
        separator: str = "",
        tail: str = "",
        needs_tracker: bool = False,
        boxes_only: bool = False,
    ) -> None:
        self.path = Path(path)
        self.kind = kind
        self._lines = lines
        self._head, self._separator, self._tail = head, separator, tail
        self._needs_tracker, self._boxes_only = needs_tracker, boxes_only
        self._begun = False
        self._pending: PendingFile | None = None
        self._stream: FileIO | None = None
        self._whole = 0

    def open(self, info: RunInfo) -> None:
        """Create the temporary file; ConfigError for a log of a tracker without one, and for boxes of label maps."""
        if self._boxes_only and info.task == "semantic":
            message = f"a {self.kind} file holds boxes, got a model of label maps"
            raise ConfigError(message, where=str(self.path), do="use jsonl or parquet")
        if self._needs_tracker and not info.tracked:
            raise ConfigError("an association log must have a tracker to log, got none", where=str(self.path))
        self._pending = PendingFile(self.path)
        self._stream = FileIO(self._pending.temporary, "w")
        self._whole, self._begun = 0, False
        self._append(self._head)

    def write(self, result: FrameResult) -> None:
        """Append the text of one frame."""
        text = self._lines(result)
        self._append(self._separator + text if text and self._begun else text)
        self._begun = self._begun or bool(text)

    def close(self) -> None:
        """Complete the file."""
        if self._stream is not None and self._pending is not None:
            self._append(self._tail)
            self._stream.close()
            self._pending.commit()

    def _append(self, text: str) -> None:
        """All of the text or nothing: a full disk takes part of it, and no file ends within a frame."""
        assert self._stream is not None
        left = text.encode()
        total = self._whole + len(left)
        try:
            while left:
                left = left[self._stream.write(left) :]
        except OSError:
            self._stream.truncate(self._stream.seek(self._whole))
            raise
        self._whole = total

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._stream is not None and self._pending is not None:
            self._stream.close()
            self._pending.discard()


def jsonl_sink(path: str | Path) -> LineSink:
    """One JSON object per frame, empty frames included: frame, time_s, source, and `detections` or `classes`.

    A detection has class_id, class_name, score, box_xyxy and track_id (null when not tracked), with a mask area_px, rle
    (COCO compressed counts) and size_hw, with keypoints [x, y, score] of each, with an oriented box that
    (cx, cy, w, h, angle); a class of a label map has class_id, class_name, area_px, box_xyxy, rle and size_hw.
    """
    return LineSink(path, "jsonl", _json_line)


def csv_sink(path: str | Path) -> LineSink:
    """One row per detection, or per class that occurs in a label map (then without score and track).

    `area_px` is that of the mask where there is one, else of the box. Frames without any leave no row. Of keypoints and
    oriented boxes the upright box alone is kept.
    """
    return LineSink(path, "csv", _csv_lines, head=_csv_text([CSV_COLUMNS]))


def association_sink(path: str | Path) -> LineSink:
    """The tracker's log as JSON Lines: for each detection and each lost track what was decided, and why."""
    return LineSink(path, "association", _association_lines, needs_tracker=True)


def _json_line(result: FrameResult) -> str:
    frame = result.frame
    record: dict[str, Any] = {"frame": frame.index, "time_s": frame.time_s, "source": frame.source}
    if result.semantic is not None:
        record["classes"] = _class_records(result, with_rle=True)
    else:
        record["detections"] = detection_records(result)
    return json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n"


def _csv_lines(result: FrameResult) -> str:
    frame = result.frame
    start = (frame.index, frame.time_s, frame.source)
    if result.semantic is not None:
        classes = _class_records(result, with_rle=False)
        return _csv_text(
            [(*start, None, c["class_id"], c["class_name"], None, *c["box_xyxy"], c["area_px"]) for c in classes]
        )
    rows = []
    for d in detection_records(result):
        x1, y1, x2, y2 = d["box_xyxy"]
        area = d.get("area_px", (x2 - x1) * (y2 - y1))
        rows.append((*start, d["track_id"], d["class_id"], d["class_name"], d["score"], x1, y1, x2, y2, area))
    return _csv_text(rows)


def _association_lines(result: FrameResult) -> str:
    if result.association is None:
        return ""
    rows = (plain(row) | {"frame": result.frame.index} for row in result.association.to_rows())
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def detection_records(result: FrameResult) -> list[dict[str, Any]]:
    """The detections of a frame as plain dictionaries: class_id, class_name, score, box_xyxy, track_id; with masks also
    area_px, size_hw and rle; with keypoints or oriented boxes also these.
    """
    detections = result.detections
    if detections is None:
        return []
    count = len(detections)
    boxes = np.asarray(detections.xyxy, np.float64)
    names = detections.data.get("class_name", [None] * count)
    others = [detections.data.get(name, [None] * count) for name in ("keypoints", "oriented")]
    columns = [
        [None] * count if values is None else np.asarray(values).tolist()
        for values in (detections.class_id, detections.confidence)
    ]
    return [
        {
            "class_id": class_id,
            "class_name": None if name is None else str(name),
            "score": score,
            "box_xyxy": box.tolist(),
            "track_id": track,
            **({} if code is None else _mask_record(code, result.frame.size_hw)),
            **({} if points is None else {"keypoints": np.asarray(points).tolist()}),
            **({} if turned is None else {"oriented": np.asarray(turned).tolist()}),
        }
        for box, name, class_id, score, track, code, points, turned in zip(
            boxes, names, *columns, track_ids(detections), mask_codes(detections), *others, strict=True
        )
    ]


def _mask_record(code: bytes, size_hw: tuple[int, int]) -> dict[str, Any]:
    return {"area_px": rle.area(code), "size_hw": list(size_hw), "rle": code.decode("ascii")}


def _class_records(result: FrameResult, *, with_rle: bool) -> list[dict[str, Any]]:
    assert result.semantic is not None
    ids, names = result.semantic.class_ids, result.semantic.class_names
    records = []
    for class_id in np.unique(ids).tolist():
        counts = rle.encode(ids == class_id)
        record = {
            "class_id": class_id,
            "class_name": names[class_id],
            "area_px": rle.area(counts),
            "box_xyxy": rle.to_box(counts, ids.shape).tolist(),
        }
        if with_rle:
            record |= {"size_hw": list(ids.shape), "rle": counts.decode("ascii")}
        records.append(record)
    return records


def _csv_text(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
