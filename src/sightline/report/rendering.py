"""Pages: from templates (every text from the data is escaped), as Markdown, and with drawings as inline SVG."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup

from sightline.report.blocks import Block, Cell, Charts, Code, Note, Pairs, Pictures, Section, Table, Tile, Tiles
from sightline.report.numbers import Number

__all__ = ["GRID", "INK", "MUTED", "SERIES", "render_template", "sections_to_markdown", "to_svg"]


def render_template(name: str, /, **values: Any) -> str:
    """The finished HTML of a template in `sightline/report/templates`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sightline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["number"] = lambda value: isinstance(value, Number)
    return environment.get_template(name).render(**values)


_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"})


def sections_to_markdown(title: str, lead: str, tiles: Sequence[Tile], sections: Iterable[Section]) -> str:
    """A Markdown document; every text from the data is escaped."""
    lines = [f"# {_plain(title)}", "", _plain(lead), ""]
    lines += _block(Tiles(tiles))
    for section in sections:
        lines += ["", f"## {_plain(section.title)}", ""]
        lines += [_plain(text) for text in (section.intro, section.missing) if text]
        for block in section.blocks:
            body = _block(block)
            lines += ["", *body] if body else []
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> list[str]:
    match block:
        case Table():
            return [*_caption(block.caption), *_table(block.head, block.rows)]
        case Pairs():
            return [*_caption(block.caption), *_table(["", ""], block.rows)]
        case Tiles():
            return [f"- **{_plain(t.label)}**: {_plain(t.number)}. {_plain(t.meaning)}" for t in block.tiles]
        case Note():
            return [f"> {_plain(block.text)}"]
        case Code():
            return [*_caption(block.caption), *(f"    {line}" for line in block.text.splitlines())]
        case Charts() | Pictures():
            return ["*Drawn in the HTML page.*"]
        case _:
            raise TypeError(f"no Markdown for a block of kind {block.kind}")


def _caption(text: str) -> list[str]:
    return [f"**{_plain(text)}**", ""] if text else []


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    lines = [head, *rows]
    first, *body = ("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)
    return [first, "|" + "---|" * len(head), *body]


def _plain(value: Cell) -> str:
    """A cell on one line, with nothing in it that Markdown would act on."""
    return " ".join(("–" if value is None else str(value)).split()).translate(_SPECIAL)


INK, MUTED, GRID = "#010203", "#040506", "#070809"
SERIES = ("#a10001", "#a10002", "#a10003", "#a10004", "#a10005", "#a10006")
"""Stand-ins: the finished SVG has the style sheet's variables in their place, so that a chart follows the theme."""
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)},
}
_WIDTH = 310
_ALLOWED_TAGS = {"svg", "g", "path", "rect", "text", "line", "circle", "defs", "clipPath", "title", "tspan"}
_SVG_NAMESPACE = "{http://www.w3.org/2000/svg}"


_AXIS = {
    "labelColor": MUTED,
    "titleColor": MUTED,
    "gridColor": GRID,
    "domainColor": GRID,
    "tickColor": GRID,
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
    "titlePadding": 6,
    "labelLimit": 104,
}
_TITLE = {
    "color": INK,
    "fontSize": 13,
    "fontWeight": 600,
    "anchor": "start",
    "frame": "bounds",
    "offset": 8,
    "subtitleColor": MUTED,
    "subtitleFontSize": 11,
    "subtitlePadding": 4,
}
_LEGEND = {
    "labelColor": INK,
    "titleColor": MUTED,
    "labelFontSize": 11,
    "orient": "top",
    "title": None,
    "columns": 3,
    "labelLimit": 74,
    "columnPadding": 6,
}
_CONFIG = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": {"left": 10, "right": 4, "top": 4, "bottom": 4},
    "autosize": {"type": "fit", "contains": "padding"},
    "axis": _AXIS,
    "title": _TITLE,
}


def _styled(chart: Any, title: str, subtitle: str, height: int, above: int) -> dict[str, Any]:
    """The chart of one width for all, as a specification: no frame, thin grid, muted axes, title at the left.

    The look is added to the finished specification: altair would check it key by key for every chart.
    """
    spec: dict[str, Any] = chart.properties(width=_WIDTH, height=height).to_dict(validate=False)
    spec["title"] = {"text": title, "subtitle": subtitle}
    view = {**spec.get("config", {}).get("view", {}), "stroke": None}
    spec["config"] = {**_CONFIG, "view": view, "legend": {**_LEGEND, "offset": 4 + above}}
    return spec


def to_svg(
    chart: Any, name: str, title: str, description: str, *, subtitle: str = "", height: int = 230, above: int = 0
) -> Markup:
    """The chart in house style as an `<svg>` element; nothing but drawing elements passes, whatever names the data has.

    `name` is its id, by which a link can point at it; `description` is read aloud by screen readers. `subtitle` says
    what goes upwards; beside the title it needs no turned letters. `above` is room over the plot.
    """
    text = vl_convert.vegalite_to_svg(
        _styled(chart, title, subtitle, height, above),
        vl_version=".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2]),
    )
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(_clean(ET.fromstring(text), name, description))  # noqa: S314, S704 - our own renderer's output, and cleaned


def _clean(root: ET.Element, name: str, description: str) -> str:
    """The tree as text: no namespace declarations, scripts, links or event handlers, sized by the page."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG_NAMESPACE)
        if element.tag not in _ALLOWED_TAGS or "id" in element.attrib:  # ids would meet those of other charts
            raise AssertionError(f"a chart must hold only drawing elements without ids, got <{element.tag}>")
        for key in list(element.attrib):
            if key.startswith(("on", "{", "aria-")) or key in ("href", "role"):
                del element.attrib[key]
    for key in ("width", "height"):
        root.attrib.pop(key)
    root.attrib.update({"id": name, "role": "img", "aria-label": description})
    return ET.tostring(root, encoding="unicode")
