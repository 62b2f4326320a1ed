"""Search for settings with Optuna: a SQLite study that can be cut and continued; what the user fixed stays fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
import polars as pl
from pydantic import Field, model_validator

from sightline.core.config import Config
from sightline.core.errors import ConfigError
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.core.runs import RunFolder
from sightline.train.config import TrainConfig
from sightline.train.recorder import Watcher
from sightline.train.run import resume, train
from sightline.train.studies.files import merge_settings, read_outcome, read_rows, settings_of, task_of, write_tables

__all__ = ["SearchResult", "Tuning", "run_tuning"]

_STUDY = "sightline"
_CONTINUES = "continues"


class Range(Config):
    """Numbers from `low` to `high`, evenly or by their logarithm, whole numbers where both ends are."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"a range must rise, from above 0 where it is logarithmic, got {self.low}..{self.high}")
        return self


DEFAULT_SPACE: dict[str, Range | list[Any]] = {
    "lr": Range(low=3e-4, high=1e-2, log=True),
    "weight_decay": Range(low=1e-5, high=5e-2, log=True),
    "augment.scale": Range(low=0.0, high=0.9),
    "augment.translate": Range(low=0.0, high=0.3),
    "augment.brightness": Range(low=0.0, high=0.6),
}


class Tuning(Config):
    """A search file: `base` holds what is fixed, `space` what may vary (ranges or lists of choices)."""

    description: str = ""
    base: dict[str, Any]
    space: dict[str, Range | list[Any]] | None = None
    trials: int = Field(default=20, ge=1)
    pruner: Literal["median", "hyperband", "none"] = "median"
    warmup_trials: Annotated[int, Field(ge=0)] = 5
    """Trials that are never pruned, and drawn at random before the sampler models what it has seen."""
    seed: int = Field(default=0, ge=0)

    def open_space(self, fixed: Mapping[str, Any], where: str) -> dict[str, Range | list[Any]]:
        """What varies: the file's space, or the usual one without what is fixed; ConfigError where both name one."""
        names = {name: _section_of(name, where) for name in (DEFAULT_SPACE if self.space is None else self.space)}
        taken = {n for n, (section, key) in names.items() if key in _part(fixed, section)}
        if self.space is None:
            return {n: choice for n, choice in DEFAULT_SPACE.items() if n not in taken}
        if taken:
            raise ConfigError(
                f"a fixed setting is never varied, got '{min(taken)}' both fixed and in the space",
                where=where,
                do="Remove one of the two",
            )
        return dict(self.space)


def _section_of(name: str, where: str) -> tuple[str, str]:
    nested = settings_of({name: None}, where)
    section, value = next(iter(nested.items()))
    return section, next(iter(value)) if isinstance(value, dict) else section


def _part(values: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    part = values.get(section, {})
    return part if isinstance(part, Mapping) else {section: part}


@dataclass(frozen=True)
class SearchResult(Result):
    """Every trial, best first: number, state (complete, pruned, fail), value, epochs, seconds, and its parameters."""

    table: pl.DataFrame
    best: dict[str, Any]
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The trials."""
        return self.table


class _TrialWatcher:
    """Reports each epoch's metric to the trial and ends the run when it falls behind the others."""

    def __init__(self, trial: optuna.Trial, inner: Watcher) -> None:
        self._trial, self._inner = trial, inner

    def note(self, text: str) -> None:
        self._inner.note(text)

    def phase(self, name: str, total: int) -> None:
        self._inner.phase(name, total)

    def advance(self, done: int) -> None:
        self._inner.advance(done)

    def epoch(self, row: dict[str, float], best: bool) -> None:
        self._inner.epoch(row, best)
        self._trial.report(row["watch/metric"], int(row["epoch"]))
        if self._trial.should_prune():
            raise optuna.TrialPruned


def run_tuning(
    tuning: Tuning,
    out: str | Path,
    watcher: Watcher,
    *,
    overrides: Mapping[str, Any] | None = None,
    where: str = "search",
    progress: Progress | None = None,
) -> SearchResult:
    """Run the trials that are not there yet and rank them all; `overrides` (by section) are fixed too.

    The study is `study.db` in `out`, the runs `out/<task>/trial-<n>`. A trial that was cut, also by `kill -9`, goes on
    from its last epoch under a new number. Writes `tuning.json`, `tuning.csv`, `tuning.md` and `best.yaml`.
    """
    target = Path(out)
    fixed = merge_settings(settings_of(tuning.base, where), overrides or {})
    space = tuning.open_space(fixed, where)
    if not space:
        raise ConfigError("a search must have something to vary, got every setting fixed", where=where)
    target.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{(target / 'study.db').absolute()}",
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
        pruner=_pruner(tuning),
    )
    _requeue_cut_trials(study)
    while (done := sum(t.state.is_finished() and t.state.name != "FAIL" for t in study.trials)) < tuning.trials:
        study.sampler = _sampler(tuning, study)
        trial = study.ask()
        state, value = _run_trial(trial, fixed, space, target, watcher, where)
        study.tell(trial, value, state=state)
        if progress is not None:
            progress(done + 1, tuning.trials, f"trial {trial.number}: {state.name.lower()}")
    return _collect(study, target, fixed, space)


