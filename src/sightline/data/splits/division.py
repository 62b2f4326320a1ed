"""Splits: made reproducibly, never dividing a group, and checked for images that are on both sides."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from sightline.core.dataset import Dataset, check_split_names
from sightline.core.errors import DataError
from sightline.core.files import file_sha256
from sightline.data.splits.stratify import divide_units

__all__ = [
    "assign_splits",
    "check_fractions",
    "check_split_overlap",
    "hash_key",
    "shared_bytes",
    "split_dataset",
    "unit_keys",
]

_SLACK = 1e-9


def split_dataset(dataset: Dataset, fractions: Mapping[str, float], seed: int = 0) -> Dataset:
    """`dataset` with every image assigned to a split; images of one group stay together.

    `fractions` must sum to 1. Images (or groups) are ordered by a hash of seed and path, and the splits are filled in
    that order, each to the nearest whole image or group and with at least one: the same data and seed always give the
    same splits.
    """
    return replace(dataset, images=assign_splits(dataset.images, fractions, seed))


def assign_splits(images: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.DataFrame:
    """The images table with `split` as `split_dataset` describes. DataError for fractions that are no division of 1."""
    shares = check_fractions(fractions)
    names, units = np.unique(unit_keys(images).to_numpy(), return_inverse=True)
    if len(names) < len(shares):
        raise DataError(
            f"each split must get an image, got {len(names)} images or groups for {len(shares)} splits",
            do="Give more images or fewer splits",
        )
    order = np.argsort([hash_key(seed, name) for name in names.tolist()], kind="stable")
    sizes = np.bincount(units).astype(np.float64)
    slots = np.empty(len(names), dtype=np.int64)
    slots[order] = divide_units(sizes[order], csr_array((len(names), 0)), np.array(list(shares.values())))
    return images.with_columns(split=pl.Series(list(shares))[slots[units]])


def check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """The fractions above 0; DataError where they are no division of 1."""
    values = list(fractions.values())
    if not values or min(values) < 0 or abs(sum(values) - 1) > _SLACK:
        raise DataError(f"split fractions must be at least 0 and sum to 1, got {dict(fractions)}")
    check_split_names(fractions)
    return {name: value for name, value in fractions.items() if value > 0}


def unit_keys(images: pl.DataFrame) -> pl.Series:
    """The name of what an image is never divided from: its group, or itself."""
    own = pl.format("path:{}", "path")
    return images.select(pl.coalesce(pl.format("group:{}", "group"), own)).to_series()


def hash_key(seed: int, key: str) -> bytes:
    """Where a unit stands in the order of a seed, whatever else there is: 32 bytes to sort by."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


def check_split_overlap(dataset: Dataset, first: str = "train", second: str = "val", workers: int = 2) -> None:
    """Raise DataError when two splits share an image, by path (as the reader found) or by identical bytes.

    A metric on images that were trained on says nothing. An image listed in both splits is in the table only once, so a
    whole split may have vanished: call this before taking the splits apart. Only files of equal size are hashed.
    """
    told = [
        f
        for f in dataset.findings
        if f.code == "split-overlap-path" and {f"'{first}'", f"'{second}'"} <= set(f.message.split())
    ]
    if told:
        count = sum(f.count for f in told)
        raise DataError(
            f"the splits '{first}' and '{second}' must not share images, got {count} that are in both",
            where=str(dataset.root),
            do="Let each point at its own images",
        )
    pairs = shared_bytes(dataset, {first, second}, workers)
    if pairs:
        one, other = pairs[0]
        raise DataError(
            f"the splits '{first}' and '{second}' must not share images, got {len(pairs)} files of identical content "
            f"({one} and {other})",
            where=str(dataset.root),
            do="Keep each picture in one split; `sightline audit` lists them all",
        )


def shared_bytes(dataset: Dataset, splits: set[str] | None = None, workers: int = 2) -> list[tuple[str, str]]:
    """Pairs of paths of images in different splits with the same bytes: the first of each kind, and every other."""
    rows = dataset.images.filter(pl.col("split").is_not_null()).select("path", "split")
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for path, split in rows.iter_rows():
        file = dataset.image_path(path)
        if (splits is None or split in splits) and file.is_file():
            by_size[file.stat().st_size].append((path, split))
    doubtful = [row for group in by_size.values() if len({s for _, s in group}) > 1 for row in group]
    with ThreadPoolExecutor(workers) as pool:
        digests = list(pool.map(lambda row: file_sha256(dataset.image_path(row[0])), doubtful))
    same: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row, digest in zip(doubtful, digests, strict=True):
        same[digest].append(row)
    return [(group[0][0], path) for group in same.values() for path, split in group[1:] if split != group[0][1]]
