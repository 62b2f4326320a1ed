"""`sightline profile`."""

from typing import Annotated

from cyclopts import Parameter

from sightline.cli.console import (
    Count,
    JsonFlag,
    TrainWatcher,
    check_json_name,
    give_result,
    note,
    show_line,
    show_table,
)
from sightline.cli.train import TrainOptions, settings_given
from sightline.train import Profile, profile_training

__all__ = ["profile"]


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
    check_json_name(out)
    with TrainWatcher() as watcher:
        result = profile_training(settings_given(options, assignments, config), watcher, steps=steps)
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
