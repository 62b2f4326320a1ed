"""Predictions of a whole data set: one table and what made it, saved together as Parquet."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import check_regular, plain, write_bytes_atomic
from sightline.core.seal import UNSEALED, check_seal, seal_bytes
from sightline.core.tables import Rows, fit_table
from sightline.core.text import parse_json

__all__ = [
    "CLASS_CONFIDENCE",
    "LEFT_OUT",
    "OF_UNUSED_TWINS",
    "PREDICTED_IMAGES_SCHEMA",
    "PREDICTIONS_SCHEMA",
    "Predictions",
    "predictions_from_rows",
]

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
    "keypoints": pl.List(pl.Float64),  # x, y, score of each, image pixels
    "oriented": pl.List(pl.Float64),  # cx, cy, w, h, angle, see `sightline.ops.oriented`
    "given_width": pl.Float64,  # as a file of results has it, where `x2 - x1` differs from it in the last bit
    "given_height": pl.Float64,
    "area": pl.Float64,  # where a file of results decides it; else of the box or the mask, whichever is measured
}
PREDICTED_IMAGES_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "path": pl.String,  # POSIX, as far as the maker knew it; `video.mp4#000012` is frame 12 of a video
    "sha256": pl.String,  # of the file (the video of a frame), null where nobody has read it
}
CLASS_CONFIDENCE = "class_confidence"
"""In `meta`, true where the score of a class of a label map is the mean probability of its pixels."""
LEFT_OUT = "predicted_images_left_out"
"""In `meta`: how many images a file of predictions names that the data set at hand does not have."""
OF_UNUSED_TWINS = "predictions_of_unused_categories_left_out"
"""In `meta`: how many rows are of a category whose name another category has too, and which no object uses."""
_AS_GIVEN = ("given_width", "given_height", "area")
_NULLABLE = ("track_id", "rle", "keypoints", "oriented", *_AS_GIVEN)
_META_KEY, _IMAGES_KEY, _SEAL_KEY = "sightline", "sightline_images", "sightline_seal"


@dataclass(frozen=True)
class Predictions:
    """Detections of a data set, `xyxy` in image pixels; for semantic maps one row (an RLE) per image and class.

    `meta` says what made them: task, class_names, data_digest, model_digest, preprocess, conf, iou, max_det, backend.
    `images` (`PREDICTED_IMAGES_SCHEMA`) says which images were looked at, those without detections too, so that the
    predictions find their images in any data set; None where the ids are those of the data set at hand.
    """

    table: pl.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)
    images: pl.DataFrame | None = None

    def __len__(self) -> int:
        return self.table.height

    def left_out(self) -> dict[str, int]:
        """What a file of predictions has and these have not, counted: none, or `LEFT_OUT` and `OF_UNUSED_TWINS`."""
        return {key: self.meta[key] for key in (LEFT_OUT, OF_UNUSED_TWINS) if key in self.meta}

    def digest(self) -> str:
        """SHA-256 (hex) of the rows, of `meta` and of the images' names."""
        total = hashlib.sha256(json.dumps(plain(self.meta), sort_keys=True).encode())
        if self.images is not None:
            total.update(json.dumps(self.images.to_dict(as_series=False)).encode())
        for name in PREDICTIONS_SCHEMA:
            column = self.table[name]
            if name in ("keypoints", "oriented", *_AS_GIVEN) and column.null_count() == len(column):
                continue  # the digest of predictions that never had any
            total.update(f"{name}:{len(column)}:".encode())
            total.update(column.is_null().to_numpy().tobytes())
            present = column.drop_nulls()
            if column.dtype == pl.Binary:
                # Lengths first: without them two codes could be cut at another place and look the same.
                total.update(present.bin.size().to_numpy().tobytes())
                total.update(b"".join(present))
            elif column.dtype.is_nested():
                total.update(present.list.len().to_numpy().tobytes() + present.explode().to_numpy().tobytes())
            else:
                total.update(present.to_numpy().tobytes())
        return total.hexdigest()

    def of(self, dataset: Dataset, digests: Mapping[str, str] | None = None) -> "Predictions":
        """The same with the names of the data set's images, whose ids these are, and the files' digests by path."""
        sha256 = pl.Series("sha256", [(digests or {}).get(path) for path in dataset.images["path"]], pl.String)
        return replace(self, images=dataset.images.select("image_id", "path").with_columns(sha256))

    def save(self, path: str | Path) -> None:
        """Write a Parquet file whose metadata carries `meta` and `images`, in one step.

        ValueError without `images`: nobody could tell later whose ids the file has.
        """
        written = io.BytesIO()  # in memory first: polars reports a full disk as an error of its computation
        self.table.write_parquet(written, metadata=self.file_metadata())
        write_bytes_atomic(path, seal_bytes(written.getvalue()))

    def file_metadata(self) -> dict[str, str]:
        """What the metadata of their Parquet file says, unsealed; ValueError without `images`."""
        if self.images is None:
            raise ValueError("predictions must name their images before they are saved: use Predictions.of(dataset)")
        images = json.dumps(self.images.to_dict(as_series=False))
        return {_META_KEY: json.dumps(plain(self.meta)), _IMAGES_KEY: images, _SEAL_KEY: UNSEALED}

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` wrote; DataError when the file is not such a file."""
        file = Path(path)
        try:
            check_regular(file)
            data = file.read_bytes()
            check_seal(data, file, DataError, "Predict again")
            metadata = pl.read_parquet_metadata(io.BytesIO(data))
            table = pl.read_parquet(data)
        except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise DataError(
                f"must be a predictions file in Parquet, got: {str(error).splitlines()[0]}", where=str(file)
            ) from None
        if _META_KEY not in metadata:
            raise DataError("must carry Sightline's metadata, got a Parquet file without it", where=str(file))
        meta = _metadata(metadata[_META_KEY], file)
        if _IMAGES_KEY not in metadata:
            raise DataError(
                "must name the images its ids stand for, got a file without names", where=str(file), do="Predict again"
            )
        names = _images(_metadata(metadata[_IMAGES_KEY], file), str(file))
        read = predictions_from_rows(table, meta, where=str(file))
        unnamed = read.table.join(names, on="image_id", how="anti")["image_id"]
        if len(unnamed):
            message = f"must name every predicted image, got image_id {unnamed[0]} without a name"
            raise DataError(message, where=str(file))
        return replace(read, images=names)


def _metadata(raw: str, file: Path) -> dict[str, Any]:
    try:
        meta = parse_json(raw)
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise DataError("must carry Sightline's metadata, got metadata that is no JSON object", where=str(file))
    return meta


def _images(columns: dict[str, Any], where: str) -> pl.DataFrame:
    lists = [columns.get(name) for name in PREDICTED_IMAGES_SCHEMA]
    if not all(isinstance(values, list) and len(values) == len(lists[0] or ()) for values in lists):
        raise DataError("must name each image with an id, a path and a digest, got other metadata", where=where)
    rows = [dict(zip(PREDICTED_IMAGES_SCHEMA, row, strict=True)) for row in zip(*lists, strict=True)]
    images = fit_table("images", rows, PREDICTED_IMAGES_SCHEMA, where)
    if images["image_id"].null_count() or images["path"].null_count() or images["image_id"].is_duplicated().any():
        raise DataError("must name each image once, with an id and a path, got an id twice or empty", where=where)
    return images


def predictions_from_rows(rows: Rows, meta: Mapping[str, Any], where: str | None = None) -> Predictions:
    """Validated `Predictions`; `track_id`, `rle`, `keypoints` and `oriented` may be left out. DataError on missing or
    non-finite values, on keypoints that are not three numbers each, and oriented boxes that are not five.
    """
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
    for column, what, group in (("keypoints", "x, y and score of each", 3), ("oriented", "cx, cy, w, h and angle", 5)):
        lists = frame[column].drop_nulls()
        lengths = lists.list.len()
        wrong = (lengths % 3 > 0) if column == "keypoints" else lengths != group
        if len(lists) and (wrong.any() or not lists.explode(empty_as_null=False).is_finite().all()):
            raise DataError(f"'{column}' must be finite numbers, {what}, got others", where=where)
    return Predictions(frame, dict(meta))
