"""Predictions of a whole data set: one table and what made it, saved together as Parquet."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.errors import DataError
from sightline.core.files import plain, write_bytes_atomic
from sightline.core.tables import Rows, fit_table

__all__ = ["PREDICTIONS_SCHEMA", "Predictions", "predictions_from_rows"]

PREDICTIONS_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "class_id": pl.Int32,
    "x1": pl.Float64,
    "y1": pl.Float64,
    "x2": pl.Float64,
    "y2": pl.Float64,
    "score": pl.Float64,
    "track_id": pl.Int64,
    "rle": pl.Binary,
}
_NULLABLE = ("track_id", "rle")
_META_KEY = "sightline"


@dataclass(frozen=True)
class Predictions:
    """Detections of a data set, `xyxy` in image pixels; for semantic maps one row (an RLE) per image and class.

    `meta` says what made them: task, class_names, data_digest, model_digest, preprocess, conf, iou, max_det, backend.
    """

    table: pl.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.table.height

    def digest(self) -> str:
        """SHA-256 (hex) of the rows and of `meta`."""
        total = hashlib.sha256(json.dumps(plain(self.meta), sort_keys=True).encode())
        for name in PREDICTIONS_SCHEMA:
            column = self.table[name]
            total.update(f"{name}:{len(column)}:".encode())
            total.update(column.is_null().to_numpy().tobytes())
            present = column.drop_nulls()
            if column.dtype == pl.Binary:
                # Lengths first: without them two codes could be cut at another place and look the same.
                total.update(present.bin.size().to_numpy().tobytes())
                total.update(b"".join(present))
            else:
                total.update(present.to_numpy().tobytes())
        return total.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a Parquet file whose metadata carries `meta`, in one step."""
        written = io.BytesIO()  # in memory first: polars reports a full disk as an error of its computation
        self.table.write_parquet(written, metadata={_META_KEY: json.dumps(plain(self.meta))})
        write_bytes_atomic(path, written.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote; DataError when the file is not such a file."""
        file = Path(path)
        try:
            raw = pl.read_parquet_metadata(file).get(_META_KEY)
            table = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"must be a predictions file in Parquet, got: {str(error).splitlines()[0]}", where=str(file)
            ) from None
        if raw is None:
            raise DataError("must carry Sightline's metadata, got a Parquet file without it", where=str(file))
        return predictions_from_rows(table, _meta(raw, file), where=str(file))


def _meta(raw: str, file: Path) -> dict[str, Any]:
    try:
        meta = json.loads(raw)
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise DataError("must carry Sightline's metadata, got metadata that is no JSON object", where=str(file))
    return meta


def predictions_from_rows(rows: Rows, meta: Mapping[str, Any], where: str | None = None) -> Predictions:
    """Validated `Predictions`; `track_id` and `rle` may be left out. DataError on missing or non-finite values."""
    frame = fit_table("predictions", rows, PREDICTIONS_SCHEMA, where)
    absent = [c for c in PREDICTIONS_SCHEMA if c not in _NULLABLE and frame.height and frame[c].is_null().all()]
    if absent:
        raise DataError(f"predictions must fit the schema, got no values for {', '.join(absent)}", where=where)
    solid = frame.drop(_NULLABLE)
    if (
        sum(solid.null_count().row(0))
        or not solid.cast(pl.Float64).select(pl.all_horizontal(pl.all().is_finite().all())).item()
    ):
        raise DataError("predictions must be finite numbers in every row, got NaN, infinity or empty", where=where)
    return Predictions(frame, dict(meta))
