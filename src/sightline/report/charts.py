"""The report's charts: rows in, inline SVG out. Each shows one thing, small enough to read on a phone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode
from markupsafe import Markup

from sightline.report.rendering import INK, MUTED, SERIES, to_svg

__all__ = [
    "bar_chart",
    "curve_chart",
    "data_of",
    "heat_map",
    "latency_chart",
    "many_curves_chart",
    "position_map",
    "span_chart",
    "stacked_bars",
    "stepped_chart",
    "surface_map",
]

Rows = Sequence[Mapping[str, Any]]
_MAX_NAMED = 11
_POWERS = [10.0**e for e in range(-9, 10)]  # the ticks of a logarithmic axis


def data_of(rows: Rows) -> Any:
    """Rows as altair takes them."""
    with debug_mode(False):  # or altair checks every value of every row against its schema
        return alt.Data(values=[dict(row) for row in rows])  # type: ignore[no-untyped-call]


def _colours(names: Sequence[str], symbol: str = "stroke") -> alt.Color:
    """A colour for each name in the order given; beyond the palette they repeat with the legend's order."""
    colours = [SERIES[i % len(SERIES)] for i in range(len(names))]
    legend = alt.Legend(symbolType=symbol, symbolStrokeWidth=3, title=None, labelLimit=74 if len(names) > 2 else 120)
    return alt.Color("series:N", scale=alt.Scale(domain=list(names), range=colours), sort=list(names), legend=legend)


def _named_rows(key: str, order: Sequence[str], **axis: Any) -> alt.Y:
    """Names from the top down."""
    return alt.Y(
        f"{key}:N", sort=list(order), title=None, axis=alt.Axis(domain=False, ticks=False, labelColor=INK, **axis)
    )


def _amount() -> alt.Y:
    return alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, format="~s"))


