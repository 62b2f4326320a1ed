"""A number on the page: shown rounded, carrying its exact value and the place it was read from."""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Number", "Source", "Style", "format_number"]

Style = Literal["score", "count", "ms", "seconds", "plain"]
_NONE = "–"


def format_number(value: Any, style: Style = "plain") -> str:
    """The text of a number: scores with four decimals, counts with thousands separated, times with their unit."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _NONE
    match style:
        case "score":
            return f"{value:.4f}"
        case "count":
            return f"{value:,.0f}".replace(",", "\u2009")
        case "ms":
            return f"{value:.2f}\u2009ms"
        case "seconds":
            return _duration(float(value))
        case "plain":
            return f"{value:.5g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}\u2009s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u2009h {minutes}\u2009min" if hours else f"{minutes}\u2009min {rest}\u2009s"


@dataclass(frozen=True, slots=True)
class Number:
    """A value read from `source` (file and key); `__html__` keeps both beside the rounded text."""

    value: int | float | None
    source: str
    style: Style = "score"

    def __str__(self) -> str:
        return format_number(self.value, self.style)

    def __html__(self) -> str:
        # repr gives the shortest text that reads back as the very same float.
        exact = "not a number: nothing to measure" if self.value is None else repr(self.value)
        exact, source = html.escape(exact), html.escape(self.source)
        return (
            f'<span class="number" data-source="{source}" data-value="{exact}" title="{exact} ({source})">'
            f"{html.escape(str(self))}</span>"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A JSON file of the run, to read numbers from by key."""

    file: str
    values: Any

    def number(self, *keys: str | int, style: Style = "score") -> Number:
        """The number under `keys`; None inside where the file has null there. KeyError where it has no such key."""
        value = self.values
        for key in keys:
            value = value[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise KeyError(f"{_dotted(keys)} is no number")
        return Number(value, f"{self.file} {_dotted(keys)}", style)

    def optional(self, *keys: str | int, style: Style = "score") -> Number | None:
        """As `number`, but None where the key is absent or holds no number."""
        try:
            return self.number(*keys, style=style)
        except (KeyError, IndexError, TypeError):
            return None


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(map(str, keys))
