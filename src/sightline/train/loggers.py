"""The numbers of a run by epoch: our own files first, then copies for TensorBoard and a local MLflow store."""

import csv
import importlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from sightline.core.errors import MissingExtraError
from sightline.core.files import plain, write_bytes_atomic, write_text_atomic
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_bytes

__all__ = ["LOGGERS", "RunLogger", "open_loggers", "write_rows"]

_EXPERIMENT = "sightline"
_RUN_TAG = "sightline.run"
_UNSAFE = re.compile(r"[^\w\-. /]")
_TEXT_LIMIT = 500  # of an MLflow parameter


class RunLogger(Protocol):
    """Takes the numbers of a run epoch by epoch; an epoch that is logged again replaces the earlier one."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """The numbers of one epoch, a row of `metrics.jsonl`."""

    def close(self, finished: bool) -> None:
        """The run has ended, or was cut."""


class TensorBoardLogger:
    """Scalars in `tensorboard/` of the run's folder; after a resume the steps from there on are written anew."""

    def __init__(self, run: Path, settings: Mapping[str, Any], epochs_done: int) -> None:
        module = _load("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(run / "tensorboard"), purge_step=epochs_done + 1)

    def epoch(self, row: Mapping[str, float]) -> None:
        """One scalar per number, at the epoch's step."""
        for name, value in _numbers(row):
            self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()


class MlflowLogger:
    """A run in the SQLite store `mlflow.db` beside the task folders; a resumed run goes on where it was."""

    def __init__(self, run: Path, settings: Mapping[str, Any], epochs_done: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
        module = _load("mlflow", "mlflow")
        runs = run.parent.parent
        self._client = module.MlflowClient(tracking_uri=f"sqlite:///{(runs / 'mlflow.db').absolute()}")
        known = self._client.get_experiment_by_name(_EXPERIMENT)
        artifacts = (runs / "mlflow-artifacts").absolute().as_uri()
        experiment = known.experiment_id if known else self._client.create_experiment(_EXPERIMENT, artifacts)
        place = run.relative_to(runs).as_posix()
        earlier = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{place}'", max_results=1)
        if earlier and epochs_done:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        created = self._client.create_run(experiment, tags={_RUN_TAG: place}, run_name=run.name)
        self._id = created.info.run_id
        for name, value in _flat(settings):
            self._client.log_param(self._id, name, str(value)[:_TEXT_LIMIT])

    def epoch(self, row: Mapping[str, float]) -> None:
        """One metric per number, at the epoch's step."""
        for name, value in _numbers(row):
            self._client.log_metric(self._id, name, value, step=int(row["epoch"]))

    def close(self, finished: bool) -> None:
        """Mark the run as finished, or as cut."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any], int], RunLogger]] = {
    "tensorboard": TensorBoardLogger,
    "mlflow": MlflowLogger,
}


def open_loggers(names: Iterable[str], run: Path, settings: Mapping[str, Any], epochs_done: int) -> list[RunLogger]:
    """The loggers of those names for a run's folder; MissingExtraError where one's package is not installed."""
    return [LOGGERS[name](run, settings, epochs_done) for name in names]


def _load(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f"logger '{package}' needs the package of that name, which is not installed",
            do="run: pip install 'sightline[loggers]'",
        ) from None


def write_rows(run: Path, rows: list[dict[str, float]]) -> None:
    """Write `metrics.jsonl` and `results.csv` of a run's folder: a row for each epoch."""
    sealed = [*rows[:-1], {**rows[-1], SEAL_KEY: UNSEALED}]  # the last row holds the seal of all
    lines = "".join(json.dumps(plain(row)) + "\n" for row in sealed)
    write_bytes_atomic(run / "metrics.jsonl", seal_bytes(lines.encode()))
    table = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomic(run / "results.csv", table.getvalue())


def _numbers(row: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    return ((_UNSAFE.sub("_", name), float(value)) for name, value in row.items() if name != "epoch")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
