"""What a run folder holds, read once: each part or its absence, never a made-up value."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sightline.core.errors import DataError, at
from sightline.core.predictions import Predictions

__all__ = ["RunRecord", "read_run"]


@dataclass(frozen=True)
class RunRecord:
    """The parts of `runs/<task>/<name>/`; None (or empty) where the run did not leave that part.

    `run` is `run.json`, `config` the text of `config.yaml`, `epochs` the rows of `metrics.jsonl`, `strips` are
    the prediction strips of `figures/`; the others are the JSON files of their names.
    """

    folder: Path
    run: dict[str, Any]
    config: str | None
    epochs: tuple[dict[str, Any], ...]
    audit: dict[str, Any] | None
    evaluation: dict[str, Any] | None
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
        value = yaml.safe_load(self.config) if self.config else None
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
    run = _object(path / "run.json")
    if run is None:
        raise DataError(
            "must be a run folder with a run.json, got none",
            where=str(path),
            do="give the folder that 'sightline train' made",
        )
    predictions = path / "predictions.parquet"
    return RunRecord(
        folder=path,
        run=run,
        config=_text(path / "config.yaml"),
        epochs=_rows(path / "metrics.jsonl"),
        audit=_object(path / "audit.json"),
        evaluation=_object(path / "evaluation.json"),
        export=_object(path / "export.json"),
        video=_object(path / "video.json"),
        tracking=_object(path / "tracking.json"),
        predictions=Predictions.load(predictions) if predictions.exists() else None,
        strips=tuple(sorted((path / "figures").glob("strip-*.jpg"))),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
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
    return tuple(_parse(line, path, number) for number, line in enumerate(lines) if line.strip())


def _parse(text: str, path: Path, lines_before: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"must be JSON, got: {error.msg}", where=at(path, lines_before + error.lineno)) from None
    if not isinstance(value, dict):
        raise DataError(f"must be a JSON object, got a {type(value).__name__}", where=at(path, lines_before + 1))
    return value
