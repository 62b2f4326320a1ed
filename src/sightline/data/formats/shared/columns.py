"""Columns of numbers and of lists out of label files: whole columns at once, entry by entry only where that fails."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["LARGEST", "float_rows", "floats", "ignore_flat_boxes", "integers", "list_column", "nested_column"]

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
_INT64 = 2**63
LARGEST = 1e15
"""What is beyond it is no place in a picture; areas of what is below can be calculated."""


def integers(values: Sequence[Any]) -> tuple[Ints, Bools]:
    """The values as int64 and a mask of those that are no integer (0 in the array). "12" and 12.0 are integers."""
    if set(map(type, values)) <= {int}:
        try:
            return np.array(values, dtype=np.int64), np.zeros(len(values), dtype=np.bool_)
        except OverflowError:
            pass
    parsed = [_integer(v) for v in values]
    bad = np.array([v is None for v in parsed], dtype=np.bool_)
    return np.array([v or 0 for v in parsed], dtype=np.int64), bad


def floats(values: Sequence[Any]) -> tuple[Floats, Bools]:
    """The values as float64 and a mask of those that are no number up to `LARGEST` (NaN in the array)."""
    try:
        column = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        column = np.zeros((0, 0))
    if column.ndim != 1:  # lists among the numbers
        column = np.array([_float_row([v], 1)[0] for v in values], dtype=np.float64)
    bad: Bools = np.asarray(~(np.abs(column) <= LARGEST))
    column[bad] = np.nan
    return column, bad


def float_rows(rows: Sequence[Any], width: int) -> tuple[Floats, Bools]:
    """Rows of `width` numbers up to `LARGEST` as float64 (N, width), and a mask of those that are not (NaN there)."""
    try:
        table = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    except (ValueError, TypeError, OverflowError):
        table = np.zeros((len(rows), 0))
    if table.shape[1] != width:
        table = np.array([_float_row(r, width) for r in rows], dtype=np.float64).reshape(len(rows), width)
    bad: Bools = np.asarray(~(np.abs(table) <= LARGEST).all(axis=1))
    table[bad] = np.nan
    return table, bad


def ignore_flat_boxes(objects: pl.DataFrame) -> pl.DataFrame:
    """An objects table with `ignore` set for boxes without area, which nothing can be learnt from or matched with."""
    flat = (pl.col("x2") <= pl.col("x1")) | (pl.col("y2") <= pl.col("y1"))
    return objects.with_columns(pl.col("ignore") | flat)


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value) if isinstance(value, (int, str)) else _whole(value)
    except ValueError:
        return None
    return number if number is not None and -_INT64 <= number < _INT64 else None


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) and value == int(value) else None


def _float_row(row: Any, width: int) -> list[float]:
    nothing = [math.nan] * width
    if not isinstance(row, (list, tuple)) or len(row) != width:
        return nothing
    try:
        return [math.nan if isinstance(v, bool) else float(v) for v in row]
    except (ValueError, TypeError, OverflowError):
        return nothing


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
