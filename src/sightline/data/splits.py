"""Splits: made reproducibly, never dividing a group, and checked for images that are on both sides."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError

__all__ = ["assign_splits", "check_split_overlap", "shared_bytes", "split_dataset"]

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
    values = list(fractions.values())
    if not values or min(values) < 0 or abs(sum(values) - 1) > _SLACK:
        raise DataError(f"split fractions must be at least 0 and sum to 1, got {dict(fractions)}")
    units: dict[str, list[int]] = defaultdict(list)
    for row, (path, group) in enumerate(images.select("path", "group").iter_rows()):
        units[f"path:{path}" if group is None else f"group:{group}"].append(row)
    order = sorted(units, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    shares = {name: value for name, value in fractions.items() if value > 0}
    if len(order) < len(shares):
        raise DataError(
            f"each split must get an image, got {len(order)} images or groups for {len(shares)} splits",
            do="Give more images or fewer splits",
        )
    slots = _slots([len(units[name]) for name in order], list(shares.values()))
    split_of = [""] * images.height
    for name, slot in zip(order, slots, strict=True):
        for row in units[name]:
            split_of[row] = list(shares)[slot]
    return images.with_columns(split=pl.Series(split_of, dtype=pl.String))


def _slots(sizes: list[int], shares: list[float]) -> list[int]:
    """For each unit, in order, the split it falls into: the one in which its middle lies, but none stays empty."""
    bounds = [sum(shares[: i + 1]) * sum(sizes) for i in range(len(shares))]
    slots: list[int] = []
    placed = 0
    for done, size in enumerate(sizes):
        slot = slots[-1] if slots else 0
        later = len(shares) - 1 - slot
        middle = placed + size / 2
        if slots and later and (middle >= bounds[slot] - _SLACK or len(sizes) - done <= later):
            slot += 1
        slots.append(slot)
        placed += size
    return slots


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
        digests = list(pool.map(lambda row: _digest(dataset.image_path(row[0])), doubtful))
    same: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for row, digest in zip(doubtful, digests, strict=True):
        same[digest].append(row)
    return [(group[0][0], path) for group in same.values() for path, split in group[1:] if split != group[0][1]]


def _digest(path: Path) -> bytes:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
