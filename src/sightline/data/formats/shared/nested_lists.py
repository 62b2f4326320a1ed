"""Columns of lists out of flat arrays, without a Python object per list."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["list_column", "nested_column"]

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


def list_column(flat: Floats, lengths: Ints) -> pl.Series:
    """`flat` cut into pieces of the given lengths (N,) as a List(Float64) column; null where a length is 0."""
    rows = np.flatnonzero(lengths)
    return _spread(_grouped(pl.Series(flat, dtype=pl.Float64), lengths[rows]), rows, len(lengths))


def nested_column(flat: Floats, ring_lengths: Ints, ring_rows: Ints, count: int) -> pl.Series:
    """`flat` cut into rings and these given to rows, as a List(List(Float64)) column (count,); null in other rows.

    `ring_rows` (R,) rises and has the row of each ring; no ring is empty.
    """
    rings = _grouped(pl.Series(flat, dtype=pl.Float64), ring_lengths)
    firsts = np.flatnonzero(np.diff(ring_rows, prepend=-1))
    rings_of_row = np.diff(firsts, append=len(ring_rows))
    return _spread(_grouped(rings, rings_of_row), ring_rows[firsts], count)


def _grouped(values: pl.Series, lengths: Ints) -> pl.Series:
    """Successive values as lists; grouping by a key known to be sorted copies slices and hashes nothing."""
    if not len(lengths):
        return pl.Series([], dtype=pl.List(values.dtype))
    keys = pl.Series(np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)).set_sorted()
    table = pl.DataFrame({"key": keys, "values": values})
    return table.group_by("key", maintain_order=True).agg("values")["values"]


def _spread(lists: pl.Series, rows: Ints, count: int) -> pl.Series:
    """The lists in their rows (rising) of a column of `count`, null in the others."""
    if len(rows) == count:
        return lists
    slots = np.full(count, len(rows), dtype=np.int64)
    slots[rows] = np.arange(len(rows))
    places = pl.Series(slots)
    return lists.gather(pl.select(pl.when(places < len(rows)).then(places)).to_series())
