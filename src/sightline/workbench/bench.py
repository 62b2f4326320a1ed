"""Several models on one data set, side by side: how good, how large, how fast, and how sure that is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import check_regular, write_sealed_json
from sightline.core.results import Result
from sightline.core.runs import provenance
from sightline.data import read_dataset
from sightline.infer import NetworkPredictor, StageTimer
from sightline.media import read_image
from sightline.models import create, describe_model, find_builder, list_models
from sightline.train import TrainConfig, Watcher, profile_training
from sightline.train.studies import merge_settings, read_object, run_in_process, seed_interval, settings_of, task_of
from sightline.workbench.model import Model

__all__ = ["BenchResult", "bench_models"]

_FILES = (".safetensors", ".onnx")
_TIMED_IMAGES, _UNTIMED = 32, 3
_PROBE_STEPS = 6
_BY_TASK = {
    "detect": ("AP", "AP50", "APs", "APm", "APl"),
    "instance": ("AP", "AP50", "box_AP", "box_AP50", "APs", "APm", "APl"),
    "obb": ("AP", "AP50", "box_AP", "box_AP50"),
    "pose": ("AP", "AP50", "box_AP", "box_AP50", "APm", "APl"),
    "semantic": ("mean_iou", "mean_dice", "pixel_accuracy", "boundary_f"),
}
"""Metrics of a result that are columns of the table, by task; the first one is what models are compared by."""
_TWO_CLASSES = (
    "foreground_dice",
    "foreground_iou",
    "foreground_sensitivity",
    "foreground_precision",
    "boundary_f",
)
"""Those of label maps with a foreground and a background."""


@dataclass(frozen=True)
class BenchResult(Result):
    """A row for each model: metrics (means over the seeds), each with `METRIC_low` and `METRIC_high`, and its costs.

    The ends are over the seeds (Student's t, 95 %) where there are two or more, else a bootstrap over the images.
    `ms` is the whole way of an image without decoding it (preprocess, network, postprocess), batch 1; `runs` has the
    numbers of every run.
    """

    table: pl.DataFrame
    runs: pl.DataFrame
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The table, the best model first."""
        return self.table


def bench_models(
    models: Sequence[str],
    data: str,
    out: str | Path,
    watcher: Watcher,
    *,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    budget_s: float | None = None,
    settings: Mapping[str, Any] | None = None,
    threads: int = 2,
) -> BenchResult:
    """Train each architecture named in `models` with every seed (files are taken as they are), measure all alike.

    All learn for `epochs`, or, with `budget_s`, for as many as fit into an equal share of that time, judged by a few
    steps. Measured is the split `test`, else `val`, which chose the epoch. Runs lie in `out/<task>/<model>-seed<n>`;
    what is there already is not made again. Writes `bench.json`. ConfigError, before any work, for names that are none,
    models of different tasks, and settings of a run that do not fit.
    """
    target = Path(out)
    named = [name for name in models if Path(name).suffix.lower() not in _FILES]
    _check_names(models, named)
    if epochs is not None and budget_s is not None:
        raise ConfigError("epochs or a budget of time must be given, got both")
    configs = _configs(named, data, seeds, settings or {})
    dataset = _measured_part(read_dataset(data), configs)
    _check_tasks(models, configs)
    if budget_s is not None and named:
        chosen = _chosen_epochs(named, configs, budget_s, target, watcher)
        configs = {key: _with_epochs(config, chosen[key[0]]) for key, config in configs.items()}
    elif epochs is not None:
        configs = {key: _with_epochs(config, epochs) for key, config in configs.items()}
    rows = []
    for name, seed in [(n, s) for n in models for s in (seeds if n in named else (None,))]:
        watcher.note(f"{name}{'' if seed is None else f', seed {seed}'}")
        rows.append(_one(name, seed, configs.get((name, seed)), dataset, target, threads))
    runs = pl.DataFrame(rows, infer_schema_length=None)
    table = _table(runs, list(dict.fromkeys(models)))
    timed = min(_TIMED_IMAGES, len(dataset))
    conventions = {
        **provenance(seeds={}, data_digest=None),
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": dataset.label_digest(),
        "seeds": list(seeds),
        "training": _said(epochs, budget_s) if named else "none: files as they are",
        "interval": "over seeds (Student's t, 95 %)" if len(seeds) > 1 else "over images (bootstrap, 95 %)",
        "latency": f"median of {timed} images, batch 1, milliseconds, decoding left out",
    }
    result = BenchResult(table, runs, conventions)
    write_sealed_json(target / "bench.json", result)
    return result


def _said(epochs: int | None, budget_s: float | None) -> str:
    if budget_s is not None:
        return f"an equal share of {budget_s:.0f} s for each run"
    return "the usual epochs" if epochs is None else f"{epochs} epochs each"


def _check_names(models: Sequence[str], named: Sequence[str]) -> None:
    if not models or len(set(models)) < len(models):
        raise ConfigError(f"models must be named, each once, got {list(models)}")
    for name in models:
        if name in named and find_builder(name) is None:
            raise ConfigError(unknown_name("model", name, list_models()))
        if name not in named:
            check_regular(name)


def _check_tasks(models: Sequence[str], configs: Mapping[tuple[str, int | None], TrainConfig]) -> None:
    """ConfigError unless all models do the same, and take the arguments they are to be made with."""
    made = {name: task_of(config) for (name, _), config in configs.items()}
    tasks = {name: made[name] if name in made else Model(name).task for name in models}
    if len(set(tasks.values())) > 1:
        listed = ", ".join(f"{name} ({task})" for name, task in tasks.items())
        raise ConfigError(f"models to compare must be of one task, got {listed}")


def _configs(
    named: Sequence[str], data: str, seeds: Sequence[int], settings: Mapping[str, Any]
) -> dict[tuple[str, int | None], TrainConfig]:
    base = merge_settings(settings_of({"data": data}), settings_of(settings))
    made: dict[tuple[str, int | None], TrainConfig] = {}
    for name, seed in product(named, seeds):
        made[name, seed] = TrainConfig.load({**merge_settings(base, settings_of({"model": name})), "seed": seed})
    return made


def _with_epochs(config: TrainConfig, epochs: int) -> TrainConfig:
    values = config.model_dump(exclude_unset=True)
    return TrainConfig.load({**values, "schedule": {**values.get("schedule", {}), "epochs": epochs}})


def _chosen_epochs(
    named: Sequence[str],
    configs: Mapping[tuple[str, int | None], TrainConfig],
    budget_s: float,
    target: Path,
    watcher: Watcher,
) -> dict[str, int]:
    """How many epochs fit into each run's share of the time; kept in a file, so that a cut bench goes on with them."""
    file = target / "budget.json"
    kept = read_object(file) if file.is_file() else {}
    share = budget_s / len(configs)
    for name in named:
        if kept.get(name, {}).get("share_s") == share:
            continue
        config = next(c for (n, _), c in configs.items() if n == name)
        watcher.note(f"{name}: timing a few steps")
        speed = profile_training(config, watcher, steps=_PROBE_STEPS).images_per_s
        images = len(_training_part(read_dataset(config.data.path), config))
        kept[name] = {"share_s": share, "images_per_s": speed, "epochs": max(1, int(share * speed / max(1, images)))}
        write_sealed_json(file, kept)
    return {name: int(kept[name]["epochs"]) for name in named}


def _training_part(dataset: Dataset, config: TrainConfig) -> Dataset:
    split = config.data.split_train
    return dataset.split(split) if split in dataset.splits else dataset


def _measured_part(dataset: Dataset, configs: Mapping[Any, TrainConfig]) -> Dataset:
    """The split `test`, else the one the runs are validated on; ConfigError where there is neither."""
    val = next((c.data.split_val for c in configs.values()), "val")
    for split in ("test", val):
        if split in dataset.splits:
            return dataset.split(split)
    message = f"models must be compared on a split that they did not learn, got {', '.join(dataset.splits) or 'none'}"
    raise ConfigError(message, where=str(dataset.root), do="divide the data: sightline split DATA")


def _one(
    name: str, seed: int | None, config: TrainConfig | None, dataset: Dataset, target: Path, threads: int
) -> dict[str, Any]:
    """Train where that is needed, measure, and tell; what a finished run has been measured by is kept beside it."""
    weights, trained = Path(name), {}
    if config is not None:
        folder = target / task_of(config) / f"{name.replace('/', '-')}-seed{seed}"
        outcome = run_in_process(config, folder, threads)
        weights = folder / "weights" / "best.safetensors"
        trained = {"epochs": len(outcome.rows), "train_s": outcome.seconds}
    model = Model(weights)
    numbers = _measured(model, dataset, weights if config is not None else None)
    shown = name if config is not None else weights.stem
    return {"model": shown, "seed": seed, **numbers, **_costs(model, weights, dataset), **trained}


def _measured(model: Model, dataset: Dataset, weights: Path | None) -> dict[str, Any]:
    """The metrics and their intervals over the images, from the file of an earlier measurement if it fits."""
    names = _metrics_of(model)
    metadata = model.predictor.metadata
    point = None if metadata.operating_point is None else metadata.operating_point.model_dump(mode="json")
    labels = dataset.label_digest()
    key = {"labels": labels, "model": metadata.model_digest, "operating_point": point, "metrics": list(names)}
    file = None if weights is None else weights.parent.parent / "bench.json"
    kept = read_object(file) if file is not None and file.is_file() else {}
    if kept.get("of") != key:
        result: Any = model.val(dataset, boundaries=model.task == "semantic")
        numbers: dict[str, float | None] = {}
        for name in names:
            low, high = (result.intervals or {}).get(name, (None, None))[:2]
            numbers |= {name: result.metrics.get(name), f"{name}_low": low, f"{name}_high": high}
        kept = {"of": key, "metrics": numbers}
        if file is not None:
            write_sealed_json(file, kept)
    return dict(kept["metrics"])


def _metrics_of(model: Model) -> tuple[str, ...]:
    two_classes = model.task == "semantic" and len(model.class_names) == 2
    return _TWO_CLASSES if two_classes else _BY_TASK[model.task]


def _costs(model: Model, weights: Path, dataset: Dataset) -> dict[str, Any]:
    stages = _timed(model.predictor, dataset)
    size = {"file_mb": weights.stat().st_size / 1e6, "imgsz": "x".join(map(str, model.predictor.preprocess.size_hw))}
    metadata = model.predictor.metadata
    if find_builder(metadata.architecture) is None:
        return {"parameters": None, "GFLOPs": None, **stages, **size}
    bare = create(metadata.architecture, class_names=metadata.class_names, **metadata.arguments)
    cost = describe_model(bare, metadata.preprocess.size_hw)
    return {"parameters": cost.fused_parameters, "GFLOPs": cost.flops / 1e9, **stages, **size}


def _timed(predictor: NetworkPredictor, dataset: Dataset) -> dict[str, float]:
    """Median milliseconds of each stage, images of the data set one by one."""
    timer = StageTimer()
    rows = np.unique(np.linspace(0, len(dataset) - 1, _TIMED_IMAGES).round().astype(int)).tolist()
    images = [read_image(dataset.image_path(dataset.images["path"][row])) for row in rows]
    totals = []
    for image in [*images[:_UNTIMED], *images]:
        started = time.perf_counter()
        with timer.measure("preprocess"):
            batch = predictor.prepare([image])
        with timer.measure("network"):
            outputs = predictor.run(batch.pixels)
        with timer.measure("postprocess"):
            predictor.finish(outputs, batch.geometries)
        totals.append((time.perf_counter() - started) * 1e3)
    medians = dict(timer.summary().select("stage", "p50_ms").iter_rows())
    return {"ms": float(np.median(totals[_UNTIMED:])), "network_ms": medians["network"]}


def _table(runs: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """The runs of each model as one row, the one with the best first metric first."""
    metrics = [name.removesuffix("_low") for name in runs.columns if name.endswith("_low")]
    rows = []
    for (model,), part in runs.group_by("model", maintain_order=True):
        numbers = {
            # What is the same in all runs, as the parameters are, stays the whole number it is.
            name: part[name][0] if part[name].n_unique() == 1 else part[name].mean()
            for name, kind in part.schema.items()
            if (kind.is_numeric() or kind == pl.Null) and name != "seed"
        }
        if part.height > 1:
            for name in metrics:
                values = part[name].drop_nulls().to_list()
                _, numbers[f"{name}_low"], numbers[f"{name}_high"] = seed_interval(values)
        rows.append({"model": model, "n": part.height, "imgsz": part["imgsz"][0], **numbers})
    table = pl.DataFrame(rows, infer_schema_length=None)
    shown = ["model", "n", *(f"{name}{end}" for name in metrics for end in ("", "_low", "_high"))]
    return table.select(*shown, pl.exclude(shown)).sort(metrics[0], descending=True, nulls_last=True)
