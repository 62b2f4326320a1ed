"""Tracking metrics of a data set's predictions, and of MOTChallenge text files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError, at
from sightline.core.files import check_regular
from sightline.core.predictions import Predictions
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.tracking.doubts import doubts
from sightline.evaluate.tracking.result import TrackingResult, evaluate_sequences
from sightline.evaluate.tracking.sequences import (
    DISTRACTORS,
    PEDESTRIAN,
    Preprocessing,
    TrackRows,
    match_sequence,
    track_rows,
)
from sightline.ops.boxes import xywh_to_xyxy


def evaluate_tracking(
    dataset: Dataset, predictions: Predictions, *, preprocessing: Preprocessing = "mot15"
) -> TrackingResult:
    """HOTA, CLEAR and Identity of each group (sequence) of the data set and of all combined.

    Tracks are matched across classes; crowd and ignored objects count as zero-marked. `mot17` and `mot20` read the
    benchmark's class numbers from `classes.source_id`. Sequences without predictions count as missed. Raises DataError
    where predictions are for other images, carry no track id, or repeat one within a frame.
    """
    predictions = fit_predictions(dataset, predictions)
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
    sequences, doubted = [], []
    for name, count in frames.group_by("group").agg(pl.col("frame").max() + 1).sort("group").iter_rows():
        here = pl.col("group") == name
        sides = _rows(truth.filter(here), ignored=True), _rows(predicted.filter(here), ignored=False)
        matched = match_sequence(str(name), *sides, preprocessing=preprocessing, frame_count=int(count))
        sequences.append(matched)
        doubted += doubts(str(name), *sides, matched, int(count))
    conventions = describe_inputs(dataset, predictions) | {"sequences": len(sequences), "classes": "matched as one"}
    return evaluate_sequences(sequences, conventions, preprocessing, doubted)


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


Table = npt.NDArray[np.float64]
_MIN_COLUMNS = 6


def read_track_rows(path: str | Path) -> TrackRows:
    """The rows of a MOTChallenge text file, `frame, id, x, y, width, height[, flag or confidence[, class, …]]`.

    The corner is taken as written, so that similarities equal the reference's; frames become 0-based. A 7th value that
    truncates to 0 marks ground truth that does not count. Raises DataError with the line of the first unusable row.
    """
    table = _read_table(Path(path))
    frames = table[:, 0].astype(np.int64)
    if len(frames) and frames.min() < 1:
        line = int(np.argmax(frames < 1)) + 1
        raise DataError(f"frame numbers must be at least 1, got {frames.min()}", where=at(path, line))
    return track_rows(
        frames - 1,
        table[:, 1].astype(np.int64),
        xywh_to_xyxy(table[:, 2:6]),
        table[:, 7].astype(np.int64) if table.shape[1] > 7 else None,
        table[:, 6].astype(np.int64) == 0 if table.shape[1] > 6 else None,
    )


def evaluate_mot_files(
    truth: Mapping[str, str | Path],
    predicted: Mapping[str, str | Path],
    *,
    preprocessing: Preprocessing = "mot15",
    frames: Mapping[str, int] | None = None,
) -> TrackingResult:
    """HOTA, CLEAR and Identity of text files, by sequence name.

    Both mappings must name the same sequences; `frames` says how long they are, where known: boxes beyond that count as
    false and are warned of. Under `mot17` and `mot20` predictions of a class above 1 are refused, as
    the reference does.
    """
    if set(truth) != set(predicted):
        differing = sorted(set(truth) ^ set(predicted))
        raise DataError(
            f"ground truth and predictions must be of the same sequences, got only one side of {', '.join(differing)}"
        )
    sequences, doubted = [], []
    for name in sorted(truth):
        rows, found = read_track_rows(truth[name]), read_track_rows(predicted[name])
        if preprocessing in {"mot17", "mot20"} and len(found) and found.class_numbers.max() > PEDESTRIAN:
            raise DataError(
                f"predictions must be of class {PEDESTRIAN} (pedestrian), got class {found.class_numbers.max()}",
                where=str(predicted[name]),
            )
        matched = match_sequence(name, rows, found, preprocessing=preprocessing)
        sequences.append(matched)
        doubted += doubts(name, rows, found, matched, (frames or {}).get(name))
    conventions: dict[str, Any] = {"data": "MOTChallenge text files", "sequences": len(sequences)}
    return evaluate_sequences(sequences, conventions, preprocessing, doubted)


def evaluate_mot_results(
    dataset: Dataset, results: str | Path, *, preprocessing: Preprocessing = "mot15"
) -> TrackingResult:
    """HOTA, CLEAR and Identity of results as text, against the `gt/gt.txt` of the data set's sequences.

    `results` is a folder with one `<sequence>.txt` each, or the file of the only sequence. ConfigError where a sequence
    has no ground truth, or there are several and one file.
    """
    names = dataset.images["group"].drop_nulls().unique(maintain_order=True).to_list()
    path = Path(results)
    truth = {name: _ground_truth(dataset, name) for name in names}
    if not path.is_dir() and len(names) != 1:
        raise ConfigError(
            f"results of {len(names)} sequences must be a folder of .txt files, got one file", where=str(path)
        )
    predicted = {name: path / f"{name}.txt" if path.is_dir() else path for name in names}
    frames = dict(dataset.images.group_by("group").agg(pl.col("frame").max() + 1).iter_rows())
    return evaluate_mot_files(truth, predicted, preprocessing=preprocessing, frames=frames)


def _ground_truth(dataset: Dataset, sequence: str) -> Path:
    for candidate in (dataset.root / sequence / "gt" / "gt.txt", dataset.root / "gt" / "gt.txt"):
        if candidate.is_file():
            return candidate
    raise ConfigError(f"sequence '{sequence}' must have gt/gt.txt to be measured, got none", where=str(dataset.root))


def _read_table(path: Path) -> Table:
    """All values (rows, columns): the fast parser where the file is plain, line by line where it is not."""
    try:
        check_regular(path)
        if path.stat().st_size == 0:
            return np.zeros((0, _MIN_COLUMNS))
        frame = pl.read_csv(path, has_header=False, infer_schema=False)
        table: Table = frame.cast(pl.Float64).to_numpy()
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=str(path)) from None
    except pl.exceptions.PolarsError:
        return _read_lines(path)
    return table if table.shape[1] >= _MIN_COLUMNS and np.isfinite(table).all() else _read_lines(path)


def _read_lines(path: Path) -> Table:
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = [float(value) for value in line.replace(",", " ").split()]
        except ValueError:
            values = []
        width = len(rows[0]) if rows else len(values)
        if len(values) < _MIN_COLUMNS or len(values) != width or not np.isfinite(values).all():
            raise DataError(
                f"a row must be numbers, at least {_MIN_COLUMNS} and as many as in the first row, got '{line[:60]}'",
                where=at(path, number),
            )
        rows.append(values)
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else _MIN_COLUMNS)
