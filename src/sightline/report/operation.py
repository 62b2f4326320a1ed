"""How it runs: latency by stage, agreement of the exported file with the model, and tracking."""

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.report.blocks import Block, Cell, Charts, Pairs, Section, Table, Tile, pairs_of
from sightline.report.charts import curve_chart, latency_chart
from sightline.report.numbers import MEANINGS, TRACKING_COLUMNS, TRACKING_COUNTS, Source, Style
from sightline.report.records import RunRecord

__all__ = ["export_section", "latency_section", "latency_tile", "tracking_section", "tracking_tile"]

_LATENCY = "latency"
_LATENCY_HEAD = {
    "count": "samples",
    "mean_ms": "mean",
    "p50_ms": "p50",
    "p95_ms": "p95",
    "p99_ms": "p99",
    "max_ms": "max",
}
_PERCENTILES = {"p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99"}
_PARTS = ("HOTA", "DetA", "AssA")


def latency_section(record: RunRecord) -> Section:
    """`video.json`: each stage's latency, and what else the video run says about itself."""
    if record.video is None:
        return Section("latency", "Speed", missing="Latency was not measured in this run: no video was run.")
    source = Source("video.json", record.video)
    rows: Sequence[Mapping[str, Any]] = record.video.get(_LATENCY) or []
    blocks: list[Block] = []
    if rows:
        points = [
            {"stage": str(row["stage"]), "percentile": label, "ms": row[key]}
            for row in rows
            for key, label in _PERCENTILES.items()
            if row.get(key) is not None
        ]
        blocks.append(Charts([latency_chart("latency-stages", "Latency by stage", points)]))
        cells: list[list[Cell]] = [
            [str(row["stage"]), *(source.number(_LATENCY, i, key, style=_latency_style(key)) for key in _LATENCY_HEAD)]
            for i, row in enumerate(rows)
        ]
        blocks.append(Table(["stage", *_LATENCY_HEAD.values()], cells, "Milliseconds per frame"))
    rest = {key: value for key, value in record.video.items() if key != _LATENCY}
    if rest:
        blocks.append(Pairs(pairs_of(rest, "video.json"), "The video run", folded=True))
    return Section(
        anchor="latency",
        title="Speed",
        intro="Half of all frames are faster than p50; one in a hundred is slower than p99." if rows else "",
        blocks=blocks,
        missing="" if rows else "Latency by stage was not measured in this run.",
    )


def _latency_style(key: str) -> Style:
    return "count" if key == "count" else "ms"


def latency_tile(record: RunRecord) -> Tile | None:
    """p95 of the slowest stage, None where latency was not measured."""
    rows = (record.video or {}).get(_LATENCY) or []
    if not rows:
        return None
    slowest = max(range(len(rows)), key=lambda i: rows[i]["p95_ms"])
    number = Source("video.json", record.video).number(_LATENCY, slowest, "p95_ms", style="ms")
    return Tile("Slowest stage, p95", number, f"19 of 20 frames spend less in '{rows[slowest]['stage']}'.")


def export_section(record: RunRecord) -> Section:
    """`export.json`: how closely the exported file follows the model."""
    if record.export is None:
        return Section("export", "Export", missing="Nothing was exported in this run, so parity was not measured.")
    return Section(
        anchor="export",
        title="Export",
        intro="The exported file was run beside the model on real images; it is written only where both agree.",
        blocks=[Pairs(pairs_of(record.export, "export.json"))],
    )


def tracking_section(record: RunRecord) -> Section:
    """`tracking.json`: HOTA, CLEAR and Identity by sequence and combined."""
    if record.tracking is None:
        return Section("tracking", "Tracking", missing="Tracking was not measured in this run.")
    source = Source("tracking.json", record.tracking)
    combined = record.tracking["combined"]
    columns = [key for key in TRACKING_COLUMNS if key in combined["metrics"]]
    rows = [
        _tracking_row(str(part["name"]), source, ("sequences", i), columns)
        for i, part in enumerate(record.tracking["sequences"])
    ]
    rows.append(_tracking_row(str(combined["name"]), source, ("combined",), columns))
    blocks: list[Block] = [
        Table(["sequence", *(TRACKING_COLUMNS[key] for key in columns)], rows, strong_last=True),
    ]
    curves = combined.get("by_alpha") or {}
    series = {key: list(zip(record.tracking["alphas"], curves[key], strict=True)) for key in _PARTS if curves.get(key)}
    if series:
        blocks.append(
            Charts(
                [
                    curve_chart(
                        "tracking-alpha",
                        "HOTA over localisation thresholds",
                        series,
                        x_title="alpha: IoU a match needs",
                        y_title="combined sequences",
                        unit_y=True,
                    )
                ],
                "HOTA is the mean of its curve; DetA is about finding, AssA about keeping identities.",
            )
        )
    conventions = record.tracking.get("conventions") or {}
    blocks.append(
        Pairs(pairs_of(conventions, "tracking.json conventions"), "Conventions of these numbers", folded=True)
    )
    return Section("tracking", "Tracking", MEANINGS["HOTA"], blocks)


def _tracking_row(name: str, source: Source, place: tuple[str | int, ...], columns: Sequence[str]) -> list[Cell]:
    numbers = [
        source.number(*place, "metrics", key, style="count" if key in TRACKING_COUNTS else "score") for key in columns
    ]
    return [name, *numbers]


def tracking_tile(record: RunRecord) -> Tile | None:
    """HOTA of all sequences combined, None where tracking was not measured."""
    if record.tracking is None:
        return None
    return Tile(
        "HOTA", Source("tracking.json", record.tracking).number("combined", "metrics", "HOTA"), MEANINGS["HOTA"]
    )
