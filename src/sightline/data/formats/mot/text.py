"""MOTChallenge text files: one comma-separated row per box, frames, ids and pixels counted from 1."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.columns import LARGEST
from sightline.data.layout import read_text

__all__ = ["MOT_SCHEMA", "mot_text", "read_mot_txt", "write_mot_txt"]

MOT_SCHEMA = {
    "line": pl.Int64,
    "frame": pl.Int64,  # 0-based
    "track_id": pl.Int64,  # -1 in files of detections
    "x1": pl.Float64,
    "y1": pl.Float64,
    "x2": pl.Float64,
    "y2": pl.Float64,
    "score": pl.Float64,  # confidence; in ground truth the "consider" flag
    "class_number": pl.Int64,  # null in MOT15 files, which have none
    "visibility": pl.Float64,  # null where the file has none
}
_FEWEST, _MOST = 6, 10
Floats: TypeAlias = npt.NDArray[np.float64]


def read_mot_txt(path: str | Path, name: str | None = None) -> tuple[pl.DataFrame, list[Finding]]:
    """The rows of a ground-truth, detections or results file (`MOT_SCHEMA`), and a finding for each unusable line.

    Pixels become 0-based with exclusive ends (`x1 = left - 1`, `x2 = x1 + width`), frames 0-based. Files of 9 columns
    follow MOT16 and later (class, visibility); those of 10 follow MOT15 (world coordinates, which are not read).
    `name` is the path that findings carry. DataError when the file cannot be read.
    """
    file = Path(path)
    name = name or str(file)
    lines = read_text(file).splitlines()
    numbers = [i for i, text in enumerate(lines, start=1) if text.strip()]
    rows = [_fields(lines[i - 1]) for i in numbers]
    values, bad = _values(rows)
    findings = [
        finding(
            "label-malformed",
            f"a row must be frame, id, left, top, width, height and up to four more numbers up to 1e15, "
            f"got '{lines[numbers[i] - 1][:60]}'",
            path=name,
            line=numbers[i],
        )
        for i in np.flatnonzero(bad).tolist()
    ]
    good = np.flatnonzero(~bad)
    columns = np.array([len(rows[i]) for i in good.tolist()], dtype=np.int64)
    values = values[good]
    return _table(values, columns, np.array(numbers, dtype=np.int64)[good]), findings


def write_mot_txt(path: str | Path, rows: pl.DataFrame) -> None:
    """Write rows of `MOT_SCHEMA` (`line` not needed) in one step: 9 columns where `class_number` is there, else 10."""
    write_text_atomic(path, mot_text(rows))


def mot_text(rows: pl.DataFrame) -> str:
    """The text of a MOTChallenge file, sorted by frame and id; numbers carry at most nine decimals."""
    ordered = rows.sort("frame", "track_id", maintain_order=True)
    with_class = "class_number" in ordered.columns and ordered["class_number"].null_count() == 0
    lines = []
    for row in ordered.iter_rows(named=True):
        box = (row["x1"] + 1, row["y1"] + 1, row["x2"] - row["x1"], row["y2"] - row["y1"])
        fields = [str(row["frame"] + 1), str(row["track_id"]), *map(_number, box), _number(row["score"])]
        if with_class:
            visibility = row.get("visibility")
            fields += [str(row["class_number"]), _number(1.0 if visibility is None else visibility)]
        else:
            fields += ["-1", "-1", "-1"]
        lines.append(",".join(fields))
    return "".join(f"{line}\n" for line in lines)


def _number(value: float) -> str:
    text = repr(round(value, 9))
    return text.removesuffix(".0")


def _fields(text: str) -> list[str]:
    """The numbers of a row, between commas (one may end the row) or blanks; an empty one stays, as no number."""
    if "," not in text:
        return text.split()
    fields = text.strip().removesuffix(",").split(",")
    return [number for field in fields for number in field.split() or [""]]


def _values(rows: list[list[str]]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Rows as float64 (N, 10), padded with NaN, and the rows that are not six to ten finite numbers."""
    values = np.full((len(rows), _MOST), np.nan)
    bad = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows):
        try:
            numbers = [float(t) for t in row]
        except ValueError:
            numbers = []
        if not _FEWEST <= len(numbers) <= _MOST or not (np.abs(numbers) <= LARGEST).all():
            bad[i] = True
        else:
            values[i, : len(numbers)] = numbers
    whole = (values[:, :2] == np.floor(values[:, :2])) & (np.abs(values[:, :2]) < 2**53)
    bad |= ~whole.all(axis=1) | (values[:, 0] < 1)
    return values, bad


def _table(values: Floats, columns: npt.NDArray[np.int64], lines: npt.NDArray[np.int64]) -> pl.DataFrame:
    modern = columns == 9
    x1, y1 = values[:, 2] - 1, values[:, 3] - 1
    class_number = pl.Series(values[:, 7]).fill_nan(None).cast(pl.Int64, strict=False)
    visibility = pl.Series(values[:, 8]).fill_nan(None)
    table = pl.DataFrame(
        {
            "line": lines,
            "frame": values[:, 0].astype(np.int64) - 1,
            "track_id": values[:, 1].astype(np.int64),
            "x1": x1,
            "y1": y1,
            "x2": x1 + values[:, 4],
            "y2": y1 + values[:, 5],
            "score": pl.Series(values[:, 6]).fill_nan(1.0),
            "class_number": class_number,
            "visibility": visibility,
            "modern": modern,
        }
    )
    kept = (pl.when("modern").then(pl.col(c)).alias(c) for c in ("class_number", "visibility"))
    table = table.with_columns(kept).drop("modern")
    return table.select(pl.col(c).cast(t) for c, t in MOT_SCHEMA.items())
