"""The files of a look at a data set: a PNG for each sheet, and one self-contained HTML page with all of them.

The page of a study is beside it: its table, the course of its variants by epoch, and how it was made.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic, write_text_atomic
from sightline.core.results import Result
from sightline.data import absolute
from sightline.draw.look import Cell, Sheet, paint_sheet
from sightline.report.blocks import Block, Charts, Pairs, Picture, Pictures, Section, Table, jpeg_uri
from sightline.report.blocks import Cell as TableCell
from sightline.report.charts import curve_chart, surface_map
from sightline.report.numbers import TASK_TITLES, Number
from sightline.report.pareto import pareto_chart
from sightline.report.rendering import render_template

__all__ = ["LookResult", "OutputFormat", "check_apart", "shown_pictures", "write_look", "write_study_page"]

OutputFormat = Literal["png", "html", "both"]
PAGE, LIST = "look.html", "look.json"
_SECTIONS = {
    "images": ("Images", "Whole images with their labels."),
    "class": ("Classes", "What each class looks like: objects with what is around them."),
    "tracks": ("Tracks", "Who is who over time."),
    "augment": ("Augmentation", "What the network is given while it learns, with the labels that are left."),
    "finding": ("Findings", "The places behind what the audit found; white corners mark what a finding is about."),
}


@dataclass(frozen=True)
class LookResult:
    """What was written, and for each sheet its name, title and number of pictures."""

    files: tuple[Path, ...]
    sheets: tuple[tuple[str, str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        sheets = [{"name": name, "title": title, "pictures": count} for name, title, count in self.sheets]
        return {"files": [f.as_posix() for f in self.files], "sheets": sheets}


def write_look(
    dataset: Dataset, sheets: Iterable[Sheet], folder: str | Path, output: OutputFormat = "both", about: str = ""
) -> LookResult:
    """Write the sheets into a folder as `<sheet>.png`, all as `look.html`, and `look.json`, which lists what is shown.

    The files of an earlier look in the folder, which its `look.json` names, are replaced. ConfigError where the folder
    lies inside the data set, or a file that is not of a look stands in the way; nothing has been written then.
    """
    target = absolute(Path(folder))
    check_apart(target, dataset)
    earlier = _earlier_files(target)
    target.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Block]] = {kind: [] for kind in _SECTIONS}
    shown: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix=".look-", dir=target) as made:
        for sheet in sheets:
            if output != "html":
                Image.fromarray(paint_sheet(sheet)).save(Path(made) / f"{sheet.name}.png")
            if output != "png":
                parts[sheet.kind].append(_block(sheet))
            cells = [{"title": c.title, "lines": list(c.lines)} for c in sheet.cells]
            shown.append({"name": sheet.name, "title": sheet.title, **sheet.facts, "cells": cells})
        if output != "png":
            (Path(made) / PAGE).write_text(_page(dataset, parts, about), encoding="utf-8")
        names = sorted(p.name for p in Path(made).iterdir())
        write_json_atomic(Path(made) / LIST, {"made_by": "sightline look", "files": names, "sheets": shown})
        _move(Path(made), target, [*names, LIST], earlier)
    counts = tuple((str(s["name"]), str(s["title"]), len(s["cells"])) for s in shown)
    return LookResult(tuple(Path(folder) / name for name in [*names, LIST]), counts)


def shown_pictures(cells: Iterable[Cell]) -> list[Picture]:
    """Cells as pictures of a page, embedded as JPEG."""
    return [
        Picture(
            jpeg_uri(cell.picture),
            cell.picture.shape[1],
            cell.picture.shape[0],
            cell.title,
            f"{cell.title}: {'; '.join(cell.lines)}",
            note="\n".join(cell.lines),
        )
        for cell in cells
    ]


def _block(sheet: Sheet) -> Pictures:
    key = [(f"#{red:02x}{green:02x}{blue:02x}", name) for (red, green, blue), name in sheet.key]
    wide, small = sheet.name.startswith("tracks-"), sheet.kind == "class"
    columns = sheet.columns if sheet.kind == "augment" else 0  # each row is one image
    return Pictures(sheet.title, shown_pictures(sheet.cells), sheet.note, key, wide=wide, small=small, columns=columns)


def _page(dataset: Dataset, parts: dict[str, list[Block]], about: str) -> str:
    sections = [Section(kind, *_SECTIONS[kind], blocks=blocks) for kind, blocks in parts.items() if blocks]
    return render_template(
        "look.html",
        task=TASK_TITLES[dataset.task],
        name=dataset.name,
        about=about,
        tiles=[],
        sections=sections,
        empty="" if sections else "There is nothing to show: no image, or none that was asked for.",
    )


def check_apart(target: Path, dataset: Dataset) -> None:
    """Refuse a folder inside the data set's, or inside one with images where that is merely what all files share."""
    root, place = absolute(dataset.root).resolve(), target.resolve()
    shared = root in Path.cwd().resolve().parents
    folders = {(root / path).parent for path in dataset.images["path"].to_list()} if shared else {root}
    if any(place.is_relative_to(folder) for folder in folders):
        raise ConfigError(
            f"pictures must be written outside the data set's folder {dataset.root}, got a folder in it",
            where=str(target),
            do="Choose another folder with --out",
        )
    if target.exists() and not target.is_dir():
        raise ConfigError("the output must be a folder, got a file", where=str(target))


