"""Where things stand in a JSON file: the values of its outermost object, and the lines of the items of its lists."""

import json
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from sightline.data.json.scan import Bytes, Ints, item_places, members, skip_blank

__all__ = ["JsonPlaces", "Spans", "find_values", "guess_values"]

Spans: TypeAlias = dict[str, tuple[int, int]]
"""Start and end of values, by key."""

_NO_KEY = np.zeros(0, dtype=np.uint8)
_BLANK = b" \t\r\n"
_WINDOW = 1 << 20


class JsonPlaces:
    """Where the items of top-level lists stand in a JSON text, as bytes, that is known to be valid."""

    def __init__(self, text: Bytes) -> None:
        self._text = text
        self._values: Spans | None = None
        self._lines: dict[str, Ints] = {}

    def lines(self, section: str, indices: Iterable[int]) -> dict[int, int]:
        """1-based line of each item `section[index]`; items that are not there are left out."""
        wanted = set(indices)
        if not wanted:
            return {}
        if section not in self._lines:
            self._lines[section] = self._lines_of(section)
        lines = self._lines[section]
        return {i: int(lines[i]) for i in sorted(wanted) if 0 <= i < len(lines)}

    def _lines_of(self, section: str) -> Ints:
        if self._values is None:
            self._values = find_values(self._text) or {}
        return item_places(self._text, self._values[section][0])[1] if section in self._values else Ints(0)


def find_values(text: Bytes) -> Spans | None:
    """Where the values of the object stand that a JSON text is, unchecked inside; None where it is no object."""
    at = _first_key(text)
    if at is None:
        return None
    places, whole = members(text, at, _NO_KEY)
    return _by_key(text, places) if whole else None


def guess_values(text: Bytes, long: str, after: str) -> Spans | None:
    """As `find_values`, but without walking through the list `long`: its end is guessed from the key `after`.

    Where `after` does not follow it, the list is taken to be the last value. Whoever reads the list must see that it
    ends where it is said to; with that, all is as `find_values` has it. None where the guess does not fit.
    """
    at = _first_key(text)
    stop = np.frombuffer(f'"{long}"'.encode(), dtype=np.uint8)
    places, stopped = members(text, at, stop) if at is not None else (Ints(0), False)
    if not stopped:
        return None
    start, key = int(places[-1, 2]), _find_last(text, f'"{after}"'.encode(), len(text))
    if key > start:
        bracket = _find_last(text, b"]", key)
        rest, whole = members(text, key, _NO_KEY)
        whole = whole and text[bracket + 1 : key].tobytes().strip(_BLANK) == b","
    else:
        bracket = _find_last(text, b"]", len(text))
        rest, whole = places[:0], text[bracket + 1 :].tobytes().strip(_BLANK) == b"}"
    if not whole or bracket <= start:
        return None
    places[-1, 3] = bracket + 1
    return _by_key(text, np.concatenate([places, rest]))


def _find_last(text: Bytes, word: bytes, end: int) -> int:
    """Where a word stands last before `end`, -1 where it does not."""
    while end > 0:
        start = max(end - _WINDOW, 0)
        found = text[start:end].tobytes().rfind(word)
        if found >= 0:
            return start + found
        end = start + len(word) - 1 if start else 0
    return -1


def _first_key(text: Bytes) -> int | None:
    """Where the first key stands in the object that a text is; None where it is none, or has no key."""
    opening = skip_blank(text, 0)
    if opening == len(text) or text[opening] != ord("{"):
        return None
    at = skip_blank(text, opening + 1)
    return at if at < len(text) and text[at] == ord('"') else None


def _by_key(text: Bytes, places: Ints) -> Spans | None:
    try:
        keys = [json.loads(text[start:end].tobytes()) for start, end in places[:, :2].tolist()]
    except ValueError:
        return None
    return {key: (start, end) for key, (start, end) in zip(keys, places[:, 2:].tolist(), strict=True)}
