"""The one pass over the files of a data set: what every later check knows about the pictures and masks."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data.audit.files import FileReport, MaskReport, examine_image, examine_mask

__all__ = ["SCAN_SCHEMA", "Progress", "Scan", "scan_files"]

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

SCAN_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "path": pl.String,
    "split": pl.String,
    "group": pl.String,
    "bytes": pl.Int64,
    "sha256": pl.Binary,  # null where the file cannot be read
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
    rows = dataset.images.select("image_id", "path", "height", "width", "mask_path", "split", "group").rows()
    absent = {f.code for f in dataset.findings} & {"image-missing"}
    rows = [r for r in rows if not absent or dataset.image_path(r[1]).is_file()]
    masked = [r for r in rows if r[4] is not None]
    total = len(rows) + len(masked)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        files = pool.map(lambda r: examine_image(dataset.image_path(r[1]), r[1], r[0], (r[2], r[3])), rows)
        reports: list[FileReport] = list(_counted(files, 0, total, progress))
        read = pool.map(lambda r: examine_mask(dataset.image_path(r[4]), r[4], r[0], (r[2], r[3]), dataset), masked)
        masks = list(_counted(read, len(rows), total, progress))
    table = [(r[0], r[1], r[5], r[6], f.size_bytes, f.digest) for r, f in zip(rows, reports, strict=True)]
    return Scan(
        images=pl.DataFrame(table, schema=SCAN_SCHEMA, orient="row"),
        masks=masks,
        findings=[*(f for r in reports for f in r.findings), *(f for m in masks for f in m.findings)],
    )


def _counted(items: Iterable[_Item], start: int, total: int, progress: Progress | None) -> Iterator[_Item]:
    for done, item in enumerate(items, start=start + 1):
        if progress is not None:
            progress(done, total)
        yield item
