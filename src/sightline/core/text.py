"""Text of others: parsed so that nothing in it can break what comes later, and shown so that no terminal obeys it."""

import json
import re
from typing import Any

__all__ = ["parse_json", "printable", "well_formed"]

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_HALF_PAIR_BYTES = re.compile(_HALF_PAIR.pattern.encode())

_BEYOND = 2**63  # tables and charts hold no greater integers


def parse_json(text: str | bytes, *, bounded: bool = False) -> Any:
    """What a JSON text holds, halves of surrogate pairs written out; ValueError for whatever cannot be parsed.

    That is text that is no JSON or no UTF-8, integers of thousands of digits, and brackets nested without end. With
    `bounded` (for files of our own) also integers beyond 64 bits, which no table holds; in labels they are one entry's.

    >>> parse_json('["a", "\\\\ud800"]')
    ['a', '\\\\ud800']
    """
    try:
        value = json.loads(text, parse_int=_whole_number if bounded else None)
    except RecursionError:
        raise ValueError("brackets nested thousands deep") from None
    found = _HALF_PAIR.search(text) if isinstance(text, str) else _HALF_PAIR_BYTES.search(text)
    return value if found is None else well_formed(value)


def _whole_number(digits: str) -> int:
    value = int(digits)
    if not -_BEYOND <= value < _BEYOND:
        raise ValueError(f"an integer of {len(digits)} digits, which 64 bits do not hold")
    return value


def well_formed(value: Any) -> Any:
    """Text, or lists and mappings with text, in which what no file can hold (half a surrogate pair) is written out."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [well_formed(v) for v in value]
    if isinstance(value, dict):
        return {well_formed(k): well_formed(v) for k, v in value.items()}
    return value


def printable(text: str) -> str:
    """Text without what a terminal would obey, line breaks included: file names may hold anything.

    >>> printable("a\\x1b[31mb")
    'a�[31mb'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
