"""`sightline bench`."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import sightline.report
import sightline.workbench
from sightline.cli.console import Count, DataPath, JsonFlag, TrainWatcher, emit_json, note, show_table
from sightline.cli.train import parse_assignments
from sightline.core.errors import ConfigError
from sightline.core.files import check_writable

__all__ = ["bench"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_COSTS = ("parameters", "GFLOPs", "ms", "train_s")
_LEFT_TO_JSON = ("box_AP50", "APm", "APl", "pixel_accuracy", "mean_dice", "foreground_precision")
"""Metrics that a terminal has no room for."""


def bench(
    data: DataPath,
    *assignments: str,
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    seeds: Count = 1,
    epochs: Count | None = None,
    budget: str | None = None,
    out: str = "runs/bench",
    json: JsonFlag = False,
) -> int:
    """Train several models on one data set, measure all alike, and compare quality with cost; again to continue.

    Parameters
    ----------
    assignments
        Settings of every run as KEY=VALUE: imgsz=320, lr=0.01, augment.rotate=10.
    models
        Names, as 'sightline models' lists them, and files (.safetensors, .onnx) that are taken as they are; also as one
        word with commas.
    seeds
        Runs of each model, from seed 0 on.
    epochs
        Passes over the training images, the same for all.
    budget
        Time for all training in place of epochs, as 30m or 2h: each run gets an equal share.
    out
        Folder of the runs, bench.json and bench.html.
    """
    settings = [word for word in models if "=" in word and not Path(word).exists()]  # what follows a list of models
    names = [name for word in models if word not in settings for name in word.split(",") if name]
    check_writable([Path(out) / "bench.json"])
    with TrainWatcher() as watcher:
        result = sightline.workbench.bench_models(
            names,
            data,
            out,
            watcher,
            seeds=range(seeds),
            epochs=epochs,
            budget_s=None if budget is None else _seconds(budget),
            settings=parse_assignments([*assignments, *settings]),
            threads=os.cpu_count() or 1,
        )
    page = sightline.report.write_study_page(
        f"Models on {result.conventions['data']}", result, Path(out) / "bench.html"
    )
    if json:
        emit_json(result)
        return 0
    images, split = result.conventions["images"], result.conventions["split"]
    shown = [c.removesuffix("_low") for c in result.table.columns if c.endswith("_low")]
    shown = [name for name in shown if name not in _LEFT_TO_JSON]
    costs = [name for name in _COSTS if name in result.table.columns]
    rows = [
        (row["model"], row["n"], *(_with_ends(row, name) for name in shown), *(row[name] for name in costs))
        for row in result.table.iter_rows(named=True)
    ]
    title = f"{images} images of '{split}', best first; intervals {result.conventions['interval']}"
    show_table(title, ["model", "n", *shown, *costs], rows)
    note(f"page: {page}")
    return 0


def _with_ends(row: dict[str, Any], metric: str) -> str | None:
    value, low, high = (row[f"{metric}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return None
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--budget must be a time such as 90s, 30m or 2h, got '{text}'")
    return float(found[1]) * _SECONDS[found[2]]
