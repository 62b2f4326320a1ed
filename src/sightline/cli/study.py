"""`sightline ablate` and `sightline tune`."""

from pathlib import Path
from typing import Any

from sightline.cli.console import Count, JsonFlag, TrainWatcher, emit_json, note, show_table
from sightline.cli.train import parse_assignments, show_ablation
from sightline.report import write_study_page
from sightline.train import Ablation, Tuning, run_tuning

__all__ = ["ablate", "tune"]


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
    target = Path(out) if out is not None else Path("runs") / Path(file).stem
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
    target = Path(out) if out is not None else Path("runs") / Path(file).stem
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


def _overrides(assignments: tuple[str, ...], data: str | None) -> dict[str, Any]:
    return parse_assignments((*assignments, *(() if data is None else (f"data={data}",))))
