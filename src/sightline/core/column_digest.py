"""Tables as bytes: a digest over columns that does not depend on the order of rows, at the speed of hashing."""

import hashlib

import polars as pl

__all__ = ["update_with_table"]


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
