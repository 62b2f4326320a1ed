"""The kernel that takes the annotations of a COCO file apart, from bytes straight into columns.

It knows the form every exporter writes: integer ids, boxes of four numbers, polygons as lists of lists of numbers.
Anything else, and anything that is no JSON, is `BAD`: the reader then parses the file the slow way, which can say what
is wrong with which entry.

Peer: pycocotools' `COCO()`, which parses the whole file into Python objects: 17.2 s and 2.9 GiB for 431 MB of COCO,
against 6.6 to 8.3 s and 1.24 GiB of the whole reader. `benchmarks/bench_read.py` gives both, and retires this kernel
where reading is not faster than it any more.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import carray, types  # type: ignore[attr-defined] # the stubs lack carray

from sightline.core.kernels import cfunc, njit
from sightline.data.json.scan import (
    BAD,
    MAX_DEPTH,
    Bytes,
    Ints,
    parse_integer,
    parse_number,
    skip_blank,
    skip_string,
    skip_value,
)

__all__ = ["CODE_END", "CODE_START", "CROWD", "END", "IGNORE", "NO_POINTS", "POINTS", "RINGS", "START"]
__all__ += ["Part", "scan_part"]

Floats: TypeAlias = npt.NDArray[np.float64]

MAX_ENTRIES, MAX_COORDINATES = 1 << 15, 1 << 21
"""Of one part; an entry that alone has more coordinates gets the room it needs."""
NO_POINTS = -1
"""The number of keypoint values of an entry without any."""

# Columns of `Part.whole`. The first three and the two flags stand under the number of their key.
START, END, CROWD, IGNORE, RINGS, POINTS, CODE_START, CODE_END = 3, 4, 5, 6, 7, 8, 9, 10
_COLUMNS = 11
_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "segmentation", "keypoints")
_BOX, _AREA, _SEGMENTATION, _KEYPOINTS, _UNKNOWN = 3, 4, 7, 8, 9
_NEEDED = 0b111  # id, image_id, category_id
_LETTERS = np.array([list(k.ljust(max(map(len, _KEYS))).encode()) for k in _KEYS], dtype=np.uint8)
_OF_LENGTH = np.full(_LETTERS.shape[1] + 1, _UNKNOWN)
_OF_LENGTH[[len(k) for k in _KEYS]] = np.arange(_UNKNOWN)  # they all differ, but for bbox and area
_OF_LENGTH[len("bbox")] = _BOX

_FULL = -2  # no room for this entry: begin a new part with it
_COMMA, _COLON, _BACKSLASH, _ZERO = ord(","), ord(":"), ord("\\"), ord("0")
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = ord("["), ord("]"), ord("{"), ord("}")
_COORDINATE, _POINT, _NUMBER = 0, 1, 2  # the buffers of numbers
_RING, _ODD = 3, 4


class Part(NamedTuple):
    """Columns of a run of N entries, and of their coordinates (M,) and keypoint values, laid one after the other."""

    whole: Ints  # (N, 11): ids and flags under the number of their key, and the columns named above
    numbers: Floats  # (N, 5): x, y, width, height, area; NaN where not given
    coordinates: Floats
    ring_ends: Ints  # of each ring in `coordinates`
    points: Floats


class _Scratch(NamedTuple):
    used: Ints  # (2, 5): coordinates, keypoint values, (nothing), rings, odd numbers: now, and before this entry
    odd: Ints  # (K, 4): buffer, slot, start and end of numbers that Python must read
    stack: Bytes


def scan_part(text: Bytes, at: int, room: int | None = None) -> tuple[Part, int] | None:
    """The entries from `at` on, and the place behind them. None where they are of another form.

    `at` stands at an entry or at the bracket that closes the list, and so does the place behind them. `room` is for how
    many coordinates there is room, `MAX_COORDINATES` by default.
    """
    rows, coordinates = MAX_ENTRIES, room or MAX_COORDINATES
    part = Part(
        np.empty((rows, _COLUMNS), dtype=np.int64),
        np.empty((rows, 5)),
        np.empty(coordinates),
        np.empty(coordinates, dtype=np.int64),
        np.empty(coordinates),
    )
    scratch = _Scratch(np.zeros((2, 5), np.int64), np.empty((rows, 4), np.int64), np.empty(MAX_DEPTH, np.uint8))
    text, result = np.ascontiguousarray(text), np.zeros(2, dtype=np.int64)
    pointers = (array.ctypes.data for array in (text, *part, *scratch, result))
    _compiled()(*pointers, len(text), at, rows, coordinates)
    count, end = result.tolist()
    if end == _FULL:
        return scan_part(text, at, coordinates * 2) if coordinates <= len(text) else None
    if end == BAD:
        return None
    used = scratch.used[0]
    part = Part(
        part.whole[:count],
        part.numbers[:count],
        part.coordinates[: used[_COORDINATE]],
        part.ring_ends[: used[_RING]],
        part.points[: used[_POINT]],
    )
    buffers = (part.coordinates, part.points, part.numbers.reshape(-1))
    for buffer, slot, first, behind in scratch.odd[: used[_ODD]].tolist():
        buffers[buffer][slot] = float(text[first:behind].tobytes())
    return part, end


@cache
def _compiled() -> Callable[..., int]:
    """`_scan` as a C function, compiled when first asked for; it runs without the interpreter's lock.

    Arrays that come from Python are counted up and down by every compiled function they pass through, which would take
    three times as long as the work of these small ones. Arrays made from pointers are not counted.
    """
    signature = types.int64(*[types.voidptr] * 10, *[types.int64] * 4)
    function: Callable[..., int] = cfunc(signature, cache=True)(_scan_memory).ctypes
    return function


def _scan_memory(
    text: Any,
    whole: Any,
    numbers: Any,
    coordinates: Any,
    ring_ends: Any,
    points: Any,
    used: Any,
    odd: Any,
    stack: Any,
    result: Any,
    length: int,
    at: int,
    rows: int,
    room: int,
) -> int:
    """`_scan` for arrays given as pointers; count and place go to `result`."""
    part = Part(
        carray(whole, (rows, _COLUMNS), np.int64),
        carray(numbers, (rows, 5), np.float64),
        carray(coordinates, (room,), np.float64),
        carray(ring_ends, (room,), np.int64),
        carray(points, (room,), np.float64),
    )
    scratch = _Scratch(
        carray(used, (2, 5), np.int64), carray(odd, (rows, 4), np.int64), carray(stack, (MAX_DEPTH,), np.uint8)
    )
    out = carray(result, (2,), np.int64)
    out[0], out[1] = _scan(carray(text, (length,), np.uint8), at, part, scratch)
    return 0


@njit(cache=True, nogil=True)
def _scan(text: Bytes, at: int, part: Part, scratch: _Scratch) -> tuple[int, int]:
    """Number of entries and the place behind them; the place is `BAD`, or `_FULL` where not even one fits."""
    count = 0
    while at < len(text) and text[at] != _CLOSE_LIST and count < len(part.whole):
        _copy_row(scratch.used, 0, 1)
        end = _scan_entry(text, at, count, part, scratch)
        if end == _FULL and count > 0:
            _copy_row(scratch.used, 1, 0)
            return count, at
        if end < 0:
            return count, end
        part.whole[count, START], part.whole[count, END] = at, end
        count += 1
        at = skip_blank(text, end)
        if at < len(text) and text[at] == _COMMA:
            at = skip_blank(text, at + 1)
            if at < len(text) and text[at] == _CLOSE_LIST:
                return count, BAD
        elif at >= len(text) or text[at] != _CLOSE_LIST:
            return count, BAD
    return count, at if at < len(text) else BAD


@njit(cache=True, nogil=True)
def _copy_row(table: Ints, source: int, target: int) -> None:
    for i in range(table.shape[1]):
        table[target, i] = table[source, i]


@njit(cache=True, nogil=True)
def _scan_entry(text: Bytes, at: int, row: int, part: Part, scratch: _Scratch) -> int:
    """Behind the object at `at`, its values in row `row`; `BAD` or `_FULL`."""
    if text[at] != _OPEN_OBJECT:
        return BAD
    for i in range(part.whole.shape[1]):
        part.whole[row, i] = 0
    part.whole[row, POINTS] = NO_POINTS
    for i in range(5):
        part.numbers[row, i] = np.nan
    seen = 0
    at = skip_blank(text, at + 1)
    while True:
        end = skip_string(text, at)
        if end == BAD:
            return BAD
        key = _key(text, at + 1, end - 1)
        at = skip_blank(text, end)
        if key == BAD or at >= len(text) or text[at] != _COLON or seen >> key & 1:
            return BAD
        seen |= 1 << key if key < _UNKNOWN else 0
        at = skip_blank(text, at + 1)
        at = _scan_value(text, at, key, row, part, scratch) if at < len(text) else BAD
        if at < 0:
            return at
        at = skip_blank(text, at)
        if at >= len(text) or (text[at] != _COMMA and text[at] != _CLOSE_OBJECT):
            return BAD
        if text[at] == _CLOSE_OBJECT:
            return at + 1 if seen & _NEEDED == _NEEDED else BAD
        at = skip_blank(text, at + 1)


@njit(cache=True, nogil=True)
def _key(text: Bytes, start: int, end: int) -> int:
    """The number of a key, `_UNKNOWN` for one that is not looked for, `BAD` for one whose letters are escaped."""
    length = end - start
    key = _OF_LENGTH[length] if length < len(_OF_LENGTH) else _UNKNOWN
    if key == _BOX and text[start] == ord("a"):
        key = _AREA
    if key < _UNKNOWN:
        i = 0
        while i < length and text[start + i] == _LETTERS[key, i]:
            i += 1
        if i == length:
            return key
    for i in range(start, end):
        if text[i] == _BACKSLASH and text[i + 1] == ord("u") and _escapes_letter(text, i + 2):
            return BAD
    return _UNKNOWN


@njit(cache=True, nogil=True)
def _escapes_letter(text: Bytes, at: int) -> bool:
    """Whether the four hexadecimal digits of an escape stand for one of ASCII's characters, as keys are made of."""
    return bool(text[at] == _ZERO and text[at + 1] == _ZERO and text[at + 2] < _ZERO + 8)


