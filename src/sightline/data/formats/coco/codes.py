"""Run-length objects of many annotations at once: checked against their images, in COCO's compressed form."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from sightline.core.errors import DataError
from sightline.ops import rle
from sightline.ops.runs import pack, unpack

__all__ = ["read_codes"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def read_codes(values: Sequence[dict[str, Any]], heights: Ints, widths: Ints) -> list[bytes | str]:
    """For each run-length object, of an image of the given size, its compressed counts or (as text) what is wrong."""
    read: list[bytes | str] = [b""] * len(values)
    texts: list[int] = []
    lists: list[int] = []
    for i, (value, height, width) in enumerate(zip(values, heights.tolist(), widths.tolist(), strict=True)):
        if value.get("size") != [height, width]:
            claimed = value.get("size")
            read[i] = f"run lengths must be of size [height, width] = {[height, width]}, got {claimed!r:.40}"
        else:
            (lists if isinstance(value.get("counts"), list) else texts).append(i)
    for rows, reader in ((texts, _read_texts), (lists, _read_lists)):
        if not rows:
            continue
        counts: list[Any] = [values[i].get("counts") for i in rows]
        for i, code in zip(rows, reader(counts, heights[rows], widths[rows]), strict=True):
            read[i] = code
    return read


def _read_texts(counts: list[Any], heights: Ints, widths: Ints) -> list[bytes | str]:
    codes = [c.encode("ascii", "replace") if isinstance(c, str) else b"" for c in counts]
    ends = np.cumsum([len(c) for c in codes], dtype=np.int64)
    sound = _fill(np.frombuffer(b"".join(codes), dtype=np.uint8), ends, heights * widths)
    sizes = zip(heights.tolist(), widths.tolist(), strict=True)
    return [
        code if fine else _examine(text if isinstance(text, str) else "", size)
        for code, text, fine, size in zip(codes, counts, sound.tolist(), sizes, strict=True)
    ]


def _read_lists(counts: list[list[Any]], heights: Ints, widths: Ints) -> list[bytes | str]:
    sizes = list(zip(heights.tolist(), widths.tolist(), strict=True))
    if not set(map(type, chain.from_iterable(counts))) <= {int}:
        return [_examine(runs, size) for runs, size in zip(counts, sizes, strict=True)]
    try:
        flat = np.fromiter(chain.from_iterable(counts), np.int64)
    except OverflowError:
        return [_examine(runs, size) for runs, size in zip(counts, sizes, strict=True)]
    ends = np.cumsum([len(c) for c in counts], dtype=np.int64)
    packed, packed_ends = _pack_all(flat, ends, heights * widths)
    whole, starts = packed.tobytes(), np.concatenate([[0], packed_ends])[:-1].tolist()
    return [
        whole[start:end] if end > start else _examine(runs, size)
        for start, end, runs, size in zip(starts, packed_ends.tolist(), counts, sizes, strict=True)
    ]


def _examine(counts: str | list[Any], size_hw: tuple[int, int]) -> bytes | str:
    """One object by itself, which says what is wrong with it."""
    try:
        if isinstance(counts, list):
            return rle.runs_to_counts(counts, size_hw)
        rle.counts_to_runs(counts, size_hw)
    except (DataError, ValueError, OverflowError) as error:
        return f"run lengths must fill the image, got: {error}"
    return counts.encode("ascii")


@njit(cache=True)
def _fill(raw: Bytes, ends: Ints, totals: Ints) -> Bools:
    """Which of the codes laid end to end decode to as many pixels as their image has."""
    sound = np.zeros(len(ends), dtype=np.bool_)
    start = 0
    for k in range(len(ends)):
        runs, problem = unpack(raw[start : ends[k]])
        sound[k] = problem == 0 and runs.sum() == totals[k]
        start = ends[k]
    return sound


@njit(cache=True)
def _pack_all(flat: Ints, ends: Ints, totals: Ints) -> tuple[Bytes, Ints]:
    """The codes of lists of runs laid end to end, and their ends; nothing for one that does not fill its image."""
    out = np.empty(len(flat) * 8, dtype=np.uint8)
    out_ends = np.zeros(len(ends), dtype=np.int64)
    start, size = 0, 0
    for k in range(len(ends)):
        runs = flat[start : ends[k]]
        if len(runs) and runs.min() >= 0 and runs.max() <= totals[k] and runs.sum() == totals[k]:
            code = pack(runs)
            out[size : size + len(code)] = code
            size += len(code)
        out_ends[k], start = size, ends[k]
    return out[:size].copy(), out_ends
