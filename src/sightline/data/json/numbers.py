"""Numbers out of JSON text, read by kernels to the very bits that Python's `float` gives."""

import numpy as np
from numba import njit

from sightline.data.json.scan import BAD, Bytes, skip_number

__all__ = ["parse_integer", "parse_number"]

_MINUS, _DOT, _ZERO = ord("-"), ord("."), ord("0")
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
