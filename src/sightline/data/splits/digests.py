"""What a split consists of, as a digest one can compare later: the pictures in one half, the labels in the other."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.files import file_sha256
from sightline.data.splits.label_digest import split_label_digests

__all__ = ["changed_parts", "split_digests"]


def split_digests(dataset: Dataset, files: pl.DataFrame, workers: int = 2) -> dict[str, str]:
    """Per split ("" for images in none) `images:<hex> labels:<hex>`, SHA-256 in both places.

    `files` has the columns `path` and `sha256` (binary) of the images, as `Scan.images` does, so that none is read
    again; the bytes of mask files are read and belong to the labels. What else enters says `split_label_digests`.
    """
    named = replace(dataset, images=dataset.images.with_columns(pl.col("split").fill_null("")))
    images = named.images.select("path", "split", "mask_path").join(
        files.select("path", pl.col("sha256").bin.encode("hex")), on="path", how="left"
    )
    digests = {}
    for split, labels in split_label_digests(named).items():
        part = images.filter(pl.col("split") == split).sort("path")
        pictures = (f"{path} {digest}" for path, digest in part.select("path", "sha256").iter_rows())
        masks = part["mask_path"].drop_nulls().to_list()
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            contents = list(pool.map(lambda mask: _file_digest(dataset.image_path(mask)), masks))
        digests[split] = f"images:{_of_lines(pictures)} labels:{_of_lines([labels, *contents]) if masks else labels}"
    return digests


def changed_parts(before: str, after: str) -> list[str]:
    """Which of `images` and `labels` differ between two digests of `split_digests`."""
    old, new = (dict(part.partition(":")[::2] for part in text.split()) for text in (before, after))
    return [name for name in ("images", "labels") if old.get(name) != new.get(name)]


def _file_digest(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError:
        return "absent"  # the scan reports the mask itself


def _of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
