"""Predictions as lines: CSV (ours, supervision's, and others with the usual column names) and our JSON Lines."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.core.text import parse_json
from sightline.data.layout import read_text
from sightline.data.predictions.coco import NAME_KEYS
from sightline.data.predictions.rows import Found, predictions_of

__all__ = ["read_csv_predictions", "read_jsonl_predictions"]

_CORNERS = (("x1", "y1", "x2", "y2"), ("x_min", "y_min", "x_max", "y_max"), ("xmin", "ymin", "xmax", "ymax"))
_SCORES, _CLASSES = ("score", "confidence", "conf"), ("class_name", "class_id", "class", "label", "name")


def read_csv_predictions(path: str | Path, dataset: Dataset) -> Predictions:
    """A CSV with a row for each box: corners in pixels, a score, a class, and the name of the image.

    DataError, naming the line, for columns that are missing and values that are none.
    """
    file = Path(path)
    try:
        rows = list(csv.DictReader(read_text(file).splitlines()))
    except csv.Error as error:
        raise DataError(f"must be a table of comma-separated values, got: {error}", where=str(file)) from None
    columns = list(rows[0]) if rows else []
    name = _column(columns, NAME_KEYS, "the name of the image", file)
    corners = next((c for c in _CORNERS if set(c) <= set(columns)), None)
    if corners is None and rows:
        raise DataError("must have the columns x1, y1, x2, y2 (or x_min, …), got none of these", where=str(file))
    score = _column(columns, _SCORES, "the score", file)
    label = _column(columns, _CLASSES, "the class", file)
    found = []
    for line, row in enumerate(rows, start=2):
        where = f"{file}:{line}"
        if None in row or None in row.values():
            raise DataError(f"a row must have {len(columns)} cells as the header has, got another number", where=where)
        try:
            box = np.array([float(row[c]) for c in corners or ()])
            found.append(Found(row[name], _label(row[label]), float(row[score]), box, where, None, _track(row)))
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"boxes, scores and ids must be numbers, got: {error}", where=where) from None
    return predictions_of(dataset, found, [], str(file), f"CSV {file.name}")


def _column(columns: list[str], names: tuple[str, ...], what: str, file: Path) -> str:
    chosen = next((n for n in names if n in columns), None)
    if chosen is None and columns:
        message = f"must have a column with {what} ({', '.join(names)}), got {', '.join(map(str, columns))}"
        raise DataError(message, where=f"{file}:1")
    return chosen or ""


def _label(text: str) -> str | int:
    return int(float(text)) if text.replace(".", "", 1).isdecimal() and float(text).is_integer() else text


def _track(row: dict[str, str]) -> int | None:
    text = row.get("track_id") or row.get("tracker_id") or ""
    return int(float(text)) if text else None


def read_jsonl_predictions(path: str | Path, dataset: Dataset) -> Predictions:
    """What `sightline run --save jsonl` writes: one object per frame with its `source` and its `detections`.

    DataError, naming the line, for anything else.
    """
    file = Path(path)
    found: list[Found] = []
    images: list[str] = []
    for line, text in enumerate(read_text(file).splitlines(), start=1):
        where = f"{file}:{line}"
        try:
            record = parse_json(text)
            images.append(_text_of(record["source"], "source"))
            found += [_of_frame(d, images[-1], where) for d in record["detections"]]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            message = f"must be a frame's result with source and detections, got: {error!r:.80}"
            raise DataError(message, where=where) from None
    return predictions_of(dataset, found, images, str(file), f"JSON Lines {file.name}")


def _of_frame(detection: dict[str, Any], image: str, where: str) -> Found:
    box = _numbers(detection["box_xyxy"], 4, "box_xyxy")
    label = _text_of(detection["class_name"], "class_name") if detection["class_name"] else int(detection["class_id"])
    points = [v for point in detection.get("keypoints") or () for v in _numbers(point, 3, "a keypoint")]
    track, score = detection["track_id"], float(detection["score"])
    turned = None if detection.get("oriented") is None else _numbers(detection["oriented"], 5, "oriented")
    return Found(image, label, score, np.array(box), where, None, track, keypoints=points or None, oriented=turned)


def _numbers(values: Any, count: int, name: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{name} must be {count} numbers, got {values!r:.60}")
    return [float(v) for v in values]


def _text_of(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {value!r:.60}")
    return value
