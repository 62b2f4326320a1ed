"""The page of a study: its table, the course of its variants where they were compared by epoch, and how it was made."""

from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.files import write_text_atomic
from sightline.core.results import Result
from sightline.report.blocks import Block, Cell, Charts, Pairs, Section, Table
from sightline.report.charts import curve_chart
from sightline.report.numbers import Number
from sightline.report.rendering import render_template

__all__ = ["write_study_page"]


def write_study_page(name: str, result: Result, out: str | Path) -> Path:
    """Write the self-contained page of an ablation or a search (any result with a main table); returns its path."""
    table = result.to_frame()
    source = Path(out).with_suffix(".json").name
    blocks: list[Block] = []
    charts = _courses(table)
    if charts:
        blocks.append(Charts(charts, "Mean over the seeds, epoch by epoch."))
    rows = [[_cell(value, source) for value in row] for row in table.iter_rows()]
    blocks.append(Table(table.columns, rows))
    conventions = {k: v for k, v in result.conventions.items() if k != "description"}
    sections = [
        Section(anchor="table", title="Comparison", intro="", blocks=blocks),
        Section(
            anchor="made",
            title="How it was made",
            intro="",
            blocks=[Pairs([(key, _text(value)) for key, value in conventions.items()])],
        ),
    ]
    about = str(result.conventions.get("description", ""))
    page = render_template("study.html", name=name, about=about, tiles=[], sections=sections)
    target = Path(out)
    write_text_atomic(target, page)
    return target


def _courses(table: pl.DataFrame) -> list[Any]:
    """A chart for each metric that was compared at several epochs."""
    if not {"metric", "epoch", "variant", "mean"} <= set(table.columns):
        return []
    charts = []
    for (metric,), part in table.drop_nulls("epoch").group_by("metric", maintain_order=True):
        series = {
            str(variant): list(rows.select("epoch", "mean").iter_rows())
            for (variant,), rows in part.group_by("variant", maintain_order=True)
        }
        charts.append(curve_chart(str(metric), str(metric), series, x_title="epoch", y_title=str(metric)))
    return charts


def _cell(value: Any, source: str) -> Cell:
    if isinstance(value, float):
        return Number(value, source)
    return None if value is None else str(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
