"""What a run folder holds, read once: each part or its absence, never a made-up value."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import sightline.audit.splits
from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, InputError, at
from sightline.core.files import check_regular
from sightline.core.predictions import Predictions
from sightline.core.runs import read_record
from sightline.core.seal import SEAL_KEY, check_seal
from sightline.core.text import parse_json
from sightline.data import read_dataset
from sightline.data.splits import exclude_images

__all__ = ["DataNow", "RunRecord", "evaluated_part", "read_data_now", "read_run", "reading"]


_AGAIN = "Make the file again with the verb that wrote it"
_LARGEST = 1e30  # no number of a run is near it; beyond, sums over epochs may leave what a float holds
_OTHER_THAN_WRITTEN = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, pl.exceptions.PolarsError,
)  # fmt: skip


@contextmanager
def reading(folder: Path, *names: str) -> Iterator[None]:
    """Work on files of a run, which hold what anybody wrote there: DataError, naming them, where that is in the way."""
    try:
        yield
    except _OTHER_THAN_WRITTEN as error:
        got = f"{type(error).__name__}: {' '.join(str(error).split())}"
        message = f"must hold what sightline writes there, got something else ({got:.160})"
        raise DataError(message, where=str(folder / " or ".join(names)), do=_AGAIN) from error


@dataclass(frozen=True)
class RunRecord:
    """The parts of `runs/<task>/<name>/`; None (or empty) where the run did not leave that part.

    `run` is `run.json`, `config` the text of `config.yaml`, `epochs` the rows of `metrics.jsonl`, `strips` are
    the prediction strips of `figures/`; the others are the JSON files of their names. `others` are the evaluations of
    other splits, by file name (`evaluation-test.json`).
    """

    folder: Path
    run: dict[str, Any]
    config: str | None
    epochs: tuple[dict[str, Any], ...]
    audit: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    others: dict[str, dict[str, Any]]
    export: dict[str, Any] | None
    video: dict[str, Any] | None
    tracking: dict[str, Any] | None
    predictions: Predictions | None
    strips: tuple[Path, ...]

    @property
    def task(self) -> str:
        """The run's task, or `unknown`."""
        return str(self.run.get("task") or "unknown")

    @property
    def part(self) -> dict[str, Any]:
        """The `data` entry of `run.json`, empty where there is none."""
        return dict(self.run.get("data") or {})

    @property
    def settings(self) -> dict[str, Any]:
        """What `config.yaml` says, without its sections: each setting by its short name; empty without the file."""
        value = read_yaml(self.folder / "config.yaml") if self.config else None
        flat: dict[str, Any] = {}
        for key, part in (value if isinstance(value, dict) else {}).items():
            flat |= part if isinstance(part, dict) else {key: part}
        return flat

    @property
    def data_digest(self) -> str | None:
        """The digest of the data as it was when the run used it."""
        digest = self.part.get("digest") or self.run.get("data_digest")
        return str(digest) if digest else None


def read_run(folder: str | Path) -> RunRecord:
    """The record of a run folder. DataError where there is no `run.json`, or where a file in it is damaged."""
    path = Path(folder)
    try:
        run = read_record(path / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            "must be a run folder with a run.json, got none",
            where=str(path),
            do="give the folder that 'sightline train' made",
        ) from None
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror})", where=str(path / "run.json")) from None
    predictions = path / "predictions.parquet"
    return RunRecord(
        folder=path,
        run=run,
        config=_settings(path / "config.yaml", run.get("config_sha256")),
        epochs=_epochs(path / "metrics.jsonl", run),
        audit=_object(path / "audit.json"),
        evaluation=_object(path / "evaluation.json"),
        others={p.name: value for p in sorted(path.glob("evaluation-*.json")) if (value := _object(p)) is not None},
        export=_object(path / "export.json"),
        video=_object(path / "video.json"),
        tracking=_object(path / "tracking.json"),
        predictions=Predictions.load(predictions) if predictions.exists() else None,
        strips=tuple(sorted((path / "figures").glob("strip-*.jpg"))),
    )


def _settings(path: Path, digest: object) -> str | None:
    """The text of `config.yaml`, which must be what the run used: its page shows the settings beside the numbers."""
    text = _text(path)
    if text is not None and digest is not None and hashlib.sha256(text.encode()).hexdigest() != digest:
        message = "must be the settings of the run, got a file that was damaged or edited since"
        raise DataError(message, where=str(path), do="Put it back as it was")
    return text