def _earlier_files(target: Path) -> set[str]:
    """The files of an earlier look, by its list; plain names of this folder only."""
    try:
        listed = json.loads((target / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    ours = isinstance(listed, dict) and listed.get("made_by") == "sightline look"
    files = listed.get("files") if ours else None
    names = {str(n) for n in files} if isinstance(files, list) else set()
    return {LIST} | {n for n in names if Path(n).name == n} if ours else set()


def _move(made: Path, target: Path, names: list[str], earlier: set[str]) -> None:
    foreign = [n for n in names if (target / n).exists() and n not in earlier]
    if foreign:
        raise ConfigError(
            f"the output must hold no other '{foreign[0]}', got one that no look has made",
            where=str(target),
            do="Choose another folder with --out",
        )
    for name in names:
        shutil.move(made / name, target / name)
    for name in earlier - set(names):
        (target / name).unlink(missing_ok=True)


def write_study_page(name: str, result: Result, out: str | Path) -> Path:
    """Write the self-contained page of an ablation or a search (any result with a main table); returns its path."""
    table = result.to_frame()
    source = Path(out).with_suffix(".json").name
    blocks: list[Block] = []
    charts = _courses(table)
    if charts:
        blocks.append(Charts(charts, "Mean over the seeds, epoch by epoch."))
    if {"model", "ms"} <= set(table.columns):
        said = "Up is better, left is faster: no model is both than one on the line."
        blocks.append(Charts([_quality_and_cost(table)], said))
    surfaces = _surfaces(table)
    if surfaces:
        blocks.append(Charts(surfaces, "The darker, the better; the best point of each surface is outlined."))
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


def _quality_and_cost(table: pl.DataFrame) -> Any:
    """Each model by its time and its first metric."""
    metric = next(name.removesuffix("_low") for name in table.columns if name.endswith("_low"))
    points = table.drop_nulls([metric, "ms"]).select("model", "ms", metric).rows()
    return pareto_chart(
        f"{metric} and time", f"{metric} and milliseconds", points, titles_xy=("milliseconds an image", metric)
    )


def _surfaces(table: pl.DataFrame) -> list[Any]:
    """Of a search for thresholds: a map over confidence and IoU for each suppression, number of boxes and metric."""
    if not {"suppression", "conf", "iou", "max_det"} <= set(table.columns):
        return []
    charts = []
    for metric in ("F1", "AP50"):
        for (suppression, most), part in table.group_by("suppression", "max_det", maintain_order=True):
            name, cells = f"{metric}, {suppression}, {most} boxes", part.select("conf", "iou", metric).rows()
            charts.append(surface_map(name, name, cells, titles_xy=("least score", "IoU of suppression")))
    return charts


def _cell(value: Any, source: str) -> TableCell:
    if isinstance(value, float):
        return Number(value, source)
    return None if value is None else str(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
