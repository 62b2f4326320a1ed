"""The one pass over the files of a data set: what every later check knows about the pictures and masks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl

from sightline.audit.scan.files import FileReport, examine_image
from sightline.audit.scan.image_hash import THUMBNAIL, hash_thumbnails
from sightline.audit.scan.masks import MaskReport, examine_mask
from sightline.audit.scan.statistics import PictureStatistics
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.core.frames import picture_file

__all__ = ["SCAN_SCHEMA", "Progress", "Scan", "scan_files", "thumbnails_of"]

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

SCAN_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "path": pl.String,
    "split": pl.String,
    "group": pl.String,
    "bytes": pl.Int64,  # 0 for a frame of a video
    "sha256": pl.Binary,  # null where the file cannot be read, and for a frame of a video
    # All below is null where the picture cannot be decoded in full.
    "kind": pl.String,  # format: "jpeg", "png", …; null for a frame of a video
    "jpeg_quality": pl.Int16,  # 1..100, from the quantisation table
    "hash": pl.UInt64,  # of the thumbnail, see `sightline.audit.scan.image_hash`
    "thumbnail": pl.Binary,  # 32 × 32 luma, row by row
    **dict.fromkeys(PictureStatistics._fields, pl.Float64),
    "blockiness": pl.Float64,  # null where a JPEG was decoded at reduced size: see `jpeg_quality`
}

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Scan:
    """One row per image file that exists (`SCAN_SCHEMA`), a report per mask file, and the findings of the pass."""

    images: pl.DataFrame
    masks: list[MaskReport]
    findings: list[Finding]


def scan_files(dataset: Dataset, *, workers: int = 2, progress: Progress | None = None) -> Scan:
    """Read every image and mask once, in `workers` threads; `progress` is called from this thread after every file.

    Images that do not exist are not looked for again where the reader has reported them.
    """
    rows = _image_rows(dataset)
    masked = [r for r in rows if r[4] is not None]
    total = len(rows) + len(masked)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        images, findings = _scan_rows(dataset, rows, pool, lambda done: progress and progress(done, total))
        read = pool.map(lambda r: examine_mask(dataset, r[0], r[1], r[4], (r[2], r[3])), masked)
        masks = list(_counted(read, lambda done: progress and progress(len(rows) + done, total)))
    return Scan(images=images, masks=masks, findings=[*findings, *(f for m in masks for f in m.findings)])


def thumbnails_of(images: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The thumbnails (N, 32, 32) of `Scan.images`; zeros where there is none."""
    blank = bytes(THUMBNAIL * THUMBNAIL)
    joined = b"".join(images["thumbnail"].fill_null(blank).to_list())
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


def _image_rows(dataset: Dataset) -> list[Any]:
    rows = dataset.images.select("image_id", "path", "height", "width", "mask_path", "split", "group").rows()
    if not any(f.code == "image-missing" for f in dataset.findings):
        return rows
    return [r for r in rows if picture_file(dataset.image_path(r[1])).is_file()]


def _scan_rows(
    dataset: Dataset, rows: list[Any], pool: ThreadPoolExecutor, done: Callable[[int], object]
) -> tuple[pl.DataFrame, list[Finding]]:
    files = pool.map(lambda r: examine_image(dataset.image_path(r[1]), r[1], r[0], (r[2], r[3])), rows)
    reports = list(_counted(files, done))
    table = [(r[0], r[1], r[5], r[6], *_columns(f)) for r, f in zip(rows, reports, strict=True)]
    images = pl.DataFrame(table, schema=SCAN_SCHEMA, orient="row")
    hashes = pl.Series("hash", hash_thumbnails(thumbnails_of(images)), dtype=pl.UInt64)
    images = images.with_columns(hash=pl.when(pl.col("thumbnail").is_not_null()).then(hashes))
    return images, [f for r in reports for f in r.findings]


def _columns(report: FileReport) -> Sequence[Any]:
    """The values of `SCAN_SCHEMA` after the first four; the hashes are made of all thumbnails at once."""
    statistics = report.statistics or (None,) * len(PictureStatistics._fields)
    return (
        report.size_bytes,
        report.digest,
        None if report.header is None else report.header.kind,
        None if report.header is None else report.header.quality,
        None,
        None if report.thumbnail is None else report.thumbnail.tobytes(),
        *statistics,
        report.blockiness,
    )


def _counted(items: Iterable[_Item], done: Callable[[int], object]) -> Iterator[_Item]:
    for count, item in enumerate(items, start=1):
        done(count)
        yield item
