"""What a page is made of: sections of a few kinds of block, each with a part of its own in the template."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from sightline.report.numbers import Number

__all__ = [
    "Block",
    "Cell",
    "Charts",
    "Code",
    "FoundCode",
    "FoundPlace",
    "FoundPlaces",
    "FoundTable",
    "Matrix",
    "Note",
    "Pairs",
    "Picture",
    "Pictures",
    "Reviewed",
    "ReviewedImage",
    "Section",
    "Table",
    "Tile",
    "Tiles",
    "Tone",
    "jpeg_uri",
    "pairs_of",
]

Cell: TypeAlias = Number | str | None
_JPEG_QUALITY = 82  # no trace of compression beside lines and letters at thumbnail size
Tone = Literal["plain", "good", "warning", "bad"]


@dataclass(frozen=True)
class Tile:
    """A headline number with the sentence that says what it means, and what it is to be seen beside.

    `interval` are the ends of its 95 % interval, or why there is none; `rival` is what a predictor that never looks at
    the pictures reaches, and which one.
    """

    label: str
    number: Number
    meaning: str
    interval: tuple[Number, Number] | str = ""
    rival: tuple[Number, str] | None = None


@dataclass(frozen=True)
class Tiles:
    """Headline numbers side by side."""

    tiles: Sequence[Tile]
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Table:
    """Rows under column heads; `strong_last` sets the last row apart (a total)."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    strong_last: bool = False
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Pairs:
    """Names and values."""

    rows: Sequence[tuple[str, Cell]]
    caption: str = ""
    folded: bool = False
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    charts: Sequence[Markup]
    caption: str = ""
    kind: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix with its names; `shares` are by row and shade the cells."""

    names: Sequence[str]
    cells: Sequence[Sequence[Number]]
    shares: Sequence[Sequence[float]]
    caption: str = ""
    note: str = ""
    kind: ClassVar[str] = "matrix"


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: `uri` is a data URI, `alt` what it shows for who cannot see it, `note` a sentence."""

    uri: str
    width: int
    height: int
    title: str
    alt: str
    facts: Sequence[tuple[str, Cell]] = ()
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """Pictures under a heading, with the key (colour, meaning) to what is drawn.

    `wide` gives each the full width, `small` puts many side by side, `strips` are shown at their own size, to be
    scrolled sideways. `columns` puts so many side by side, where a row belongs together; 0: as many as fit.
    """

    heading: str
    pictures: Sequence[Picture]
    caption: str = ""
    key: Sequence[tuple[str, str]] = ()
    wide: bool = False
    small: bool = False
    strips: bool = False
    columns: int = 0
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Code:
    """Text to be read or run as it stands."""

    text: str
    caption: str = ""
    folded: bool = False
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Note:
    """A sentence that matters."""

    text: str
    tone: Tone = "plain"
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class FoundPlace:
    """One place of a finding: `path:line`, what is there, and how many things it stands for."""

    where: str
    message: str
    count: int


@dataclass(frozen=True)
class FoundCode:
    """All findings of one code: what it means, what to do, the first places and pictures; `unlisted` are the others."""

    code: str
    severity: str
    count: Number
    meaning: str
    do: str
    places: Sequence[FoundPlace]
    unlisted: int
    pictures: Pictures


@dataclass(frozen=True)
class FoundTable:
    """One row for each code that was found, each leading to its places."""

    codes: Sequence[FoundCode]
    kind: ClassVar[str] = "found_table"


@dataclass(frozen=True)
class FoundPlaces:
    """For each code its places and the pictures behind them."""

    codes: Sequence[FoundCode]
    kind: ClassVar[str] = "found_places"


@dataclass(frozen=True)
class ReviewedImage:
    """An image whose files lie in `folder` beside the page: `small.jpg` (width, height), `errors.png` and `files`.

    `kinds` of error and `class_ids` are what it is filtered by.
    """

    path: str
    folder: str
    files: Sequence[str]
    width: int
    height: int
    facts: Sequence[tuple[str, Cell]]
    kinds: Sequence[str]
    class_ids: Sequence[int]

    @property
    def alt(self) -> str:
        """What is shown, for who cannot see it."""
        return f"{self.path}: {', '.join(f'{name} {value}' for name, value in self.facts)}"


@dataclass(frozen=True)
class Reviewed:
    """Images in order, with the key to what is drawn, and the kinds of error and classes to filter them by."""

    images: Sequence[ReviewedImage]
    caption: str
    key: Sequence[tuple[str, str]]
    kinds: Sequence[tuple[str, str]]
    classes: Sequence[tuple[int, str]]
    kind: ClassVar[str] = "reviewed"


Block: TypeAlias = (
    Tiles | Table | Pairs | Charts | Matrix | Pictures | Code | Note | FoundTable | FoundPlaces | Reviewed
)


@dataclass(frozen=True)
class Section:
    """A part of the page; `missing` says what the run did not measure, in place of blocks or beside them."""

    anchor: str
    title: str
    intro: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)
    missing: str = ""


def pairs_of(values: Mapping[str, Any], source: str) -> list[tuple[str, Cell]]:
    """Any JSON object as names and values, nested keys dotted; numbers carry `source` and their key."""
    rows: list[tuple[str, Cell]] = []
    _flatten(values, (), source, rows)
    return rows


def _flatten(value: Any, keys: tuple[str, ...], source: str, rows: list[tuple[str, Cell]]) -> None:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            _flatten(inner, (*keys, str(key)), source, rows)
        return
    name = " ".join(keys).replace("_", " ")
    if isinstance(value, bool):
        rows.append((name, "yes" if value else "no"))
    elif isinstance(value, (int, float)):
        rows.append((name, Number(value, f"{source} {'.'.join(keys)}", "plain")))
    elif isinstance(value, list):
        rows.append((name, ", ".join(map(str, value)) or "none"))
    else:
        rows.append((name, "–" if value is None or value == {} else str(value)))


def jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """An RGB picture (H, W, 3) as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
