"""`sightline train`."""

import sys
from typing import Annotated, Any

import pydantic
from cyclopts import Parameter

from sightline.cli.console import JsonFlag, TrainWatcher, emit_json, note, show_table
from sightline.core.config import read_yaml
from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder
from sightline.models import create
from sightline.train import TrainConfig, TrainResult, resume
from sightline.train import train as train_run

__all__ = ["train"]

_RUNS = "runs"

# What a file or --resume may give instead is optional here; everything else is TrainConfig as it stands.
_Options: Any = pydantic.create_model(
    "TrainOptions",
    __base__=TrainConfig,
    data=(str | None, pydantic.Field(None, description="path of the data set")),
    imgsz=(
        str | tuple[int, int] | None,
        pydantic.Field(None, description=TrainConfig.model_fields["imgsz"].description),
    ),
    model=(str | None, pydantic.Field(None, description="name of a registered model, see 'sightline models'")),
)


def train(
    *,
    options: Annotated[_Options | None, Parameter(name="*")] = None,
    config: str | None = None,
    resume_from: Annotated[str | None, Parameter(name="--resume")] = None,
    name: str | None = None,
    runs: str = _RUNS,
    json: JsonFlag = False,
) -> int:
    """Train a model on a data set.

    Parameters
    ----------
    options
        The run's settings.
    config
        YAML file of settings (a run's own config.yaml will do); options given here win over it.
    resume_from
        Folder of an interrupted run to continue.
    name
        Name of the run's folder; the next free run-N without it.
    runs
        Folder the run's folder is made in.
    json
        Print the result as JSON.
    """
    command = ["sightline", *sys.argv[1:]]
    with TrainWatcher() as watcher:
        if resume_from is not None:
            if options is not None or config is not None or name is not None or runs != _RUNS:
                raise ConfigError("--resume continues a run with its own settings and takes no other options")
            result = _interruptible(lambda: resume(resume_from, watcher, command), resume_from)
        else:
            settings = _settings(options, config)
            task = create(settings.model, class_names=("background", "object")).task
            run = RunFolder.create(runs, task, name)
            note(f"run folder: {run.path}")
            result = _interruptible(lambda: train_run(settings, run, watcher, command), str(run.path))
    _show(result, json)
    return 0


def _settings(options: Any, config: str | None) -> TrainConfig:
    values = read_yaml(config) if config is not None else {}
    if options is not None:
        given = options.model_dump(exclude_unset=True)
        if isinstance(kept := values.get("augment"), dict) and "augment" in given:
            given["augment"] = {**kept, **given["augment"]}
        values = {**values, **given}
    for key in ("data", "model"):
        if values.get(key) is None:
            raise ConfigError(f"--{key} must be given, got nothing", do="see 'sightline train --help'")
    return TrainConfig.load(values, where=config)


def _interruptible(work: Any, run: str) -> TrainResult:
    try:
        result: TrainResult = work()
    except KeyboardInterrupt:
        note(f"interrupted; continue with: sightline train --resume {run}")
        raise
    return result


def _show(result: TrainResult, as_json: bool) -> None:
    if as_json:
        emit_json(result.to_dict())
        return
    show_table(
        f"best of {result.epochs} epochs: epoch {result.best_epoch} ({result.images_per_s:.1f} training images/s)",
        ("metric", "value"),
        result.evaluation.to_frame().rows(),
    )
    show_table("", ("file", "path"), [("weights", str(result.weights)), ("run", str(result.run))])
