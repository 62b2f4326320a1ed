"""Predictions in the formats other tools speak: COCO results in, MOTChallenge results out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.data.formats.mot.sequence import write_mot_txt
from sightline.ops import rle as rle_codes

__all__ = ["read_coco_results", "write_mot_predictions"]


def read_coco_results(path: str | Path, dataset: Dataset) -> Predictions:
    """COCO results, a JSON list of `image_id, category_id, score` and `bbox` or `segmentation`, for this data set.

    Category ids are those of the data set's source. A mask without a box gets its own tight box. Raises DataError,
    naming the entry, for what is not such a list or belongs to another data set.
    """
    file = Path(path)
    try:
        entries = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror})", where=str(file)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"must be JSON, got: {error}", where=str(file)) from None
    if not isinstance(entries, list):
        raise DataError(f"COCO results must be a list, got a JSON {type(entries).__name__}", where=str(file))
    by_source = {s: c for c, s in dataset.classes.select("class_id", "source_id").iter_rows() if s is not None}
    class_of = by_source or {i: i for i in range(dataset.classes.height)}
    sizes = {i: (h, w) for i, h, w in dataset.images.select("image_id", "height", "width").iter_rows()}
    rows = [_row(entry, f"{file}: entry {n}", class_of, sizes) for n, entry in enumerate(entries)]
    meta = {"task": dataset.task, "class_names": dataset.class_names, "backend": f"COCO results {file.name}"}
    return predictions_from_rows(rows, meta, where=str(file))


def write_mot_predictions(dataset: Dataset, predictions: Predictions, folder: str | Path) -> list[Path]:
    """Write `<folder>/<sequence>.txt` for each sequence of the data set; returns the files.

    Sequences without a track get an empty file, so that nobody takes them for forgotten.
    """
    frames = dataset.images.select("image_id", "group", "frame")
    placed = predictions.table.join(frames, on="image_id", how="left", maintain_order="left")
    written = []
    for name in frames["group"].drop_nulls().unique(maintain_order=True):
        target = Path(folder) / f"{name}.txt"
        columns = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
        write_mot_txt(target, placed.filter(pl.col("group") == name).select(columns))
        written.append(target)
    return written


def _row(entry: Any, where: str, class_of: dict[int, int], sizes: dict[int, tuple[int, int]]) -> dict[str, Any]:
    if not isinstance(entry, dict) or not {"image_id", "category_id", "score"} <= entry.keys():
        raise DataError("must have image_id, category_id and score, got an entry without", where=where)
    image_id, category_id, score = entry["image_id"], entry["category_id"], entry["score"]
    if not _is_key(image_id, sizes):
        raise DataError(f"image_id must be one of the data set's, got {image_id!r}", where=where)
    if not _is_key(category_id, class_of):
        raise DataError(f"category_id must be one of {sorted(class_of)[:20]}, got {category_id!r}", where=where)
    row: dict[str, Any] = {"image_id": image_id, "class_id": class_of[category_id], "score": score, "rle": None}
    try:
        if entry.get("segmentation") is not None:
            row["rle"] = _counts(entry["segmentation"], sizes[image_id])
        if entry.get("bbox") is not None:
            x, y, width, height = (float(v) for v in entry["bbox"])
            box = np.array([x, y, x + width, y + height])
        elif row["rle"] is not None:
            box = rle_codes.to_box(row["rle"], sizes[image_id])
        else:
            raise DataError("must have a bbox or a segmentation, got neither", where=where)
        row["score"] = float(score)
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"bbox, segmentation and score must be numbers as COCO has them, got: {error}", where=where
        ) from None
    return row | dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))


def _is_key(value: Any, table: dict[int, Any]) -> bool:
    return isinstance(value, (int, float)) and value in table


def _counts(segmentation: Any, size_hw: tuple[int, int]) -> bytes:
    if isinstance(segmentation, list):
        return rle_codes.from_polygons(segmentation, size_hw)
    if list(segmentation["size"]) != list(size_hw):
        raise ValueError(f"a mask of size {list(size_hw)} is needed, not {segmentation['size']}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return rle_codes.runs_to_counts(np.asarray(counts, np.int64), size_hw)
    code = counts.encode() if isinstance(counts, str) else bytes(counts)
    rle_codes.area(code)  # refuses what does not decode
    return code
