"""Splits: made reproducibly, never dividing a declared group, held out where none are named, checked for overlap."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from sightline.core.dataset import Dataset, check_split_names
from sightline.core.errors import ConfigError, DataError, at, unknown_name
from sightline.core.files import file_sha256
from sightline.data.splits.stratify import divide_units

__all__ = [
    "PARENT",
    "assign_splits",
    "check_fractions",
    "check_split_overlap",
    "declared_groups",
    "exclude_images",
    "hash_key",
    "read_rows",
    "shared_bytes",
    "split_dataset",
    "unit_keys",
]

PARENT = "parent"
"""The rule by which the images of one folder are a group."""
_KEYS = ("path", "stem")


def declared_groups(paths: pl.Series, rule: str, metadata: Path | None = None, where: str | None = None) -> pl.Series:
    """The group of each path, null where the rule gives none.

    `rule` is a regular expression whose first group names it, `parent` for the folder, or, with `metadata`, a column of
    that CSV file, which names images in a column `path` or `stem`. ConfigError, at `where`, for anything else, and for
    a rule that gives no image a group.
    """
    if metadata is not None:
        return _from_column(paths, metadata, rule)
    if rule == PARENT:
        return pl.Series([PurePosixPath(p).parent.as_posix() for p in paths.to_list()], dtype=pl.String)
    try:
        compiled = re.compile(rule)
    except re.error as error:
        raise ConfigError(f"'group' must be a regular expression, got '{rule}': {error}", where=where) from None
    if compiled.groups < 1:
        raise ConfigError(f"'group' must have a group in parentheses, or be '{PARENT}', got '{rule}'", where=where)
    try:
        # Polars' expressions take time in proportion to the text: Python's may try for ever to match a long name.
        found = paths.cast(pl.String).str.extract(rule, 1)
    except pl.exceptions.ComputeError as error:
        reason = next((line for line in str(error).splitlines() if line.startswith("error: ")), str(error))
        message = f"'group' must be an expression that can be searched for in one pass, got '{rule}': {reason[:200]}"
        raise ConfigError(message, where=where) from None
    if len(found) and found.null_count() == len(found):
        message = f"'group' must be found in paths of the data set, got '{rule}', which is not even in '{paths[0]}'"
        raise ConfigError(message, where=where)
    return found


def read_rows(file: Path) -> pl.DataFrame:
    """A CSV file with a head, every value as text, empty ones null; ConfigError when it cannot be read as that."""
    try:
        # Only text: a patient 007 must not become 7.
        frame = pl.read_csv(file, infer_schema=False, truncate_ragged_lines=False)
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror or error})", where=str(file)) from None
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"must be a CSV file in UTF-8 with a head, got: {first}", where=str(file)) from None
    return frame.rename({name: name.strip() for name in frame.columns})


def _from_column(paths: pl.Series, file: Path, column: str) -> pl.Series:
    table = read_rows(file)
    key = next((k for k in _KEYS if k in table.columns), None)
    if key is None:
        raise ConfigError(
            f"must name images in a column 'path' or 'stem', got the columns {', '.join(table.columns)}",
            where=at(file, 1),
        )
    if column not in table.columns or column == key:
        known = [c for c in table.columns if c != key]
        raise ConfigError(unknown_name("column", column, known), where=at(file, 1))
    twice = table.with_row_index("line", offset=2).filter(
        pl.col(key).is_duplicated() & ~pl.col(key).is_first_distinct()
    )
    if not twice.is_empty():
        raise ConfigError(f"must name each image once, got '{twice[key][0]}' again", where=at(file, twice["line"][0]))
    value_of = dict(table.select(key, column).iter_rows())
    names = paths.to_list() if key == "path" else [PurePosixPath(p).stem for p in paths.to_list()]
    found = pl.Series([value_of.get(n) for n in names], dtype=pl.String)
    if found.null_count() == len(found):
        raise ConfigError(f"must name images of the data set in '{key}', got none that is one", where=str(file))
    return found


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
    known = [
        f for f in dataset.findings if f.code == "split-overlap-path" and {first, second} <= set(f.facts["splits"])
    ]
    if known:
        for split in (first, second):
            dataset.split(split)  # refuses one that is wholly inside the other
        count = sum(f.count for f in known)
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


def exclude_images(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The data set without the images named by path, file name or stem; DataError for a name that matches none."""
    paths = [PurePosixPath(p) for p in dataset.images["path"]]
    known = {name: i for i, p in enumerate(paths) for name in (p.as_posix(), p.name, p.stem)}
    dropped: set[int] = set()
    for name in names:
        if name not in known:
            raise DataError(unknown_name("image to leave out", name, [p.stem for p in paths]), where=str(dataset.root))
        dropped |= {i for i, p in enumerate(paths) if name in (p.as_posix(), p.name, p.stem)}
    keep = [i for i in range(len(paths)) if i not in dropped]
    return dataset.select(dataset.images["image_id"][keep]) if dropped else dataset
