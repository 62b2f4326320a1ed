"""Ablation: variants of one training setting, each with several seeds, compared by what their runs measured."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator
from scipy import stats

from sightline.core.config import Config
from sightline.core.errors import ConfigError
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.train.config import TrainConfig
from sightline.train.studies.files import RunOutcome, merge_settings, run_in_process, settings_of, task_of, write_tables

__all__ = ["Ablation", "AblationResult", "augment_study", "run_ablation", "seed_interval"]

CONFIDENCE = 0.95
_Key = tuple[str, int]  # variant and seed
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]


class Ablation(Config):
    """An ablation file. The first variant is the one the others are compared with."""

    description: str = ""
    base: dict[str, Any]
    variants: dict[_Name, dict[str, Any]]
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    metrics: tuple[str, ...] = ()
    """Metrics of the final evaluation; the headline's without."""
    epoch_metrics: tuple[str, ...] = ()
    """Columns of `metrics.jsonl` to compare at `at_epochs`."""
    at_epochs: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Ablation":
        if len(self.variants) < 2:
            raise ValueError(f"an ablation needs at least two variants, got {len(self.variants)}")
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError("seeds must be given and differ")
        if bool(self.epoch_metrics) != bool(self.at_epochs):
            raise ValueError("epoch_metrics and at_epochs belong together")
        return self

    def configs(self, overrides: Mapping[str, Any], where: str) -> dict[tuple[str, int], TrainConfig]:
        """The settings of each run; `overrides` (by section) win over the file's base, variants over both."""
        base = merge_settings(settings_of(self.base, where), overrides)
        made = {}
        for (name, change), seed in itertools.product(self.variants.items(), self.seeds):
            nested = settings_of(change, f"{where}, variant '{name}'")
            if "seed" in nested:
                raise ConfigError("seeds belong to 'seeds', not to a variant", where=f"{where}, variant '{name}'")
            made[name, seed] = TrainConfig.load({**merge_settings(base, nested), "seed": seed}, where=where)
        return made


@dataclass(frozen=True)
class AblationResult(Result):
    """For each metric and variant: mean over the seeds, its interval, and the paired difference to the first variant.

    `table` has a row per metric and variant: metric, epoch (null for the final evaluation), variant, n, mean, low, high
    (Student's t, 95 %), difference, difference_low, difference_high (paired by seed; null for the first variant).
    `values` has a row per run and metric.
    """

    table: pl.DataFrame
    values: pl.DataFrame
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The table."""
        return self.table


def run_ablation(
    ablation: Ablation,
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    jobs: int = 1,
    threads: int = 2,
    where: str = "ablation",
    progress: Progress | None = None,
) -> AblationResult:
    """Make every run that is not there yet, `jobs` at a time in processes of `threads` threads, and compare them.

    Runs lie in `out/<task>/<variant>-seed<n>`; an ablation that was cut goes on where it was. Writes `ablation.json`,
    `ablation.csv` and `ablation.md` into `out`. ConfigError for settings that do not fit, before the first run.
    """
    target = Path(out)
    configs = ablation.configs(overrides or {}, where)
    first = next(iter(configs.values()))
    folders = {key: target / task_of(config) / f"{key[0]}-seed{key[1]}" for key, config in configs.items()}
    outcomes = _run_all(configs, folders, jobs, threads, progress)
    values = _values(ablation, {key: outcomes[key] for key in configs})
    result = AblationResult(
        table=_compare(values, list(ablation.variants)),
        values=values,
        conventions={
            "description": ablation.description,
            "confidence": CONFIDENCE,
            "interval": "Student's t over seeds",
            "difference": f"paired by seed, to '{next(iter(ablation.variants))}'",
            "seeds": list(ablation.seeds),
            "data": first.data.path,
        },
    )
    write_tables(result, target, "ablation")
    return result


def augment_study(config: TrainConfig, seeds: int) -> Ablation:
    """What each operation of a run's augmentation does: `none`, each of them alone, then all; seeds from the run's on.

    ConfigError where the policy changes nothing: there is nothing to compare.
    """
    if not config.augment.active():
        raise ConfigError("an augmentation study needs an operation that is on, got a policy with all of them off")
    return Ablation(
        description="augmentation: nothing, each operation alone, all of them; differences to nothing",
        base=config.model_dump(mode="json", exclude={"seed", "augment"}),
        variants={name: {"augment": part.model_dump(mode="json")} for name, part in config.augment.apart().items()},
        seeds=tuple(range(config.seed, config.seed + seeds)),
    )


def _run_all(
    configs: Mapping[_Key, TrainConfig],
    folders: Mapping[_Key, Path],
    jobs: int,
    threads: int,
    progress: Progress | None,
) -> dict[_Key, RunOutcome]:
    outcomes: dict[_Key, RunOutcome] = {}
    pool = ThreadPoolExecutor(jobs)
    running = {pool.submit(run_in_process, c, folders[key], threads): key for key, c in configs.items()}
    try:
        for future in as_completed(running):
            key = running[future]
            outcomes[key] = future.result()
            if progress is not None:
                progress(len(outcomes), len(configs), "runs")
    finally:
        pool.shutdown(cancel_futures=True)  # what is running ends by the same Ctrl-C, or finishes
    return outcomes


def _values(ablation: Ablation, outcomes: Mapping[tuple[str, int], RunOutcome]) -> pl.DataFrame:
    rows: list[tuple[str, int | None, str, int, float]] = []
    for (variant, seed), outcome in outcomes.items():
        wanted = ablation.metrics or tuple(outcome.metrics)
        rows += [(m, None, variant, seed, _number(outcome.metrics, m, outcome)) for m in wanted]
        by_epoch = {int(row["epoch"]): row for row in outcome.rows}
        for metric, epoch in itertools.product(ablation.epoch_metrics, ablation.at_epochs):
            if epoch in by_epoch:  # a run may have stopped early
                rows.append((metric, epoch, variant, seed, _number(by_epoch[epoch], metric, outcome)))
    return pl.DataFrame(rows, schema=["metric", "epoch", "variant", "seed", "value"], orient="row").cast(
        {"epoch": pl.Int64, "value": pl.Float64}
    )


def _number(numbers: Mapping[str, Any], metric: str, outcome: RunOutcome) -> float:
    if metric not in numbers:
        known = ", ".join(numbers)
        raise ConfigError(f"metrics must be among those of the runs ({known}), got '{metric}'", where=str(outcome.path))
    value = numbers[metric]
    return float("nan") if value is None else float(value)


def _compare(values: pl.DataFrame, variants: Sequence[str]) -> pl.DataFrame:
    rows = []
    for (metric, epoch), part in values.group_by("metric", "epoch", maintain_order=True):
        by_variant = {
            v: dict(part.filter(pl.col("variant") == v).select("seed", "value").iter_rows()) for v in variants
        }
        reference = by_variant[variants[0]]
        for variant, by_seed in by_variant.items():
            mean, low, high = seed_interval(list(by_seed.values()))
            shared = [by_seed[s] - reference[s] for s in by_seed if s in reference]
            difference = (None, None, None) if variant == variants[0] else seed_interval(shared)
            rows.append((metric, epoch, variant, len(by_seed), mean, low, high, *difference))
    columns = ("metric", "epoch", "variant", "n", "mean", "low", "high")
    schema = [*columns, "difference", "difference_low", "difference_high"]
    return pl.DataFrame(rows, schema=schema, orient="row", infer_schema_length=None)


def seed_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and the ends of its 95 % interval (Student's t), which takes two values at least."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean()) if len(array) else float("nan")
    if len(array) < 2:
        return mean, None, None
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return mean, mean - half, mean + half