def curve_chart(
    name: str,
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_title: str,
    y_title: str,
    unit_y: bool = False,
    zero_y: bool = False,
    log_y: bool = False,
    marker: tuple[float, str] | None = None,
    x_whole: bool = False,
) -> Markup:
    """Lines over a common axis, one for each named series; `marker` draws a labelled upright line at an x.

    `unit_y` fixes the vertical axis to 0..1, `zero_y` lets it begin at 0, `log_y` needs values above 0; `x_whole` keeps
    ticks at whole numbers.
    """
    rows = [{"series": s, "x": x, "y": y} for s, points in series.items() for x, y in points]
    # A single point draws no line: show it as a dot instead.
    dots = max((len(points) for points in series.values()), default=0) < 2
    xs = [x for points in series.values() for x, _ in points]
    # No more ticks than whole numbers, or those between would be rounded to labels that occur twice.
    whole = min(6, max(1, round(max(xs, default=0) - min(xs, default=0))))
    x_axis = alt.Axis(format="d", tickCount=whole, grid=False) if x_whole else alt.Axis(tickCount=6, grid=False)
    y_axis = alt.Axis(values=_POWERS, format="~g") if log_y else alt.Axis(tickCount=5)
    if unit_y:
        y_scale = alt.Scale(domain=[0, 1])
    else:
        y_scale = alt.Scale(type="log", nice=True) if log_y else alt.Scale(zero=zero_y, nice=True)
    base = alt.Chart(data_of(rows))
    mark = base.mark_point(filled=True, size=40) if dots else base.mark_line(strokeWidth=2, interpolate="linear")
    lines = mark.encode(
        x=alt.X("x:Q", title=x_title, axis=x_axis, scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y("y:Q", title=None, scale=y_scale, axis=y_axis),
        color=_colours(list(series)) if len(series) > 1 else alt.value(SERIES[0]),
    )
    layers = [lines, *_marker_layers(marker, xs)]
    described = f"{title}: {y_title} over {x_title} for {', '.join(series)}"
    return to_svg(alt.layer(*layers), name, title, described, subtitle=y_title, above=14 if marker else 0)


def _marker_layers(marker: tuple[float, str] | None, xs: Sequence[float]) -> list[alt.Chart]:
    """The line and, above the plot where no curve is, its label: towards the middle, or it would leave the chart."""
    if marker is None:
        return []
    is_right = marker[0] > (min(xs, default=0) + max(xs, default=0)) / 2
    base = alt.Chart(data_of([{"x": marker[0], "label": marker[1]}]))
    rule = base.mark_rule(strokeDash=[4, 3], color=MUTED).encode(x="x:Q")
    text = base.mark_text(align="right" if is_right else "left", dy=-3, baseline="bottom", fontSize=11, color=MUTED)
    return [rule, text.encode(x="x:Q", y=alt.value(0), text="label:N")]


def many_curves_chart(
    name: str,
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    mean: Sequence[tuple[float, float]],
    *,
    x_title: str,
    y_title: str,
) -> Markup:
    """As many curves as there are colours, each named, with their mean in ink; of more only range and mean."""
    mean_rows = [{"x": x, "y": y} for x, y in mean]
    axes = {
        "x": alt.X("x:Q", title=x_title, axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(domain=[0, 1])),
        "y": alt.Y("y:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5)),
    }
    middle = alt.Chart(data_of(mean_rows)).mark_line(strokeWidth=2.5, color=INK).encode(**axes)
    if len(curves) <= len(SERIES):
        rows = [{"series": s, "x": x, "y": y} for s, points in curves.items() for x, y in points]
        under = alt.Chart(data_of(rows)).mark_line(strokeWidth=1.8).encode(**axes, color=_colours(list(curves)))
        layers = [under] if len(curves) == 1 else [under, middle]
    else:
        values: dict[float, list[float]] = {}
        for points in curves.values():
            for x, y in points:
                values.setdefault(x, []).append(y)
        band = [{"x": x, "low": min(ys), "high": max(ys)} for x, ys in sorted(values.items())]
        under = alt.Chart(data_of(band)).mark_area(opacity=0.25, color=SERIES[0])
        layers = [under.encode(x=axes["x"], y=alt.Y("low:Q", title=None), y2="high:Q"), middle]
    described = f"{title}: {y_title} over {x_title}, {len(curves)} classes and their mean"
    return to_svg(alt.layer(*layers), name, title, described, subtitle=y_title)


def stacked_bars(name: str, title: str, rows: Rows, *, order: Sequence[str], parts: Sequence[str]) -> Markup:
    """Horizontal bars, one for each `label` in `order`, divided into `series`; rows have label, series, value."""
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["label"]] = totals.get(row["label"], 0) + row["value"]
    placed = [{**row, "part": list(parts).index(row["series"])} for row in rows]
    y = _named_rows("label", order)
    bars = (
        alt.Chart(data_of(placed))
        .mark_bar(height={"band": 0.7})
        .encode(
            y=y,
            x=alt.X("value:Q", title=None, axis=alt.Axis(tickCount=4, format="~s"), stack="zero"),
            color=_colours(parts, "square") if len(parts) > 1 else alt.value(SERIES[0]),
            order=alt.Order("part:Q"),
        )
    )
    ends = [{"label": label, "total": total} for label, total in totals.items()]
    text = (
        alt.Chart(data_of(ends))
        .mark_text(align="left", dx=4, fontSize=11, color=MUTED)
        .encode(y=y, x="total:Q", text=alt.Text("total:Q", format=",d"))
    )
    height = 80 + 24 * len(order)
    described = ", ".join(f"{label} {total:g}" for label, total in totals.items())
    return to_svg(bars + text, name, title, f"{title}: {described}", height=height)


def bar_chart(name: str, title: str, rows: Rows, *, x_title: str, y_title: str) -> Markup:
    """A histogram: rows have x1 and x2 (the bin's edges) and value."""
    axis = alt.Axis(grid=False, tickCount=8)
    chart = (
        alt.Chart(data_of(rows))
        .mark_bar(color=SERIES[0], binSpacing=1)
        .encode(x=alt.X("x1:Q", title=x_title, bin=alt.BinParams(binned=True), axis=axis), x2="x2:Q", y=_amount())
    )
    return to_svg(chart, name, title, f"{title}: {y_title} over {x_title}", subtitle=y_title)


def stepped_chart(name: str, title: str, rows: Rows, *, x_title: str, y_title: str) -> Markup:
    """A column for each whole number: rows have x (text, in order) and value."""
    order = [row["x"] for row in rows]
    named = order[:: max(1, -(-len(order) // _MAX_NAMED))]
    x = alt.X("x:N", sort=order, title=x_title, axis=alt.Axis(labelAngle=0, values=named, ticks=False))
    chart = alt.Chart(data_of(rows)).mark_bar(color=SERIES[0]).encode(x=x, y=_amount())
    return to_svg(chart, name, title, f"{title}: {y_title} over {x_title}", subtitle=y_title)


def span_chart(name: str, title: str, rows: Rows, *, x_title: str, log: bool = False) -> Markup:
    """For each row's label the spread of a quantity: a thin line from `low` to `high`, a bar between the quartiles `q1`
    and `q3`, and a tick at the `median`; `log` needs values above 0.
    """
    order = [row["label"] for row in rows]
    base = alt.Chart(data_of(rows))
    y = _named_rows("label", order)
    scale = alt.Scale(type="log") if log else alt.Scale(zero=True)
    axis = alt.Axis(values=_POWERS, format="~g") if log else alt.Axis(tickCount=5, format="~s")
    x = alt.X("low:Q", title=x_title, scale=scale, axis=axis)
    line = base.mark_rule(color=MUTED, strokeWidth=1.5).encode(x=x, x2="high:Q", y=y)
    bar = base.mark_bar(color=SERIES[0], height=10).encode(x=alt.X("q1:Q", scale=scale), x2="q3:Q", y=y)
    tick = base.mark_tick(color=INK, thickness=2, height=14).encode(x=alt.X("median:Q", scale=scale), y=y)
    described = ", ".join(f"{row['label']} {row['median']:g}" for row in rows)
    return to_svg(line + bar + tick, name, title, f"{title}, medians: {described}", height=90 + 24 * len(rows))


def position_map(name: str, title: str, counts: Sequence[Sequence[int]]) -> Markup:
    """Where things lie in the image: `counts[row][column]` on an even grid, rows from the top."""
    top = max(max(row) for row in counts) or 1
    cells = [{"x": c, "y": r, "share": value / top} for r, row in enumerate(counts) for c, value in enumerate(row)]
    sides = (
        alt.Scale(domain=list(range(len(counts[0]))), padding=0.04),
        alt.Scale(domain=list(range(len(counts))), padding=0.04),
    )
    what = "stronger colour where there are more"
    return to_svg(
        _squares(cells, sides, (None, None), 0.06), name, title, f"{title}: {what}", subtitle=f"the whole image; {what}"
    )


def heat_map(name: str, title: str, matrix: Sequence[Sequence[int]]) -> Markup:
    """A large confusion matrix without numbers: opacity is the share of the row; background may come last."""
    cells = [
        {"x": c, "y": r, "share": value / (sum(row) or 1)}
        for r, row in enumerate(matrix)
        for c, value in enumerate(row)
        if value
    ]
    side = alt.Scale(domain=list(range(len(matrix))))
    chart = _squares(cells, (side, side), ("predicted class", "ground truth"), 0.05)
    return to_svg(chart, name, title, title, height=340)


def _squares(cells: Rows, scales_xy: tuple[Any, Any], titles_xy: tuple[str | None, str | None], faintest: float) -> Any:
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    shades = alt.Scale(domain=[0, 1], range=[faintest, 1])
    return (
        alt.Chart(data_of(cells))
        .mark_rect(color=SERIES[0])
        .encode(
            x=alt.X("x:O", axis=axis, title=titles_xy[0], scale=scales_xy[0]),
            y=alt.Y("y:O", axis=axis, title=titles_xy[1], scale=scales_xy[1]),
            opacity=alt.Opacity("share:Q", scale=shades, legend=None),
        )
    )


def surface_map(
    name: str, title: str, cells: Sequence[tuple[float, float, float | None]], *, titles_xy: tuple[str, str]
) -> Markup:
    """A value over two settings: cells of x, y and value with the value written in them, the greatest outlined."""
    known = [value for _, _, value in cells if value is not None and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    rows = [
        {
            "x": f"{x:g}",
            "y": f"{y:g}",
            "text": f"{value:.3f}",
            "share": (value - low) / (high - low) if high > low else 1.0,
            "best": value == high,
        }
        for x, y, value in cells
        if value is not None and math.isfinite(value)
    ]
    x, y = ([f"{v:g}" for v in sorted(set(values))] for values in ([c[0] for c in cells], [c[1] for c in cells]))
    sides = (alt.Scale(domain=x, padding=0.04), alt.Scale(domain=y[::-1], padding=0.04))
    base = alt.Chart(data_of(rows)).encode(
        x=alt.X("x:O", title=titles_xy[0], scale=sides[0], axis=alt.Axis(labelAngle=0)),
        y=alt.Y("y:O", title=titles_xy[1], scale=sides[1]),
    )
    shades = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 0.6]), legend=None)
    squares = base.mark_rect(color=SERIES[0]).encode(opacity=shades)
    frame = base.transform_filter("datum.best").mark_rect(filled=False, stroke=INK, strokeWidth=2)
    words = base.mark_text(color=INK, fontSize=11).encode(text="text:N")
    described = f"{title}: from {low:.3f} to {high:.3f}"
    return to_svg(squares + frame + words, name, title, described, height=80 + 30 * len(y))


def latency_chart(name: str, title: str, rows: Rows) -> Markup:
    """A dot for each percentile of each stage on one time axis: rows have stage, percentile, ms."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    base = alt.Chart(data_of([{**row, "series": row["percentile"]} for row in rows]))
    y = _named_rows("stage", stages, grid=True)
    span = base.mark_line(color=MUTED, strokeWidth=1.5).encode(x="ms:Q", y=y, detail="stage:N")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("ms:Q", title="milliseconds per frame", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5)),
        y=y,
        color=_colours(["p50", "p95", "p99"], "circle"),
    )
    height = 100 + 30 * len(stages)
    described = ", ".join(f"{row['stage']} {row['percentile']} {row['ms']:.2f} ms" for row in rows)
    return to_svg(span + dots, name, title, described, height=height)