def _epochs(path: Path, run: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The rows of `metrics.jsonl`; a finished run has one for each of its epochs."""
    rows = _rows(path)
    done = run.get("epochs_done")
    if path.exists() and run.get("status") == "finished" and done is not None and len(rows) != done:
        raise DataError(f"must have a row for each of {done} epochs, got {len(rows)}", where=str(path), do=_AGAIN)
    return rows


def _text(path: Path) -> str | None:
    try:
        check_regular(path)
        data = path.read_bytes()
        check_seal(data, path, DataError, _AGAIN)
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror})", where=str(path)) from None
    except UnicodeDecodeError:
        raise DataError("must be UTF-8 text, got other bytes", where=str(path)) from None


def _object(path: Path) -> dict[str, Any] | None:
    text = _text(path)
    return None if text is None else _parse(text, path, 0)


def _rows(path: Path) -> tuple[dict[str, Any], ...]:
    lines = (_text(path) or "").splitlines()
    return tuple(
        _epoch(_parse(line, path, number), at(path, number + 1)) for number, line in enumerate(lines) if line.strip()
    )


def _epoch(row: dict[str, Any], where: str) -> dict[str, Any]:
    wrong = [
        name for name, value in row.items() if type(value) not in {int, float, type(None)} or abs(value or 0) > _LARGEST
    ]
    epoch = row.get("epoch")
    if isinstance(epoch, float) and epoch.is_integer():  # as runs that earlier versions resumed have it
        row["epoch"] = epoch = int(epoch)
    if wrong or not isinstance(epoch, int):
        name = wrong[0] if wrong else "epoch"
        raise DataError(f"'{name:.60}' of an epoch must be a number, got {row.get(name)!r:.60}", where=where)
    return row


def _parse(text: str, path: Path, lines_before: int) -> dict[str, Any]:
    try:
        value = parse_json(text, bounded=True)
    except json.JSONDecodeError as error:
        raise DataError(f"must be JSON, got: {error.msg}", where=at(path, lines_before + error.lineno)) from None
    except ValueError as error:
        raise DataError(f"must be JSON, got: {error}", where=at(path, lines_before + 1)) from None
    if not isinstance(value, dict):
        raise DataError(f"must be a JSON object, got a {type(value).__name__}", where=at(path, lines_before + 1))
    value.pop(SEAL_KEY, None)
    return value


@dataclass(frozen=True)
class DataNow:
    """The data set as it is now, or `problem`, the sentence that says why it could not be read.

    `unchanged` compares digests with the run's; None where the run recorded none.
    """

    dataset: Dataset | None
    digest: str | None
    unchanged: bool | None
    problem: str | None


def read_data_now(record: RunRecord, path: str | Path | None = None) -> DataNow:
    """Read the data set the run names, or the one at `path` where it has moved, and compare digests."""
    place = path if path is not None else record.part.get("path")
    if place is None:
        return DataNow(None, None, None, "run.json names no data set")
    try:
        dataset = _as_used(read_dataset(place), record)
        digest = dataset.digest()
    except InputError as error:
        return DataNow(None, None, None, str(error))
    known = record.data_digest
    return DataNow(dataset, digest, None if known is None else known == digest, None)


def evaluated_part(dataset: Dataset, record: RunRecord) -> Dataset:
    """The split the run's evaluation is about; the whole where it names none."""
    split = (record.evaluation or {}).get("conventions", {}).get("split")
    names = [name.strip() for name in str(split or "").split(",")]
    if not set(names) <= set(dataset.splits):
        return dataset
    chosen = dataset.images.filter(pl.col("split").is_in(names))
    return dataset.select(chosen["image_id"])


def _as_used(dataset: Dataset, record: RunRecord) -> Dataset:
    """Training leaves out what `exclude` names and divides data without splits; both stand in the run's settings."""
    kept = exclude_images(dataset, tuple(map(str, record.part.get("excluded") or ())))
    settings = record.settings
    if "val_fraction" not in settings or kept.splits:
        return kept
    divided, _ = sightline.audit.splits.hold_out(
        kept,
        train=str(settings["split_train"]),
        val=str(settings["split_val"]),
        fraction=float(settings["val_fraction"]),
        seed=int(settings["seed"]),
    )
    return divided
