"""Making an ablation from the command line: its runs, its table, its page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.cli.console import emit_json, note, progress_bar, show_table
from sightline.report import write_study_page
from sightline.train import Ablation, run_ablation

__all__ = ["show_ablation"]


def show_ablation(
    title: str,
    ablation: Ablation,
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
        result = run_ablation(
            ablation,
            target,
            overrides=overrides,
            jobs=jobs,
            threads=threads,
            where=where,
            progress=lambda done, total, what: bar("runs", done, total),
        )
    page = write_study_page(title, result, target / "ablation.html")
    if json:
        emit_json(result)
        return
    show_table(str(result.conventions["description"]), tuple(result.table.columns), result.table.rows())
    note(f"written: {page} and ablation.json, .csv, .md beside it")
