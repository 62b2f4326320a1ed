"""The data section: how much of what there is, how large, where, how crowded, and what the audit found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from sightline.core.dataset import Dataset
from sightline.core.findings import SEVERITIES
from sightline.report.blocks import Block, Cell, Charts, Note, Pairs, Section, Table
from sightline.report.charts import bar_chart, position_map, stacked_bars, stepped_chart
from sightline.report.numbers import Number, Source
from sightline.report.records import DataNow, RunRecord

__all__ = ["data_section", "object_charts", "split_table"]

_MAX_CLASSES = 30
_MAX_FINDINGS = 100
_MAX_ALIKE = 3
_CROWD_LIMIT = 30
_SIZE_BINS = 20
_MAP_ROWS, _MAP_COLUMNS = 12, 16


def data_section(record: RunRecord, now: DataNow) -> Section:
    """Counts as the run recorded them, distributions of the data as it is now, and whether both are the same."""
    blocks: list[Block] = [_identity(record, now)]
    if now.dataset is not None:
        blocks += [split_table(now.dataset), *_charts(now.dataset, record)]
    elif record.part:
        blocks.append(_recorded_counts(record))
    blocks += _audit_blocks(record)
    missing = (
        "" if now.dataset is not None else f"Distributions are left out: the data could not be read ({now.problem})"
    )
    if record.audit is None:
        missing = f"{missing} No audit was measured in this run.".strip()
    return Section(
        anchor="data",
        title="Data",
        intro="What the model learned from and was judged on.",
        blocks=blocks,
        missing=missing,
    )


def _identity(record: RunRecord, now: DataNow) -> Block:
    part = record.part
    verdict = {
        True: "yes: the digest of every image and label is the run's",
        False: "NO: images or labels differ from those the run used",
        None: "not known: the run recorded no digest, or the data could not be read",
    }[now.unchanged]
    rows: list[tuple[str, Cell]] = [
        ("name", str(part.get("name") or "not recorded")),
        ("format", str(part.get("format") or "not recorded")),
        ("path", str(part.get("path") or "not recorded")),
        ("data unchanged since the run", verdict),
        ("digest in the run", record.data_digest or "not recorded"),
    ]
    if now.unchanged is False:
        rows.append(("digest now", now.digest))
    excluded = part.get("excluded")
    if excluded:
        rows.append(("images left out as asked", ", ".join(map(str, excluded))))
    return Pairs(rows)


def _recorded_counts(record: RunRecord) -> Block:
    source = Source("run.json", record.run)
    rows: list[tuple[str, Cell]] = []
    for key, label in (("images_by_split", "images"), ("objects_by_class", "objects")):
        counts = record.part.get(key)
        for name in counts if isinstance(counts, Mapping) else ():
            rows.append((f"{label}: {name}", source.optional("data", key, name, style="count")))
    return Pairs(rows, "Counts as the run recorded them")


def split_table(dataset: Dataset) -> Block:
    """What each split holds, and all of them together."""
    table = dataset.images.select("image_id", part=pl.col("split").fill_null("(no split)"))
    objects = dataset.objects.join(table, on="image_id")
    names = table["part"].unique(maintain_order=True).to_list()
    rows: list[list[Cell]] = []
    for name in [*names, "all"] if len(names) > 1 else names:
        images = table if name == "all" else table.filter(pl.col("part") == name)
        mine = objects if name == "all" else objects.filter(pl.col("part") == name)
        empty = images.height - mine["image_id"].n_unique()
        left_out = mine.filter(pl.col("crowd") | pl.col("ignore")).height
        source = f"data set, split {name}:"
        rows.append(
            [
                name,
                Number(images.height, f"{source} images", "count"),
                Number(mine.height, f"{source} objects", "count"),
                Number(left_out, f"{source} crowd or ignored objects", "count"),
                Number(empty, f"{source} images without objects", "count"),
                Number(images.height and mine.height / images.height, f"{source} objects per image", "plain"),
            ]
        )
    if dataset.task == "semantic":
        return Table(["split", "images"], [row[:2] for row in rows], strong_last=len(names) > 1)
    head = ["split", "images", "objects", "of these crowd or ignored", "images without objects", "objects per image"]
    return Table(head, rows, strong_last=len(names) > 1)


def _charts(dataset: Dataset, record: RunRecord) -> list[Block]:
    return _pixel_charts(record) if dataset.task == "semantic" else object_charts(dataset)


def object_charts(dataset: Dataset) -> list[Block]:
    """Objects by class and split, their sizes and places, and how crowded images are."""
    if dataset.objects.is_empty():
        return [Note("The data set has no objects.", "warning")]
    charts = [_class_chart(dataset), *_box_charts(dataset), _crowding_chart(dataset)]
    hidden = max(0, len(dataset.class_names) - _MAX_CLASSES)
    caption = "Ignored and crowd objects are counted; size is the square root of the box's share of the image."
    return [Charts(charts, f"{caption} The {hidden} rarest classes are not drawn." if hidden else caption)]


def _class_chart(dataset: Dataset) -> Markup:
    named = dataset.images.select("image_id", part=pl.col("split").fill_null("all"))
    counts = dataset.objects.join(named, on="image_id").group_by("class_id", "part").len()
    totals = dict(dataset.objects.group_by("class_id").len().iter_rows())
    shown = sorted(range(len(dataset.class_names)), key=lambda c: (-totals.get(c, 0), c))[:_MAX_CLASSES]
    parts = named["part"].unique(maintain_order=True).to_list()
    found = {(c, p): n for c, p, n in counts.iter_rows()}
    rows = [
        {"label": dataset.class_names[c], "series": part, "value": found.get((c, part), 0)}
        for c in shown
        for part in parts
    ]
    order = [dataset.class_names[c] for c in shown]
    return stacked_bars("data-classes", "Objects by class", rows, order=order, parts=parts)


def _box_charts(dataset: Dataset) -> list[Markup]:
    sizes = dataset.images.select("image_id", w=pl.col("width"), h=pl.col("height"))
    boxes = dataset.objects.filter((pl.col("x2") > pl.col("x1")) & (pl.col("y2") > pl.col("y1")))
    boxes = boxes.join(sizes, on="image_id", maintain_order="left")
    if boxes.is_empty():
        return []
    share = boxes.select(
        ((pl.col("x2") - pl.col("x1")) * (pl.col("y2") - pl.col("y1")) / (pl.col("w") * pl.col("h"))).sqrt()
    )
    percent = share.to_series().to_numpy() * 100
    counts, edges = np.histogram(percent, bins=_SIZE_BINS, range=(0, max(float(percent.max()), 1.0)))
    bins = [
        {"x1": float(a), "x2": float(b), "value": int(n)} for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
    centres = boxes.select(
        x=(pl.col("x1") + pl.col("x2")) / 2 / pl.col("w"), y=(pl.col("y1") + pl.col("y2")) / 2 / pl.col("h")
    ).to_numpy()
    grid, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=(_MAP_ROWS, _MAP_COLUMNS), range=((0, 1), (0, 1)))
    return [
        bar_chart("data-sizes", "Object size", bins, x_title="% of the image's side", y_title="objects"),
        position_map("data-positions", "Where object centres lie", grid.astype(int).tolist()),
    ]


def _crowding_chart(dataset: Dataset) -> Markup:
    per_image = dataset.images.select("image_id").join(
        dataset.objects.group_by("image_id").len(), on="image_id", how="left"
    )
    counts = np.bincount(per_image["len"].fill_null(0).clip(0, _CROWD_LIMIT).to_numpy())
    names = [str(i) if i < _CROWD_LIMIT else f"{_CROWD_LIMIT}+" for i in range(len(counts))]
    rows = [{"x": x, "value": int(n)} for x, n in zip(names, counts, strict=True)]
    return stepped_chart("data-crowding", "Objects per image", rows, x_title="objects in the image", y_title="images")


def _pixel_charts(record: RunRecord) -> list[Block]:
    rows = (record.evaluation or {}).get("per_class")
    if not rows or "truth_pixels" not in rows[0]:
        return []
    bars = [{"label": row["class"], "series": "pixels", "value": row["truth_pixels"]} for row in rows[:_MAX_CLASSES]]
    order = [bar["label"] for bar in bars]
    chart = stacked_bars("data-pixels", "Ground-truth pixels by class", bars, order=order, parts=["pixels"])
    return [Charts([chart], "Of the evaluated images.")]


def _audit_blocks(record: RunRecord) -> list[Block]:
    if record.audit is None:
        return []
    findings = record.audit.get("findings") or []
    if not findings:
        return [Note("The audit found nothing to report.", "good")]
    ranked = sorted(enumerate(findings), key=lambda item: -SEVERITIES.index(item[1]["severity"]))
    shown: list[tuple[int, Mapping[str, Any]]] = []
    alike = Counter[str]()
    for index, finding in ranked:
        alike[finding["code"]] += 1
        # Faults are listed; of remarks that repeat, a few show what they look like.
        if finding["severity"] != "info" or alike[finding["code"]] <= _MAX_ALIKE:
            shown.append((index, finding))
    rows = [_finding_row(finding, index) for index, finding in shown[:_MAX_FINDINGS]]
    rest = len(findings) - len(rows)
    caption = f"Audit findings, {len(findings)} in all" + (f"; {rest} more in audit.json" if rest else "")
    return [Table(["severity", "finding", "where", "count", "what to do"], rows, caption)]


def _finding_row(finding: Mapping[str, Any], index: int) -> Sequence[Cell]:
    path, line = finding.get("path"), finding.get("line")
    where = f"{path}:{line}" if path and line is not None else str(path or "–")
    count = Number(int(finding.get("count", 1)), f"audit.json findings.{index}.count", "count")
    message = f"{finding.get('code', '')}: {finding.get('message', '')}"
    return [str(finding["severity"]), message, where, count, str(finding.get("do") or "–")]