@njit(cache=True, nogil=True)
def _scan_value(text: Bytes, at: int, key: int, row: int, part: Part, scratch: _Scratch) -> int:
    """Behind the value of a key; `BAD` or `_FULL`."""
    if key == _UNKNOWN:
        return skip_value(text, at, scratch.stack)
    if key <= 2:
        part.whole[row, key], at = parse_integer(text, at)
        return at
    if key in (CROWD, IGNORE):
        part.whole[row, key], at = _flag(text, at, scratch.stack)
        return at
    if text[at] == ord("n"):
        return skip_value(text, at, scratch.stack)
    if key == _AREA:
        part.numbers[row, 4], end, exact = parse_number(text, at)
        return end if exact or end == BAD or _left_to_python(scratch, _NUMBER, 5 * row + 4, at, end) else BAD
    if key == _SEGMENTATION and text[at] == _OPEN_OBJECT:
        end = skip_value(text, at, scratch.stack)
        part.whole[row, CODE_START], part.whole[row, CODE_END] = at, end
        return end
    if text[at] != _OPEN_LIST:
        return BAD
    if key == _SEGMENTATION:
        return _scan_rings(text, at, row, part, scratch)
    if key == _BOX:
        first = 5 * row
        end, behind = _scan_numbers(text, at, part.numbers.reshape(-1)[: first + 4], _NUMBER, first, scratch)
        return BAD if end == _FULL or (end > 0 and behind < first + 4) else end
    first = scratch.used[0, _POINT]
    end, behind = _scan_numbers(text, at, part.points, _POINT, first, scratch)
    part.whole[row, POINTS], scratch.used[0, _POINT] = behind - first, behind
    return end


