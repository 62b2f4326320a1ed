"""`sightline train`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import yaml
from cyclopts import Parameter

import sightline.report
import sightline.train
import sightline.train.studies
from sightline.cli.console import Count, JsonFlag, TrainWatcher, emit_json, note, progress_bar, show_table
from sightline.core.config import Config, read_yaml
from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder
from sightline.train import SHORT_NAMES, TrainConfig
from sightline.train.studies import merge_settings, settings_of, task_of

if TYPE_CHECKING:
    from sightline.train import Ablation, TrainResult, Watcher

__all__ = ["TrainOptions", "parse_assignments", "settings_given", "show_ablation", "train"]

_RUNS, _STUDY, _STUDY_SEEDS = "runs", "augment-study", 3


def _options() -> dict[str, Any]:
    """A field for every setting by its short name; those without a default may be given by a file instead."""
    fields: dict[str, Any] = {}
    for short, (section, name) in sorted(SHORT_NAMES.items(), key=lambda item: item[0] not in {"data", "model"}):
        field = TrainConfig.model_fields[section].annotation.model_fields[name]  # type: ignore[union-attr]
        default = "" if field.is_required() or field.default in {None, ()} else f" [default: {field.default}]"
        described = pydantic.Field(default=None, description=f"{field.description}{default}")
        fields[short] = (field.annotation | None, described)
    for name, field in TrainConfig.model_fields.items():
        if name not in {section for section, _ in SHORT_NAMES.values()}:
            fields[name] = (field.annotation, field)
    fields["imgsz"] = (str | tuple[int, int] | None, fields["imgsz"][1])
    return fields


TrainOptions: Any = pydantic.create_model("TrainOptions", __base__=Config, **_options())


def train(
    *assignments: str,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    config: str | None = None,
    resume_from: Annotated[str | None, Parameter(name="--resume")] = None,
    name: str | None = None,
    runs: str = _RUNS,
    augment_study: bool = False,
    study_seeds: Count | None = None,
    jobs: Count | None = None,
    json: JsonFlag = False,
) -> int:
    """Train a model on a data set.

    Parameters
    ----------
    assignments
        Settings as KEY=VALUE: lr=0.01, schedule.epochs=30, augment.rotate=10.
    options
        The run's settings.
    config
        YAML file of settings (a run's own config.yaml will do); what is given here wins over it.
    resume_from
        Folder of an interrupted run to continue.
    name
        Name of the run's folder; the next free run-N without it.
    runs
        Folder the run's folder is made in.
    augment_study
        Train without augmentation, with each of its operations alone and with all, and compare; again to continue.
    study_seeds
        With --augment-study: seeds of each, from --seed on; 3 without it.
    jobs
        With --augment-study: runs at a time; 1 without it.
    """
    if augment_study:
        if resume_from is not None:
            raise ConfigError("--augment-study goes on where it was by itself and takes no --resume")
        settings = settings_given(options, assignments, config)
        study = sightline.train.studies.augment_study(settings, study_seeds or _STUDY_SEEDS)
        show_ablation("Augmentation", study, Path(runs) / (name or _STUDY), jobs=jobs or 1, where=_STUDY, json=json)
        return 0
    if study_seeds is not None or jobs is not None:
        raise ConfigError("--study-seeds and --jobs belong to --augment-study, got them without it")
    command = ["sightline", *sys.argv[1:]]
    processes = sightline.train.join_processes()
    with processes.one_voice(), TrainWatcher(quiet=not processes.is_first) as watcher:
        if resume_from is not None:
            if assignments or options is not None or config is not None or name is not None or runs != _RUNS:
                raise ConfigError("--resume continues a run with its own settings and takes no other options")
            result = _interruptible(
                lambda: sightline.train.resume(resume_from, watcher, command, processes), resume_from, watcher
            )
        else:
            settings = settings_given(options, assignments, config)
            run = processes.once(lambda: RunFolder.create(runs, task_of(settings), name))
            watcher.note(f"run folder: {run.path}")
            result = _interruptible(
                lambda: sightline.train.train(settings, run, watcher, command, processes), str(run.path), watcher
            )
    if processes.is_first:
        _show(result, json)
    return 0


def settings_given(options: Any, assignments: tuple[str, ...], config: str | None) -> TrainConfig:
    """The settings of a run from options, KEY=VALUE texts and a file; ConfigError for what cannot be used."""
    assignments = _with_data(assignments)
    values = settings_of(read_yaml(config), config) if config is not None else {}
    flags = options.model_dump(exclude_unset=True) if options is not None else {}
    values = merge_settings(values, parse_assignments(assignments, flags))
    for key, (section, name) in {k: SHORT_NAMES[k] for k in ("data", "model")}.items():
        if (values.get(section) or {}).get(name) is None:
            raise ConfigError(f"--{key} must be given, got nothing", do="see 'sightline train --help'")
    return TrainConfig.load(values, where=config)


def _with_data(assignments: tuple[str, ...]) -> tuple[str, ...]:
    """The one word that is no KEY=VALUE is the data set, as it is for the other verbs."""
    places = [text for text in assignments if "=" not in text]
    if len(places) > 1:
        raise ConfigError(f"one data set must be given, and settings as KEY=VALUE, got {' '.join(map(repr, places))}")
    return tuple(f"data={text}" if text in places else text for text in assignments)


def parse_assignments(assignments: Sequence[str], options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """KEY=VALUE texts and options by section; ConfigError for one that is none, or given twice."""
    given = dict(options or {})
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError(f"a setting must be given as KEY=VALUE or --key value, got '{text}'")
        if key in given:
            raise ConfigError(f"a setting must be given once, got '{key}' twice")
        try:
            given[key] = _listed(key, yaml.safe_load(value))
        except yaml.YAMLError:
            raise ConfigError(f"the value of '{key}' must be a number, a word or a [list], got '{value}'") from None
    return settings_of(given)


def _listed(key: str, value: Any) -> Any:
    """A list where the setting is one and a word, or words with commas, are given: loggers=tensorboard,mlflow."""
    section, name = SHORT_NAMES.get(key, (key.partition(".")[0], key.partition(".")[2]))
    group = getattr(TrainConfig.model_fields.get(section), "annotation", None)
    field = getattr(group, "model_fields", {}).get(name)
    takes_several = field is not None and str(field.annotation).startswith("tuple[") and "..." in str(field.annotation)
    return [part.strip() for part in value.split(",")] if takes_several and isinstance(value, str) else value


def _interruptible(work: "Callable[[], TrainResult]", run: str, watcher: "Watcher") -> "TrainResult":
    try:
        return work()
    except KeyboardInterrupt:
        watcher.note(f"interrupted; continue with: sightline train --resume {run}")
        raise
    except OSError:  # a full disk, as a rule
        watcher.note(f"the run stopped; continue with: sightline train --resume {run}")
        raise


def _show(result: "TrainResult", as_json: bool) -> None:
    if as_json:
        emit_json(result)
        return
    show_table(
        f"best of {result.epochs} epochs: epoch {result.best_epoch} ({result.images_per_s:.1f} training images/s)",
        ("metric", "value"),
        result.evaluation.to_frame().rows(),
    )
    show_table("", ("file", "path"), [("weights", str(result.weights)), ("run", str(result.run))])


def show_ablation(
    title: str,
    ablation: "Ablation",
    target: Path,
    *,
    jobs: int,
    where: str,
    json: bool,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Make the runs that are missing in `target`, write `ablation.html` beside their tables, and print the table."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with progress_bar() as bar:
        result = sightline.train.run_ablation(
            ablation,
            target,
            overrides=overrides,
            jobs=jobs,
            threads=threads,
            where=where,
            progress=bar,
        )
    page = sightline.report.write_study_page(title, result, target / "ablation.html")
    if json:
        emit_json(result)
        return
    show_table(str(result.conventions["description"]), tuple(result.table.columns), result.table.rows())
    note(f"written: {page} and ablation.json, .csv, .md beside it")
