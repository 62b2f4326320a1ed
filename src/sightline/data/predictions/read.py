"""The one way from a file or folder of predictions to `Predictions` of a data set; and MOTChallenge files out."""

from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.data.formats.mot import write_mot_txt
from sightline.data.predictions.coco import read_coco_results
from sightline.data.predictions.folders import read_folder_predictions
from sightline.data.predictions.lines import read_csv_predictions, read_jsonl_predictions

__all__ = ["read_predictions", "write_mot_predictions"]


def read_predictions(path: str | Path, dataset: Dataset) -> Predictions:
    """Predictions for this data set: our Parquet, COCO results (.json), CSV, our JSON Lines, or a folder with a file
    for each image (YOLO text with confidences, masks). DataError for anything else, and for what is no such file.
    """
    file = Path(path)
    if not file.exists():
        raise DataError("must be a file or folder of predictions, got nothing there", where=str(file))
    if file.is_dir():
        return read_folder_predictions(file, dataset)
    readers = {".json": read_coco_results, ".csv": read_csv_predictions, ".jsonl": read_jsonl_predictions}
    if file.suffix.lower() in readers:
        return readers[file.suffix.lower()](file, dataset)
    return Predictions.load(file)


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
