"""Kernels that walk JSON text byte by byte, for files too large to be turned into Python objects first.

The grammar is the one of Python's `json` (NaN and Infinity are numbers), and numbers come out exactly as `float` reads
them. Text is an array of bytes that is known to be UTF-8. Every kernel returns the place behind what it has read, or
`BAD` where the text is no JSON or not what was expected; nothing is decoded and nothing is repaired.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit

__all__ = [
    "BAD",
    "MAX_DEPTH",
    "Bytes",
    "Ints",
    "count_lines",
    "item_places",
    "members",
    "parse_integer",
    "parse_number",
    "skip_blank",
    "skip_key",
    "skip_number",
    "skip_string",
    "skip_value",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

BAD = -1
MAX_DEPTH = 256  # of brackets in each other; what is deeper is left to Python, which may refuse it
_QUOTE, _COMMA, _COLON, _BACKSLASH = ord('"'), ord(","), ord(":"), ord("\\")
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = ord("["), ord("]"), ord("{"), ord("}")
_MINUS, _PLUS, _DOT, _ZERO = ord("-"), ord("+"), ord("."), ord("0")
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_SIMPLE_ESCAPES = np.frombuffer(b'"\\/bfnrt', np.uint8)
_WORDS = tuple(np.frombuffer(w, np.uint8) for w in (b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity"))


@njit(cache=True, nogil=True)
def skip_blank(text: Bytes, at: int) -> int:
    """The next place that is no white space; the end of the text where there is none."""
    while at < len(text) and (text[at] == 32 or text[at] == _NEWLINE or text[at] == _RETURN or text[at] == 9):
        at += 1
    return at


@njit(cache=True, nogil=True)
def skip_string(text: Bytes, at: int) -> int:
    """Behind the string whose opening quote stands at `at`."""
    if at >= len(text) or text[at] != _QUOTE:
        return BAD
    at += 1
    while at < len(text):
        if text[at] == _QUOTE:
            return at + 1
        if text[at] < 32:
            return BAD
        if text[at] == _BACKSLASH:
            at = _skip_escape(text, at + 1)
            if at == BAD:
                return BAD
        else:
            at += 1
    return BAD


@njit(cache=True, nogil=True)
def _skip_escape(text: Bytes, at: int) -> int:
    if at >= len(text):
        return BAD
    for simple in _SIMPLE_ESCAPES:
        if text[at] == simple:
            return at + 1
    if text[at] != ord("u") or at + 4 >= len(text):
        return BAD
    for i in range(at + 1, at + 5):
        c = text[i]
        if not (48 <= c <= 57 or 65 <= c <= 70 or 97 <= c <= 102):
            return BAD
    return at + 5


@njit(cache=True, nogil=True)
def skip_key(text: Bytes, at: int) -> int:
    """Behind the colon of the key that starts at `at`."""
    at = skip_string(text, at)
    if at == BAD:
        return BAD
    at = skip_blank(text, at)
    return at + 1 if at < len(text) and text[at] == _COLON else BAD


@njit(cache=True, nogil=True)
def _skip_digits(text: Bytes, at: int) -> int:
    """Behind one or more digits."""
    start = at
    while at < len(text) and 48 <= text[at] <= 57:
        at += 1
    return at if at > start else BAD


@njit(cache=True, nogil=True)
def skip_number(text: Bytes, at: int) -> int:
    """Behind the number at `at`, NaN and the infinities not included."""
    if text[at] == _MINUS:
        at += 1
    first = at
    at = _skip_digits(text, at)
    if at == BAD or (text[first] == _ZERO and at > first + 1):
        return BAD
    if at < len(text) and text[at] == _DOT:
        at = _skip_digits(text, at + 1)
        if at == BAD:
            return BAD
    if at < len(text) and (text[at] == ord("e") or text[at] == ord("E")):
        at += 1
        if at < len(text) and (text[at] == _MINUS or text[at] == _PLUS):
            at += 1
        at = _skip_digits(text, at)
    return at


@njit(cache=True, nogil=True)
def _is_word(text: Bytes, at: int, word: Bytes) -> bool:
    if at + len(word) > len(text):
        return False
    same = True
    for i in range(len(word)):
        same = same and text[at + i] == word[i]
    return same


@njit(cache=True, nogil=True)
def _skip_scalar(text: Bytes, at: int) -> int:
    if text[at] == _QUOTE:
        return skip_string(text, at)
    if text[at] != ord("n") and 48 <= text[at] <= 57:
        return skip_number(text, at)
    for word in _WORDS:
        if _is_word(text, at, word):
            return at + len(word)
    return skip_number(text, at)


@njit(cache=True, nogil=True)
def skip_value(text: Bytes, at: int, stack: Bytes) -> int:
    """Behind the value that follows at `at`, every byte of it checked; `stack` (`MAX_DEPTH`,) is scratch space."""
    depth = 0
    while True:
        at = skip_blank(text, at)
        if at >= len(text):
            return BAD
        if text[at] in (_OPEN_LIST, _OPEN_OBJECT):
            at, depth, inside = _open(text, at, stack, depth)
            if inside:
                continue
        else:
            at = _skip_scalar(text, at)
        if at != BAD:
            at, depth = _close(text, at, stack, depth)
        if at == BAD or depth == 0:
            return at


@njit(cache=True, nogil=True)
def _open(text: Bytes, at: int, stack: Bytes, depth: int) -> tuple[int, int, bool]:
    """From a bracket that opens to its first value, or behind it where it holds none; the depth there; which it was."""
    bracket = text[at]
    if depth == len(stack):
        return BAD, depth, False
    at = skip_blank(text, at + 1)
    if at < len(text) and text[at] == bracket + 2:  # "]" and "}" stand two behind "[" and "{"
        return at + 1, depth, False
    stack[depth] = bracket
    at = skip_key(text, at) if bracket == _OPEN_OBJECT else at
    return at, depth + 1, at != BAD


@njit(cache=True, nogil=True)
def _close(text: Bytes, at: int, stack: Bytes, depth: int) -> tuple[int, int]:
    """From behind a value over the brackets that close there to where the next value starts, and the depth there."""
    while depth > 0:
        at = skip_blank(text, at)
        if at >= len(text):
            return BAD, depth
        if text[at] == _COMMA:
            at = skip_blank(text, at + 1)
            return (skip_key(text, at) if stack[depth - 1] == _OPEN_OBJECT else at), depth
        if text[at] != stack[depth - 1] + 2:
            return BAD, depth
        at, depth = at + 1, depth - 1
    return at, depth


@njit(cache=True, nogil=True)
def _skip_loosely(text: Bytes, at: int) -> int:
    """Behind a value, of lists and objects counting the brackets outside strings and checking nothing else."""
    if at >= len(text):
        return BAD
    if text[at] != _OPEN_LIST and text[at] != _OPEN_OBJECT:
        return _skip_scalar(text, at)
    depth = 0
    while at < len(text):
        c = text[at]
        if c == _QUOTE:
            at = skip_string(text, at)
            if at == BAD:
                return BAD
            continue
        at += 1
        if c in (_OPEN_LIST, _OPEN_OBJECT):
            depth += 1
        elif c in (_CLOSE_LIST, _CLOSE_OBJECT):
            depth -= 1
            if depth == 0:
                return at
    return BAD


@njit(cache=True)
def members(text: Bytes, at: int, stop: Bytes) -> tuple[Ints, bool]:
    """Of an object, from the key at `at` on: (K, 4) places where keys start and end and values start and end.

    The walk ends with the member whose key, quotes and all, is `stop`: its value's end is `BAD`. Without one the second
    value says whether the object is whole and nothing follows it. The insides of lists and objects are not checked.
    """
    found = np.empty((16, 4), dtype=np.int64)
    count = 0
    while True:
        colon = skip_key(text, at)
        if colon == BAD:
            return found[:0].copy(), False
        if count == len(found):
            found = np.concatenate((found, found))
        start, key_end = skip_blank(text, colon), skip_string(text, at)
        stops = key_end - at == len(stop) and _is_word(text, at, stop)
        end = BAD if stops else _skip_loosely(text, start)
        found[count, 0], found[count, 1], found[count, 2], found[count, 3] = at, key_end, start, end
        count += 1
        if end == BAD:
            return found[:count].copy(), stops
        at = skip_blank(text, end)
        if at >= len(text) or text[at] != _COMMA:
            whole = at < len(text) and text[at] == _CLOSE_OBJECT and skip_blank(text, at + 1) == len(text)
            return found[:count].copy(), whole
        at = skip_blank(text, at + 1)


@njit(cache=True, nogil=True)
def count_lines(text: Bytes, start: int, end: int) -> int:
    """How many lines end between two places: with "\\n", "\\r\\n" or "\\r"."""
    count, returns = 0, 0
    for i in range(start, end):  # without a branch, so that many bytes are compared at once
        count += text[i] == _NEWLINE
        returns += text[i] == _RETURN
    if returns:
        for i in range(start, end):
            count += text[i] == _RETURN and (i + 1 == len(text) or text[i + 1] != _NEWLINE)
    return count


@njit(cache=True)
def item_places(text: Bytes, at: int) -> tuple[Ints, Ints]:
    """Start and 1-based line of each item of the list that opens at `at`, in a text known to be JSON."""
    starts, lines = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    count, line, counted = 0, 1, 0
    at = skip_blank(text, at + 1)
    while at < len(text) and text[at] != _CLOSE_LIST:
        if count == len(starts):
            starts, lines = np.concatenate((starts, starts)), np.concatenate((lines, lines))
        line, counted = line + count_lines(text, counted, at), at
        starts[count], lines[count], count = at, line, count + 1
        at = _skip_loosely(text, at)
        if at == BAD:
            break
        at = skip_blank(text, at)
        if at < len(text) and text[at] == _COMMA:
            at = skip_blank(text, at + 1)
    return starts[:count].copy(), lines[:count].copy()


_EXACT = 2**53  # integers up to here are floats without rounding
_MAX_DIGITS, _MAX_PLACES = 19, 18  # so that digits, and twice any remainder of a division, fit into 64 bits
_TENS = 10.0 ** np.arange(_MAX_PLACES + 1)  # floats without rounding
_WHOLE_TENS = 10 ** np.arange(_MAX_PLACES + 1, dtype=np.uint64)
_MAX_INTEGER_DIGITS = 18


@njit(cache=True, nogil=True)
def parse_integer(text: Bytes, at: int) -> tuple[int, int]:
    """The whole number at `at` and the place behind it; one of over 18 digits or with a fraction is `BAD`."""
    negative = text[at] == _MINUS
    first = at + 1 if negative else at
    at, value = first, 0
    while at < len(text) and 48 <= text[at] <= 57 and at - first <= _MAX_INTEGER_DIGITS:
        value, at = value * 10 + (int(text[at]) - 48), at + 1
    if at == first or at >= len(text) or at - first > _MAX_INTEGER_DIGITS or (text[first] == _ZERO and at > first + 1):
        return 0, BAD
    if text[at] == _DOT or text[at] == ord("e") or text[at] == ord("E"):
        return 0, BAD
    return (-value if negative else value), at


@njit(cache=True, nogil=True)
def parse_number(text: Bytes, at: int) -> tuple[float, int, bool]:
    """The number at `at`, the place behind it, and whether it is exact; where it is not, Python must read it.

    Exact are numbers whose digits and power of ten are floats without rounding, as the one division then rounds once
    (Clinger 1990, "How to read floating point numbers accurately"), and by long division those of up to 19 digits.
    """
    start, negative = at, text[at] == _MINUS
    at = at + 1 if negative else at
    first, mantissa, places = at, np.uint64(0), 0
    while at < len(text) and 48 <= text[at] <= 57:
        mantissa, at = mantissa * np.uint64(10) + np.uint64(text[at] - 48), at + 1
    digits = at - first
    if digits == 0 or (text[first] == _ZERO and digits > 1):
        return 0.0, BAD, False
    digits = 0 if text[first] == _ZERO else digits
    whole = at >= len(text) or text[at] != _DOT
    if not whole:
        point, at = at, at + 1
        while at < len(text) and 48 <= text[at] <= 57:
            mantissa, at = mantissa * np.uint64(10) + np.uint64(text[at] - 48), at + 1
        places = at - point - 1
        if places == 0:
            return 0.0, BAD, False
    if at < len(text) and (text[at] == ord("e") or text[at] == ord("E")):
        return 0.0, skip_number(text, start), False
    if digits + places > _MAX_DIGITS or places > _MAX_PLACES:
        return 0.0, at, False
    if mantissa > np.uint64(_EXACT):
        value = _divide(mantissa, places)
    else:
        value = np.float64(mantissa) / _TENS[places]
    # "-0" is an integer, which has no sign when it is zero; "-0.0" keeps it.
    return (-value if negative and not (whole and mantissa == 0) else value), at, True


@njit(cache=True, nogil=True)
def _divide(mantissa: np.uint64, places: int) -> float:
    """`mantissa / 10**places` rounded once, to even: long division to 55 bits or more, the last for all the rest."""
    one, divisor = np.uint64(1), _WHOLE_TENS[places]
    quotient, rest, shift = mantissa // divisor, mantissa % divisor, 0
    while quotient < (one << np.uint64(54)):
        rest, quotient, shift = rest << one, quotient << one, shift + 1
        if rest >= divisor:
            rest, quotient = rest - divisor, quotient | one
    if rest:
        quotient |= one
    return float(np.ldexp(np.float64(quotient), -shift))
