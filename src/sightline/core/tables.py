"""Rows or a frame made to fit a schema exactly, or refused: nothing is rounded, dropped or emptied on the way."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from sightline.core.errors import DataError

__all__ = ["Rows", "fit_table"]

Rows: TypeAlias = pl.DataFrame | Sequence[Mapping[str, Any]]


def fit_table(name: str, rows: Rows, schema: Mapping[str, Any], where: str | None = None) -> pl.DataFrame:
    """`rows` with the columns and types of `schema`, in its order; columns left out are empty.

    Raises DataError for a column outside the schema, a value of another type, and a fraction in a whole-number column.
    """
    columns = (
        rows.columns if isinstance(rows, pl.DataFrame) else list(dict.fromkeys(key for row in rows for key in row))
    )
    unknown = sorted(set(columns) - set(schema))
    if unknown:
        raise DataError(f"{name} must fit the schema ({', '.join(schema)}), got also {unknown}", where=where)
    try:
        if isinstance(rows, pl.DataFrame):
            frame = rows
        else:
            data = {c: [row.get(c) for row in rows] for c in columns}
            frame = pl.DataFrame(data, schema={c: schema[c] for c in columns})
        _refuse_fractions(name, frame, schema, where)
        empty = pl.Series([], dtype=pl.Null).clear(len(rows))
        return pl.DataFrame([(frame[c] if c in frame.columns else empty).cast(t).alias(c) for c, t in schema.items()])
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"{name} must fit the schema, got: {first_line}", where=where) from None


def _refuse_fractions(name: str, frame: pl.DataFrame, schema: Mapping[str, Any], where: str | None) -> None:
    for column, wanted in schema.items():
        if column not in frame.columns or not wanted.is_integer() or not frame[column].dtype.is_float():
            continue
        values = frame[column].drop_nulls()
        broken = values.filter(values != values.floor())
        if not broken.is_empty():
            raise DataError(
                f"{name} must fit the schema, got {broken[0]} in the whole-number column '{column}'", where=where
            )
