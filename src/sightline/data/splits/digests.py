"""What a split consists of, as digests one can compare later: of the labels alone, or of pictures and labels."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.files import file_sha256
from sightline.core.tables import update_with_table

__all__ = ["changed_parts", "split_digests", "split_label_digests"]

_IMAGE_COLUMNS = ("path", "width", "height", "mask_path")
_OBJECT_COLUMNS = (
    "path",
    "class",
    "x1",
    "y1",
    "x2",
    "y2",
    "crowd",
    "ignore",
    "track_id",
    "rle",
    "polygon",
    "keypoints",
)


def split_label_digests(dataset: Dataset) -> dict[str, str]:
    """SHA-256 (hex) per split over its images' names and sizes and their objects, classes by name.

    The order of rows and objects, ids, groups, the other splits and classes without objects do not enter; of semantic
    masks the names of the files and the meaning of the values do, and the pixels do not.
    """
    images = dataset.images.select("image_id", "split", *_IMAGE_COLUMNS).drop_nulls("split")
    named = dataset.objects.join(dataset.classes.select("class_id", pl.col("name").alias("class")), on="class_id")
    objects = named.join(images.select("image_id", "path", "split"), on="image_id").select("split", *_OBJECT_COLUMNS)
    digests = {}
    for split in dataset.splits:
        total = hashlib.sha256()
        for table in (images.drop("image_id"), objects):
            update_with_table(total, table.filter(pl.col("split") == split).drop("split"))
        if images.filter(pl.col("split") == split)["mask_path"].is_not_null().any():
            update_with_table(total, dataset.classes.select("name", value=pl.coalesce("source_id", "class_id")))
            total.update(repr(sorted(dataset.ignore_values)).encode())
        digests[split] = total.hexdigest()
    return digests


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
