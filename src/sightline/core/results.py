"""The base of everything that is measured: frozen dataclasses that print, tabulate and serialise themselves."""

import html
from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl

from sightline.core.files import format_cell, plain

__all__ = ["Result", "markdown_table"]


class Result:
    """Base of result dataclasses. A subclass has a `conventions` field and may override `to_frame` for its main table.

    `conventions` says how the numbers were made: thresholds, limits, resolution, split, digests.
    """

    conventions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values: nested dataclasses as dictionaries, tables as lists of rows, NaN as None."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    def to_frame(self) -> pl.DataFrame:
        """The numbers as a two-column table `metric`, `value`."""
        rows = [
            (f.name, float(value))
            for f in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, f.name), (int, float, np.number)) and not isinstance(value, bool)
        ]
        return pl.DataFrame(rows, schema={"metric": pl.String, "value": pl.Float64}, orient="row")

    def to_markdown(self) -> str:
        """The main table and the conventions as Markdown."""
        notes = "; ".join(f"{k}: {v}" for k, v in self.conventions.items())
        return markdown_table(self.to_frame()) + (f"\n\nConventions: {notes}\n" if notes else "\n")

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        head = "".join(f"<th>{html.escape(c)}</th>" for c in frame.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(format_cell(v))}</td>" for v in row) + "</tr>"
            for row in frame.iter_rows()
        )
        notes = html.escape("; ".join(f"{k}: {v}" for k, v in self.conventions.items()))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p><small>{notes}</small></p>"


def markdown_table(frame: pl.DataFrame) -> str:
    """`frame` as a Markdown table; floats with four significant decimals, missing values as an en dash."""
    lines = [frame.columns, *([format_cell(v) for v in row] for row in frame.iter_rows())]
    head, *body = (
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |" for line in lines
    )
    return "\n".join([head, "|" + "---|" * frame.width, *body])
