"""Quality over cost: named points, and the line through the best of each cost; no name hides another, or the line."""

import itertools
import math
from collections.abc import Iterator, Sequence

import altair as alt
from markupsafe import Markup

from sightline.report.charts import data_of
from sightline.report.rendering import INK, MUTED, SERIES, to_svg

__all__ = ["pareto_chart"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the plot

_PLOT = (232.0, 214.0)  # pixels at least, whatever the axis needs: names have no less room than is counted on
_FONT, _LETTER = 11, 5.6  # pixels
_LONGEST = 22  # letters; the table beside it has the whole name
_DOT, _GAP, _RINGS = 5.0, 4.0, 7
_SIDES = ((1, -0.7), (1, 0), (1, 0.7), (-1, -0.7), (-1, 0), (-1, 0.7), (0, -1), (0, 1))
_LED_FROM = 12.0  # pixels between dot and name from which on a line joins them


def pareto_chart(
    name: str, title: str, points: Sequence[tuple[str, float, float]], *, titles_xy: tuple[str, str]
) -> Markup:
    """Named points of cost (x from 0, less is better) and quality (y, more), and a line through the best of each."""
    front = _front([(x, y) for _, x, y in points])
    (left, right), (low, high) = domains = _domains(points)

    def at(x: float, y: float) -> Point:
        return (x - left) / (right - left) * _PLOT[0], (high - y) / (high - low) * _PLOT[1]

    def back(x: float, y: float) -> dict[str, float]:
        return {"x": left + x / _PLOT[0] * (right - left), "y": high - y / _PLOT[1] * (high - low)}

    dots_at = [at(x, y) for _, x, y in points]
    words = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label, _, _ in points]
    places = _places(dots_at, words, [at(*corner) for corner in _steps(front)])
    texts = [{"name": word, **back(*place)} for word, place in zip(words, places, strict=True)]
    leads = [
        {"i": i, **back(*end)}
        for i, (dot, place, word) in enumerate(zip(dots_at, places, words, strict=True))
        for end in _lead(dot, _box(place, word), place)
    ]
    scale_x, scale_y = (alt.Scale(domain=list(ends), nice=False, zero=False) for ends in domains)
    axes = {
        "x": alt.X("x:Q", title=titles_xy[0], scale=scale_x, axis=alt.Axis(tickCount=5)),
        "y": alt.Y("y:Q", title=titles_xy[1], scale=scale_y, axis=alt.Axis(tickCount=5)),
    }
    corners = [{"i": i, "x": x, "y": y} for i, (x, y) in enumerate(_steps(front))]
    line = alt.Chart(data_of(corners)).mark_line(color=MUTED).encode(**axes, order="i:Q")
    joined = alt.Chart(data_of(leads)).mark_line(color=MUTED, strokeWidth=0.8).encode(**axes, detail="i:N")
    rows = [{"x": x, "y": y} for _, x, y in points]
    dots = alt.Chart(data_of(rows)).mark_point(filled=True, size=60, opacity=1, color=SERIES[0]).encode(**axes)
    named = alt.Chart(data_of(texts)).mark_text(baseline="middle", color=INK, fontSize=_FONT)
    described = ", ".join(f"{label}: {y:.3f} at {x:.1f}" for label, x, y in points)
    layers = [line, joined, dots, named.encode(**axes, text="name:N")]
    return to_svg(alt.layer(*layers), name, title, described, height=300)


def _front(points: Sequence[Point]) -> list[Point]:
    """Those that nothing at their cost or below beats, from the cheapest on."""
    best, front = -math.inf, []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if y > best:
            best = y
            front.append((x, y))
    return front


def _steps(front: Sequence[Point]) -> list[Point]:
    """The corners of the line: what a cost buys holds until the next better one."""
    corners = [corner for (_, y), (x, y2) in itertools.pairwise(front) for corner in ((x, y), (x, y2))]
    return [*front[:1], *corners]


def _domains(points: Sequence[tuple[str, float, float]]) -> tuple[Point, Point]:
    ys = [y for _, _, y in points] or [0.0]
    pad = 0.12 * (max(ys) - min(ys)) or 0.05 * abs(max(ys)) or 1.0
    return (0.0, 1.08 * max((x for _, x, _ in points), default=1.0) or 1.0), (min(ys) - pad, max(ys) + pad)


def _places(dots: Sequence[Point], words: Sequence[str], line: Sequence[Point]) -> list[Point]:
    """The middle of each name, the crowded ones last: beside its dot, further off where that is taken."""
    taken = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in dots]
    taken += [_around(a, b) for a, b in itertools.pairwise(line)]
    near = [sum(math.dist(a, b) < 40 for b in dots) for a in dots]
    places: list[Point] = [(0.0, 0.0)] * len(dots)
    for i in sorted(range(len(dots)), key=near.__getitem__):
        places[i] = min(_candidates(dots[i], words[i]), key=lambda c: (_covered(_box(c[1], words[i]), taken), c[0]))[1]
        taken.append(_box(places[i], words[i]))
    return places


def _candidates(dot: Point, word: str) -> Iterator[tuple[int, Point]]:
    """Places of a name around its dot that lie in the plot, with how far off they are."""
    half = len(word) * _LETTER / 2
    for ring in range(_RINGS):
        off = _DOT + _GAP + ring * _FONT
        for dx, dy in _SIDES:
            x, y = dot[0] + dx * (off + half), dot[1] + dy * (off + _FONT / 2)
            inside_x = min(max(x, half), max(half, _PLOT[0] - half))
            inside_y = min(max(y, _FONT / 2), _PLOT[1] - _FONT / 2)
            yield ring, (inside_x, inside_y)


def _box(place: Point, word: str) -> Box:
    half = len(word) * _LETTER / 2
    return place[0] - half, place[1] - _FONT / 2, place[0] + half, place[1] + _FONT / 2


def _around(a: Point, b: Point) -> Box:
    return min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Square pixels of a box that others hold."""
    widths = (max(0.0, min(box[2], o[2]) - max(box[0], o[0])) for o in taken)
    heights = (max(0.0, min(box[3], o[3]) - max(box[1], o[1])) for o in taken)
    return sum(w * h for w, h in zip(widths, heights, strict=True))


def _lead(dot: Point, box: Box, place: Point) -> tuple[Point, ...]:
    """The ends of the line from a dot to a name that lies far from it; none beside it."""
    nearest = min(max(dot[0], box[0]), box[2]), min(max(dot[1], box[1]), box[3])
    return (dot, nearest) if math.dist(dot, nearest) > _LED_FROM else ()
