"""A chart as inline SVG: drawn without network, coloured by the page's own light or dark theme, safe to embed."""

import xml.etree.ElementTree as ET
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

__all__ = ["GRID", "INK", "MUTED", "SERIES", "style_chart", "to_svg"]

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


def style_chart(chart: Any, *, title: str, subtitle: str = "", height: int = 230, above: int = 0) -> Any:
    """The chart in house style, of one width for all: no frame, thin grid, muted axes, title at the left.

    `subtitle` says what goes upwards; beside the title it needs no turned letters. `above` is room over the plot.
    """
    axis = {
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
    return (
        chart.properties(width=_WIDTH, height=height, title=alt.TitleParams(title, subtitle=subtitle))
        .configure(
            background="transparent",
            font="sans-serif",
            padding={"left": 10, "right": 4, "top": 4, "bottom": 4},
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .configure_title(
            color=INK,
            fontSize=13,
            fontWeight=600,
            anchor="start",
            frame="bounds",
            offset=8,
            subtitleColor=MUTED,
            subtitleFontSize=11,
            subtitlePadding=4,
        )
        .configure_legend(
            labelColor=INK,
            titleColor=MUTED,
            labelFontSize=11,
            orient="top",
            title=None,
            columns=3,
            labelLimit=74,
            columnPadding=6,
            offset=4 + above,
        )
    )


def to_svg(chart: Any, *, name: str, description: str) -> Markup:
    """The chart as an `<svg>` element for the page; nothing but drawing elements passes, whatever names the data has.

    `name` is its id, by which a link can point at it; `description` is read aloud by screen readers.
    """
    text = vl_convert.vegalite_to_svg(
        chart.to_dict(validate=False), vl_version=".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
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
