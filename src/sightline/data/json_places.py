"""Line numbers of the entries of a JSON file, found only when somebody asks.

Parsing keeps no positions. When an entry has a finding, the text is walked once more with the C scanner, value by
value, down to the entries asked for.
"""

import bisect
import json
import re
from collections.abc import Iterable

__all__ = ["JsonPlaces"]

_BLANK = re.compile(r"[ \t\r\n]*")


class JsonPlaces:
    """Where the items of top-level lists stand in a JSON text that is known to be valid."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self._line_starts: list[int] | None = None

    def lines(self, section: str, indices: Iterable[int]) -> dict[int, int]:
        """1-based line of each item `section[index]`; items that are not there are left out."""
        wanted = set(indices)
        if not wanted:
            return {}
        position = self._section_start(section)
        found: dict[int, int] = {}
        last = max(wanted)
        for index in range(last + 1):
            position = self._skip_blank(position)
            if position >= len(self._text) or self._text[position] == "]":
                break
            if index in wanted:
                found[index] = self._line_of(position)
            position = self._after_value(position)
        return found

    def _section_start(self, section: str) -> int:
        position = self._skip_blank(0) + 1  # behind the opening brace
        while True:
            position = self._skip_blank(position)
            if position >= len(self._text) or self._text[position] == "}":
                return len(self._text)
            key, position = self._decoder.raw_decode(self._text, position)
            position = self._skip_blank(self._skip_blank(position) + 1)  # over the colon
            if key == section:
                return position + 1 if self._text[position] == "[" else len(self._text)
            position = self._after_value(position)

    def _after_value(self, position: int) -> int:
        _, position = self._decoder.raw_decode(self._text, position)
        position = self._skip_blank(position)
        return position + 1 if position < len(self._text) and self._text[position] == "," else position

    def _skip_blank(self, position: int) -> int:
        match = _BLANK.match(self._text, position)
        return match.end() if match else position

    def _line_of(self, position: int) -> int:
        if self._line_starts is None:
            self._line_starts = [m.end() for m in re.finditer("\n", self._text)]
        return bisect.bisect_right(self._line_starts, position) + 1
