"""What ablation and search share: a file that describes them, and runs that are made, continued or already there."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sightline.models
from sightline.core.errors import ConfigError, SightlineError
from sightline.core.files import write_json_atomic, write_text_atomic
from sightline.core.plugins import given_files
from sightline.core.results import Result
from sightline.core.runs import RunFolder, read_record
from sightline.core.seal import SEAL_KEY, check_seal
from sightline.core.text import parse_json
from sightline.train.config import TrainConfig, nest_settings

__all__ = [
    "RunOutcome",
    "merge_settings",
    "read_object",
    "read_outcome",
    "read_rows",
    "run_in_process",
    "settings_of",
    "task_of",
    "write_tables",
]


@dataclass(frozen=True)
class RunOutcome:
    """A finished run: the rows of `metrics.jsonl`, the metrics of the final evaluation, and how long it took."""

    path: Path
    rows: list[dict[str, Any]]
    metrics: dict[str, float]
    seconds: float


def settings_of(values: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """Settings by section; ConfigError with the file for a name that is none."""
    try:
        return nest_settings(values)
    except ValueError as error:
        raise ConfigError(str(error), where=where) from None


def merge_settings(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` by section, with `change` by section winning."""
    merged = {key: dict(part) if isinstance(part, Mapping) else part for key, part in base.items()}
    for key, part in change.items():
        kept = merged.get(key)
        merged[key] = {**kept, **part} if isinstance(kept, dict) and isinstance(part, Mapping) else part
    return merged


def task_of(config: TrainConfig) -> str:
    """The task of the model that a run of these settings trains: the name of the folder its own lies in.

    ModelError for a name that is none, ConfigError for arguments that the model does not take, before data is read.
    """
    return sightline.models.build_shapes(config.model.name, ("background", "object"), config.model_arguments).task


def write_tables(result: Result, folder: Path, name: str) -> None:
    """A study's result as `name`.json (everything), .csv and .md (the table)."""
    write_json_atomic(folder / f"{name}.json", result)
    write_text_atomic(folder / f"{name}.csv", result.to_frame().write_csv())
    write_text_atomic(folder / f"{name}.md", result.to_markdown())


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.jsonl`; none where no epoch has ended."""
    path = run / "metrics.jsonl"
    return [_object(line, path) for line in _text(path).splitlines()] if path.is_file() else []


def read_object(path: Path) -> dict[str, Any]:
    """What a file of JSON that a study wrote holds; ConfigError where it was damaged or is no object."""
    return _object(_text(path), path)


def _text(path: Path) -> str:
    data = path.read_bytes()
    check_seal(data, path, ConfigError, "Remove the folder, and the run is made again")
    return data.decode(errors="replace")


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ConfigError(f"must be JSON, got: {error}", where=str(path)) from None
    if not isinstance(value, dict):
        raise ConfigError(f"must be a JSON object, got a {type(value).__name__}", where=str(path))
    value.pop(SEAL_KEY, None)
    return value


def read_outcome(run: Path) -> RunOutcome | None:
    """What a run's folder holds, or None while it has not finished."""
    record = run / "run.json"
    if not record.is_file():
        return None
    facts = read_record(record)
    if facts.get("status") != "finished":
        return None
    judged = run / "evaluation.json"
    evaluation = read_object(judged) if judged.is_file() else {}
    metrics, seconds = evaluation.get("metrics"), facts.get("duration_s")
    if not isinstance(metrics, dict) or not isinstance(seconds, (int, float)):
        message = "a finished run must have its metrics and duration, got none: its files were altered"
        raise ConfigError(message, where=str(run), do="remove the folder, and the run is made again")
    return RunOutcome(run, read_rows(run), metrics, float(seconds))


def run_in_process(config: TrainConfig, folder: Path, threads: int) -> RunOutcome:
    """Train in a process of its own, on `threads` threads: from the start, or on from where a run was cut.

    A run that has finished is not run again; one that was made with other settings is refused (ConfigError). The
    process's output goes to a `.log` file beside the folder. SightlineError when it fails.
    """
    done = read_outcome(folder)
    settings = folder / "config.yaml"
    if settings.is_file() and TrainConfig.read(settings) != config:
        raise ConfigError(
            "a run of a study must be continued with its own settings, got others in the study's file",
            where=str(folder),
            do="choose another output folder",
        )
    if done is not None:
        return done
    folder.parent.mkdir(parents=True, exist_ok=True)
    if settings.is_file() and not (folder / "run.json").is_file():
        with RunFolder(folder).held():  # cut before the run had a record: nothing is lost by starting over
            settings.unlink()
        folder.rmdir()
    wanted = folder.with_suffix(".yaml")
    config.save(wanted)
    fresh = ["--config", str(wanted), "--runs", str(folder.parent.parent), "--name", folder.name]
    command = [sys.executable, "-m", "sightline", "train", *(["--resume", str(folder)] if folder.is_dir() else fresh)]
    command += [word for file in given_files() for word in ("--plugin", file)]
    log = folder.with_suffix(".log")
    with log.open("a") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode
    wanted.unlink(missing_ok=True)
    outcome = read_outcome(folder)
    if code != 0 or outcome is None:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise SightlineError(f"a run must finish, got exit code {code}: {last[0]}", where=str(log))
    return outcome