def _sampler(tuning: Tuning, study: optuna.Study) -> optuna.samplers.BaseSampler:
    """A sampler for the next trial alone: a resumed search must not draw again what it drew before it was cut."""
    drawn = sum(_CONTINUES not in trial.user_attrs for trial in study.trials)
    seed = int(np.random.default_rng((tuning.seed, drawn)).integers(2**31))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=tuning.warmup_trials)


def _pruner(tuning: Tuning) -> optuna.pruners.BasePruner:
    if tuning.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=tuning.warmup_trials, n_warmup_steps=3)
    return optuna.pruners.HyperbandPruner() if tuning.pruner == "hyperband" else optuna.pruners.NopPruner()


def _requeue_cut_trials(study: optuna.Study) -> None:
    for old in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(old.number, state=optuna.trial.TrialState.FAIL)
        origin = old.user_attrs.get(_CONTINUES, old.number)
        study.enqueue_trial(old.params, user_attrs={_CONTINUES: origin})


def _run_trial(
    trial: optuna.Trial,
    fixed: Mapping[str, Any],
    space: Mapping[str, Range | list[Any]],
    target: Path,
    watcher: Watcher,
    where: str,
) -> tuple[optuna.trial.TrialState, float | None]:
    drawn = settings_of({name: _draw(trial, name, choice) for name, choice in space.items()}, where)
    config = TrainConfig.load(merge_settings(fixed, drawn), where=where)
    number = trial.user_attrs.get(_CONTINUES, trial.number)
    folder = target / task_of(config) / f"trial-{number}"
    trial.set_user_attr("run", folder.relative_to(target).as_posix())
    watching = _TrialWatcher(trial, watcher)
    for row in read_rows(folder):  # of a trial that was cut: the pruner and the table need all its epochs
        trial.report(row["watch/metric"], int(row["epoch"]))
    try:
        if (folder / "run.json").is_file():
            if read_outcome(folder) is None:
                resume(folder, watching)
        else:
            train(config, _new_folder(folder), watching)
    except optuna.TrialPruned:
        return optuna.trial.TrialState.PRUNED, None
    outcome = read_outcome(folder)
    assert outcome is not None
    return optuna.trial.TrialState.COMPLETE, max(row["watch/metric"] for row in outcome.rows)


def _new_folder(folder: Path) -> RunFolder:
    if folder.is_dir():  # cut before its first record
        return RunFolder(folder)
    return RunFolder.create(folder.parent.parent, folder.parent.name, folder.name)


def _draw(trial: optuna.Trial, name: str, choice: Range | list[Any]) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    if float(choice.low).is_integer() and float(choice.high).is_integer() and not choice.log and choice.high > 1:
        return trial.suggest_int(name, int(choice.low), int(choice.high))
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _collect(
    study: optuna.Study, target: Path, fixed: Mapping[str, Any], space: Mapping[str, Range | list[Any]]
) -> SearchResult:
    rows = []
    for t in study.trials:
        if t.state.name == "FAIL":
            continue
        values = t.intermediate_values
        value = t.value if t.value is not None else max(values.values(), default=None)
        rows.append(
            {"trial": t.number, "state": t.state.name.lower(), "value": value, "epochs": len(values), **t.params}
        )
    table = pl.DataFrame(rows, infer_schema_length=None).sort("value", descending=True, nulls_last=True)
    best = study.best_trial
    result = SearchResult(
        table=table,
        best={"trial": best.number, "value": best.value, "run": best.user_attrs["run"], "settings": best.params},
        conventions={
            "fixed": dict(fixed),
            "varied": {n: c if isinstance(c, list) else c.model_dump() for n, c in space.items()},
            "value": "best validation metric over the epochs",
        },
    )
    write_tables(result, target, "tuning")
    TrainConfig.read(target / str(best.user_attrs["run"]) / "config.yaml").save(target / "best.yaml")
    return result