@njit(cache=True, nogil=True)
def _flag(text: Bytes, at: int, stack: Bytes) -> tuple[int, int]:
    """Whether a number, true, false or null counts as true, and the place behind it."""
    if text[at] == ord("t"):
        return 1, skip_value(text, at, stack)
    if text[at] == ord("f") or text[at] == ord("n"):
        return 0, skip_value(text, at, stack)
    value, at, exact = parse_number(text, at)
    return (1 if value != 0 else 0), (at if exact else BAD)


@njit(cache=True, nogil=True)
def _scan_numbers(text: Bytes, at: int, out: Floats, buffer: int, slot: int, scratch: _Scratch) -> tuple[int, int]:
    """Behind the list of numbers that opens at `at`, which go to `out` from `slot` on, and the slot behind them."""
    at = skip_blank(text, at + 1)
    if at < len(text) and text[at] == _CLOSE_LIST:
        return at + 1, slot
    while at < len(text):
        if slot == len(out):
            return _FULL, slot
        out[slot], end, exact = parse_number(text, at)
        if end == BAD or not (exact or _left_to_python(scratch, buffer, slot, at, end)):
            return BAD, slot
        slot += 1
        at = end
        if at < len(text) and text[at] <= 32:
            at = skip_blank(text, at)
        if at < len(text) and text[at] == _CLOSE_LIST:
            return at + 1, slot
        if at >= len(text) or text[at] != _COMMA:
            return BAD, slot
        at += 1
        if at < len(text) and text[at] <= 32:
            at = skip_blank(text, at)
    return BAD, slot


@njit(cache=True, nogil=True)
def _left_to_python(scratch: _Scratch, buffer: int, slot: int, start: int, end: int) -> bool:
    """Note a number down that Python must read; false where there are too many of them."""
    k = scratch.used[0, _ODD]
    if k == len(scratch.odd):
        return False
    scratch.odd[k, 0], scratch.odd[k, 1], scratch.odd[k, 2], scratch.odd[k, 3] = buffer, slot, start, end
    scratch.used[0, _ODD] = k + 1
    return True


@njit(cache=True, nogil=True)
def _scan_rings(text: Bytes, at: int, row: int, part: Part, scratch: _Scratch) -> int:
    """Behind the list of rings that opens at `at`."""
    at = skip_blank(text, at + 1)
    if at < len(text) and text[at] == _CLOSE_LIST:
        return at + 1
    while at < len(text) and text[at] == _OPEN_LIST:
        if scratch.used[0, _RING] == len(part.ring_ends):
            return _FULL
        at, end = _scan_numbers(text, at, part.coordinates, _COORDINATE, scratch.used[0, _COORDINATE], scratch)
        if at < 0:
            return at
        part.ring_ends[scratch.used[0, _RING]] = end
        scratch.used[0, _COORDINATE] = end
        scratch.used[0, _RING] += 1
        part.whole[row, RINGS] += 1
        at = skip_blank(text, at)
        if at < len(text) and text[at] == _CLOSE_LIST:
            return at + 1
        if at >= len(text) or text[at] != _COMMA:
            return BAD
        at = skip_blank(text, at + 1)
    return BAD
