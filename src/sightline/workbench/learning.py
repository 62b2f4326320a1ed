"""Training and exporting for `Model`: what needs torch."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.errors import ModelError, unknown_name
from sightline.core.runs import RunFolder
from sightline.data import read_dataset
from sightline.deploy import ExportResult, export_onnx
from sightline.models import find_builder, list_models
from sightline.train import TrainConfig, TrainResult, train
from sightline.train.studies import settings_of, task_of

__all__ = ["check_name", "export_model", "train_model"]


class _Lines:
    """Shows a run as a notebook wants it: a line for each note and epoch, and where it stands on a terminal."""

    def __init__(self) -> None:
        self._phase, self._total = "", 0

    def note(self, text: str) -> None:
        """A line."""
        sys.stdout.write(f"{text}\n")

    def phase(self, name: str, total: int) -> None:
        """A stretch of work begins."""
        self._phase, self._total = name, total

    def advance(self, done: int) -> None:
        """How much of it is done, over the last such line."""
        if sys.stdout.isatty():
            sys.stdout.write(f"\r{self._phase} {done}/{self._total}\033[K\r")

    def epoch(self, row: dict[str, float], best: bool) -> None:
        """The epoch's validation numbers."""
        numbers = " ".join(f"{key.removeprefix('val/')} {value:.3f}" for key, value in row.items() if "val/" in key)
        sys.stdout.write(f"epoch {int(row['epoch'])}: {numbers}{' best' if best else ''}\n")


def check_name(name: str) -> None:
    """ModelError unless there is an architecture of this name."""
    if find_builder(name) is None:
        do = "Give a .safetensors or .onnx file, or one of the names 'sightline models' lists."
        raise ModelError(unknown_name("model", name, list_models()), do=do)


def train_model(
    name: str, data: str | Path, runs: Path, run_name: str | None, settings: Mapping[str, Any]
) -> TrainResult:
    """Train the architecture `name`; the run is kept under `runs`."""
    config = TrainConfig.load(settings_of({"data": str(data), "model": name, **settings}))
    run = RunFolder.create(runs, task_of(config), run_name)
    return train(config, run, _Lines(), ["sightline.Model.train"])


def export_model(weights: Path, target: Path, data: str | Path, count: int) -> ExportResult:
    """Export with parity on `count` images spread over a data set."""
    dataset = read_dataset(data)
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    return export_onnx(weights, target, images=[dataset[row].file for row in rows.tolist()])
