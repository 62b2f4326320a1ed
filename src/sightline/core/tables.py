"""Tables that fit a schema exactly, or are refused; and their digest, which does not depend on the order of rows."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from sightline.core.errors import DataError

__all__ = ["Rows", "fit_table", "update_with_table"]

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


def update_with_table(total: "hashlib._Hash", table: pl.DataFrame) -> None:
    """Add a table to a hash: names, height and content of its columns, rows in an order of their own.

    -0.0 counts as 0.0; nothing else is rounded.
    """
    ordered = _ordered(table.select(sorted(table.columns)))
    for column in ordered.iter_columns():
        total.update(f"{column.name}:{ordered.height}\n".encode())
        _update(total, column)


def _ordered(table: pl.DataFrame) -> pl.DataFrame:
    """The rows sorted by all flat columns; where these are alike, by the text of the nested ones."""
    flat = [name for name, kind in table.schema.items() if not kind.is_nested()]
    nested = [name for name in table.columns if name not in flat]
    if not nested or table.is_empty():
        return table.sort(flat, nulls_last=True)
    alike = table.select(pl.struct(flat).is_duplicated()).to_series()
    tie = pl.Series([None] * table.height, dtype=pl.String)
    if alike.any():
        rows = alike.arg_true()
        tie = tie.scatter(rows, [repr(row) for row in table[rows].select(nested).iter_rows()])
    keyed = table.with_columns(tie.alias("tie of rows"))
    return keyed.sort([*flat, "tie of rows"], nulls_last=True).drop("tie of rows")


def _update(total: "hashlib._Hash", values: pl.Series) -> None:
    """Which rows have a value, then the values: nested ones and texts as lengths and content."""
    if values.null_count():
        total.update(values.is_not_null().cast(pl.UInt8).to_numpy().tobytes())
        values = values.drop_nulls()
    if values.dtype in (pl.String, pl.Binary):
        binary = values.cast(pl.Binary)
        total.update(binary.bin.size().cast(pl.UInt32).to_numpy().tobytes())
        total.update(b"".join(binary.to_list()))
    elif isinstance(values.dtype, pl.List):
        total.update(values.list.len().cast(pl.UInt32).to_numpy().tobytes())
        _update(total, values.filter(values.list.len() > 0).explode())
    elif values.dtype.is_float():
        total.update((values + 0.0).cast(pl.Float64).to_numpy().astype("<f8").tobytes())
    else:
        total.update(values.cast(pl.Int64).to_numpy().astype("<i8").tobytes())
