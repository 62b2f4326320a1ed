"""Where things stand in a JSON file: the values of its outermost object, and the lines of the items of its lists."""

import json
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from sightline.data.json_scan import BAD, Bytes, Ints, item_places, members, skip_blank

__all__ = ["JsonPlaces", "Spans", "find_values", "guess_values"]

Spans: TypeAlias = dict[str, tuple[int, int]]
"""Start and end of values, by key."""

_NO_KEY = np.zeros(0, dtype=np.uint8)


class JsonPlaces:
    """Where the items of top-level lists stand in a JSON text, as bytes, that is known to be valid."""

    def __init__(self, data: bytes) -> None:
        self._text = np.frombuffer(data, dtype=np.uint8)
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
    """Where each value of the object that a JSON text is stands; None where it is no object. Insides are not checked."""
    at = _first_key(text)
    if at is None:
        return None
    places, whole = members(text, at, _NO_KEY)
    return _by_key(text, places) if whole else None


def guess_values(data: bytes, long: str, after: str) -> Spans | None:
    """As `find_values`, but without walking through the list `long`: its end is guessed from the key `after`.

    Where `after` does not follow it, the list is taken to be the last value. Whoever reads the list must see that it
    ends where it is said to; with that, all is as `find_values` has it. None where the guess does not fit.
    """
    text, stop = np.frombuffer(data, dtype=np.uint8), f'"{long}"'.encode()
    at = _first_key(text)
    places, stopped = members(text, at, np.frombuffer(stop, dtype=np.uint8)) if at is not None else (Ints(0), False)
    if not stopped or not len(places) or places[-1, 3] != BAD:
        return None
    start, key = int(places[-1, 2]), data.rfind(f'"{after}"'.encode())
    if key > start:
        rest, whole = members(text, key, _NO_KEY)
        bracket = data.rfind(b"]", start, key)
        between = data[bracket + 1 : key]
    else:
        rest, whole, bracket = places[:0], True, data.rfind(b"]")
        between = data[bracket + 1 :].replace(b"}", b",")
    if not whole or bracket <= start or between.strip(b" \t\r\n") != b",":
        return None
    places[-1, 3] = bracket + 1
    return _by_key(text, np.concatenate([places, rest]))


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
