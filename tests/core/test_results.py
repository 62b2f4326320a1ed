"""Results: strict JSON, Markdown that keeps its table, HTML that escapes."""

import json
import math
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl

from sightline.core.results import Result, markdown_table


@dataclass(frozen=True)
class Inner(Result):
    ap: float
    conventions: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    code: str
    share: float
    missed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nested(Result):
    rows: tuple[Row, ...]
    by_name: dict[str, Row]
    conventions: dict[str, Any] = field(default_factory=dict)


def test_nested_dataclasses_are_plain_json():
    value = Nested((Row("a", math.nan, ("x",)), Row("b", 0.5)), {"c": Row("c", math.inf)}, {"of": Row("d", 1.0)})
    read = json.loads(json.dumps(value.to_dict(), allow_nan=False))
    assert read == {
        "rows": [{"code": "a", "share": None, "missed": ["x"]}, {"code": "b", "share": 0.5, "missed": []}],
        "by_name": {"c": {"code": "c", "share": None, "missed": []}},
        "conventions": {"of": {"code": "d", "share": 1.0, "missed": []}},
    }


@dataclass(frozen=True)
class Outer(Result):
    map50: float
    images: int
    recall: np.float32
    empty: float
    passed: bool
    per_class: pl.DataFrame
    inner: Inner
    parts: dict[str, Inner]
    curve: np.ndarray
    names: tuple[str, ...]
    conventions: dict[str, Any]


def outer() -> Outer:
    return Outer(
        map50=0.51234567,
        images=12,
        recall=np.float32(0.25),
        empty=math.nan,
        passed=True,
        per_class=pl.DataFrame({"class": ["cat", "<b>dog</b>"], "ap": [0.5, math.nan]}),
        inner=Inner(math.inf),
        parts={"a": Inner(0.1)},
        curve=np.array([0.0, math.nan, 1.0]),
        names=("<b>", "x|y"),
        conventions={"max_det": 100, "split": "<script>alert(1)</script>"},
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


def test_to_dict_is_strict_json():
    values = outer().to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["empty"] is None
    assert values["inner"] == {"ap": None, "conventions": {}}
    assert values["parts"] == {"a": {"ap": 0.1, "conventions": {}}}
    assert values["per_class"] == [{"class": "cat", "ap": 0.5}, {"class": "<b>dog</b>", "ap": None}]
    assert values["curve"] == [0.0, None, 1.0]
    assert values["names"] == ["<b>", "x|y"]
    assert values["conventions"]["max_det"] == 100


def test_to_frame_holds_every_number():
    frame = outer().to_frame()
    assert frame.schema == {"metric": pl.String, "value": pl.Float64}
    assert frame["metric"].to_list() == ["map50", "images", "recall", "empty"]
    assert frame["value"].to_list()[:3] == [0.51234567, 12.0, 0.25]


def test_to_markdown():
    text = outer().to_markdown()
    assert "| map50 | 0.5123 |" in text
    assert "| empty | – |" in text
    assert "Conventions: max_det: 100; split: <script>" in text


def test_markdown_cells_cannot_break_the_table():
    text = markdown_table(pl.DataFrame({"a|b": ["x|y", "two\nlines", None], "n": [1, 2, 3]}))
    lines = text.splitlines()
    assert len(lines) == 2 + 3
    assert lines[0] == "| a\\|b | n |"
    assert lines[2] == "| x\\|y | 1 |"
    assert lines[3] == "| two lines | 2 |"
    assert lines[4] == "| – | 3 |"


def test_notebook_view_escapes_everything():
    @dataclass(frozen=True)
    class Named(Result):
        conventions: dict[str, Any]

        def to_frame(self) -> pl.DataFrame:
            return pl.DataFrame({"<i>class</i>": ["<img src=x onerror=alert(1)>"]})

    tags = Tags()
    text = Named({"split": "<script>alert(1)</script>"})._repr_html_()
    tags.feed(text)
    assert set(tags.seen) == {"table", "thead", "tr", "th", "tbody", "td", "p", "small"}
    assert "&lt;script&gt;" in text
