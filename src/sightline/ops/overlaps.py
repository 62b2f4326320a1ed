"""How many pixels each segment of one map shares with each of another: for panoptic quality and errors of objects.

A map gives each pixel the id of the one segment it belongs to; 0 is no segment.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.core.kernels import njit
from sightline.ops import rle

__all__ = ["Overlaps", "overlaps_of", "segment_map"]

IntArray = npt.NDArray[np.int64]
IdMap = npt.NDArray[np.integer]
_LIMIT = 1 << 31


class Overlaps(NamedTuple):
    """Pairs (P,) of a segment of the first map and one of the second that share pixels, by rising row, then column.

    `rows` and `columns` are places in the lists of ids, of A and B entries; A (or B) stands for pixels of no segment,
    A + 1 (or B + 1) for those of ids that are not listed.
    """

    rows: IntArray
    columns: IntArray
    pixels: IntArray


def overlaps_of(first: IdMap, second: IdMap, first_ids: npt.ArrayLike, second_ids: npt.ArrayLike) -> Overlaps:
    """What the segments of two maps of one shape share; ids (A,) and (B,) are in 1..2**31 - 1, once each.

    DataError for maps of two shapes, and for other ids.
    """
    if first.shape != second.shape:
        raise DataError(f"maps must have one shape, got {first.shape} and {second.shape}")
    sides = [np.asarray(ids, dtype=np.int64).reshape(-1) for ids in (first_ids, second_ids)]
    for ids in sides:
        if len(ids) and (ids.min() < 1 or ids.max() >= _LIMIT or len(np.unique(ids)) < len(ids)):
            raise DataError(f"ids of segments must be above 0, below 2**31, once each, got {ids[:10].tolist()}")
    along: Literal["F", "C"] = "F" if first.flags.f_contiguous and second.flags.f_contiguous else "C"
    pairs, pixels = _count(_narrow(first).ravel(order=along), _narrow(second).ravel(order=along))
    rows, columns = _places(pairs >> 32, sides[0]), _places(pairs & (_LIMIT * 2 - 1), sides[1])
    keys = rows * (len(sides[1]) + 2) + columns
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else order
    merged = np.add.reduceat(pixels[order], starts) if len(keys) else pixels  # of several ids that are not listed
    return Overlaps(rows[order[starts]], columns[order[starts]], merged)


def _narrow(ids: IdMap) -> npt.NDArray[np.int32]:
    if not np.can_cast(ids.dtype, np.int32) and ids.size and not 0 <= ids.min() <= ids.max() < _LIMIT:
        raise DataError(f"ids of a map must be 0..{_LIMIT - 1}, got {ids.min()}..{ids.max()}")
    return ids.astype(np.int32, copy=False)


def _places(values: IntArray, ids: IntArray) -> IntArray:
    """Where ids stand in the list; behind it those of no segment, then strange ones."""
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids, values, sorter=order)
    listed = place < len(ids)
    listed[listed] = ids[order[place[listed]]] == values[listed]
    found = np.where(values == 0, len(ids), len(ids) + 1)
    found[listed] = order[place[listed]]
    return found


@njit(cache=True)
def _slot(keys: IntArray, key: Any) -> Any:
    """Where a pair stands in the open table (a power of two long, -1 where free), or would stand."""
    last = np.uint64(len(keys) - 1)
    mixed = np.uint64(key)
    slot = ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(1181783497276652981) >> np.uint64(40)) & last
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + np.uint64(1)) & last
    return slot


@njit(cache=True)
def _beginnings(first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]) -> IntArray:
    """Where another pair of ids begins (S,), the first pixel left out.

    Nearly without branches, which edges of segments would make the processor guess wrong; and with unsigned places,
    which nobody asks whether they count from the end. So the compiler makes wide instructions of it.
    """
    one, eight = np.uint64(1), np.uint64(8)
    changes = np.zeros((len(first) + 7) // 8 * 8, dtype=np.uint8)
    for i in range(one, np.uint64(len(first))):
        changes[i] = np.uint8(((first[i] ^ first[i - one]) | (second[i] ^ second[i - one])) != 0)
    words, found = changes.view(np.uint64), 0
    for i in range(np.uint64(len(changes))):
        found += changes[i]
    places = np.empty(found + 1, dtype=np.int64)  # fresh memory for all pixels would cost more than all else here
    count = np.uint64(0)
    for word in range(np.uint64(len(words))):
        if words[word] != 0:
            for i in range(word * eight, word * eight + eight):
                places[count] = i
                count += np.uint64(changes[i])
    return places[:count].copy()


@njit(cache=True)
def _count(first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]) -> tuple[IntArray, IntArray]:
    """Pairs of ids, `a << 32 | b`, and how often each occurs; looked up where a stretch ends, not at every pixel."""
    keys, counts = np.full(4096, -1, dtype=np.int64), np.zeros(4096, dtype=np.int64)
    if len(first) == 0:
        return keys[:0], counts[:0]
    ends = np.append(_beginnings(first, second), np.int64(len(first)))
    used, start = 0, 0
    for block in range(0, len(ends), 1024):  # far below the half of the table, which grows between blocks alone
        new, start = _add_stretches(keys, counts, first, second, ends[block : block + 1024], start)
        used += new
        if used * 2 > len(keys):
            keys, counts = _larger(keys, counts)
    there = np.flatnonzero(counts)
    return keys[there], counts[there]


@njit(cache=True)
def _add_stretches(
    keys: IntArray,
    counts: IntArray,
    first: npt.NDArray[np.int32],
    second: npt.NDArray[np.int32],
    ends: IntArray,
    start: int,
) -> tuple[int, int]:
    """Add the stretches from `start` to each end; how many pairs are new, and the last end."""
    new = 0
    for end in ends:
        key = np.int64(first[start]) << 32 | np.int64(second[start])
        slot = _slot(keys, key)
        new += keys[slot] == -1
        keys[slot] = key
        counts[slot] += end - start
        start = end
    return new, start


@njit(cache=True)
def _larger(keys: IntArray, counts: IntArray) -> tuple[IntArray, IntArray]:
    wide, amounts = np.full(len(keys) * 4, -1, dtype=np.int64), np.zeros(len(keys) * 4, dtype=np.int64)
    for old in np.flatnonzero(counts):
        slot = _slot(wide, keys[old])
        wide[slot], amounts[slot] = keys[old], counts[old]
    return wide, amounts


def segment_map(masks: Sequence[bytes], size_hw: tuple[int, int]) -> tuple[npt.NDArray[np.int32], int]:
    """The map (H, W) in which the pixels of mask `i` (run lengths) are `i` + 1, later ones over earlier ones; and how
    many pixels are of several masks. RleError for masks of another size.
    """
    flat = np.zeros(size_hw[0] * size_hw[1], dtype=np.int32)
    covered = 0
    for number, counts in enumerate(masks, start=1):
        covered += _paint(flat, rle.counts_to_runs(counts, size_hw), number)
    return flat.reshape(size_hw[::-1]).T, covered


@njit(cache=True)
def _paint(flat: npt.NDArray[np.int32], runs: IntArray, value: int) -> int:
    covered, start = 0, 0
    for index in range(len(runs)):
        end = start + runs[index]
        if index % 2:
            for place in range(start, end):
                covered += flat[place] != 0
                flat[place] = value
        start = end
    return covered
