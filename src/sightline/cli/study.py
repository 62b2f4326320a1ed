"""`sightline ablate`, `sightline tune` and `sightline profile`: training compared, searched and timed."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sightline.cli.console import (
    Count,
    JsonFlag,
    TrainWatcher,
    check_json_out,
    emit_json,
    give_result,
    note,
    show_line,
    show_table,
)
from sightline.cli.train import TrainOptions, parse_assignments, settings_given, show_ablation
from sightline.core.files import check_writable, refuse_overwriting
from sightline.data import dataset_files, read_dataset
from sightline.report import write_study_page
from sightline.train import Ablation, Profile, Tuning, profile_training, run_tuning

__all__ = ["ablate", "profile", "tune"]


def ablate(
    file: str,
    *assignments: str,
    data: str | None = None,
    out: str | None = None,
    jobs: Count = 1,
    json: JsonFlag = False,
) -> int:
    """Train variants of one setting with several seeds and compare them; run again to continue.

    Parameters
    ----------
    file
        YAML file: base, variants (the first is compared with), seeds, metrics; see docs/training.md.
    assignments
        Settings for every run as KEY=VALUE; they win over the file's base.
    data
        Path of the data set, the same as data=PATH.
    out
        Folder of the runs and tables; runs/<name of the file> without it.
    jobs
        Runs at a time, each in a process with its share of the cores.
    """
    target = _target(file, out)
    overrides = _overrides(assignments, data)
    title = f"Ablation: {Path(file).stem}"
    show_ablation(title, Ablation.read(file), target, jobs=jobs, where=file, json=json, overrides=overrides)
    return 0


def tune(
    file: str,
    *assignments: str,
    data: str | None = None,
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Search for good settings with Optuna; what is fixed stays fixed. Run again to continue.

    Parameters
    ----------
    file
        YAML file: base (fixed), space (varied), trials, pruner; see docs/training.md.
    assignments
        Settings for every run as KEY=VALUE, fixed too.
    data
        Path of the data set, the same as data=PATH.
    out
        Folder of the study; runs/<name of the file> without it.
    """
    target = _target(file, out)
    with TrainWatcher() as watcher:
        result = run_tuning(
            Tuning.read(file),
            target,
            watcher,
            overrides=_overrides(assignments, data),
            where=file,
            progress=lambda done, total, what: note(f"{what} ({done} of {total})"),
        )
    page = write_study_page(f"Search: {Path(file).stem}", result, target / "tuning.html")
    if json:
        emit_json(result)
        return 0
    show_table("trials, best first", tuple(result.table.columns), result.table.rows())
    note(f"best settings: {target / 'best.yaml'}; page: {page}")
    return 0


def _target(file: str, out: str | None) -> Path:
    """The folder of a study; OSError, before any work, where nothing can be written in it."""
    target = Path(out) if out is not None else Path("runs") / Path(file).stem
    check_writable([target / "study.json"])
    return target


def _overrides(assignments: tuple[str, ...], data: str | None) -> dict[str, Any]:
    return parse_assignments((*assignments, *(() if data is None else (f"data={data}",))))


def profile(
    *assignments: str,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    config: str | None = None,
    steps: Count = 20,
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Say where the time of training goes, in milliseconds per image: loader, host, forward, backward, optimiser.

    Trains for a few steps with the settings of a run, and leaves no run behind.

    Parameters
    ----------
    assignments
        Settings as KEY=VALUE: batch=32, precision=fp32, augment.rotate=10.
    options
        The settings of a run, as `sightline train` takes them.
    config
        YAML file of settings (a run's own config.yaml will do); what is given here wins over it.
    steps
        Batches that are measured, after some that are not.
    out
        Write the result as JSON to this file.
    """
    check_json_out(out)
    settings = settings_given(options, assignments, config)
    if out is not None and Path(out).exists():
        place = settings.data.path
        refuse_overwriting([out], chain([] if config is None else [config], dataset_files(read_dataset(place), place)))
    with TrainWatcher() as watcher:
        result = profile_training(settings, watcher, steps=steps)
    give_result(result, lambda: _show(result), out=out, json=json)
    return 0


def _show(result: Profile) -> None:
    facts, loading = result.conventions, result.loading
    height, width = facts["size_hw"]
    show_table(
        f"{facts['model']} at {height} × {width} in {facts['precision']} on {facts['device']}, batch {facts['batch']}: "
        f"{result.ms_per_image:.2f} ms per image, {result.images_per_s:.1f} images/s",
        tuple(result.parts.columns),
        result.parts.rows(),
    )
    memory = ", ".join(f"{name} {value:.0f} MiB" for name, value in result.peak_memory_mb.items())
    show_line(
        f"loading takes {loading.loading_ms:.2f} ms an image in one process, {loading.reading_ms:.2f} of it reading; "
        f"{facts['workers']} worker processes; peak memory: {memory}"
    )
    show_line(f"most time goes to: {result.bottleneck}")
    for line in result.advice:
        show_line(f"try {line}.")
    if not result.advice:
        note("no setting that was looked at would save a tenth of the time")
