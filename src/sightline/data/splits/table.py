"""The table `sightline split` writes beside the data, and the digests by which a split is compared with what it was.

The table has one row per image with its split or fold, and its group. Digests are of the labels alone, or of pictures
and labels.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, at
from sightline.core.files import write_bytes_atomic
from sightline.core.findings import Finding
from sightline.core.frames import mask_sha256
from sightline.core.tables import update_with_table
from sightline.data.codes import finding
from sightline.data.splits.division import read_rows

__all__ = [
    "SplitRecord",
    "apply_table",
    "changed_parts",
    "changed_splits",
    "read_table",
    "split_digests",
    "split_label_digests",
    "write_table",
]

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
            total.update(b"" if dataset.mask_threshold is None else f"threshold {dataset.mask_threshold}".encode())
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
        return mask_sha256(file)
    except OSError:
        return "absent"  # the scan reports the mask itself


def _of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


_COLUMNS = ("path", "split", "fold", "group")


class SplitRecord(Config):
    """How a division was made and what it came to: kept in the file, checked when the file is read."""

    method: str
    seed: int
    fractions: dict[str, float] | None = None
    folds: int | None = None
    stratify: tuple[str, ...] = ()
    group_by: str | None = None
    metadata: str | None = None
    near_duplicate_bits: int | None = None
    sequences: bool = True
    units: int
    imbalance: float
    images: dict[str, int]
    objects: dict[str, int]
    label_digests: dict[str, str]


def write_table(table: pl.DataFrame, file: Path) -> None:
    """Write a table with column `path` and any of `split`, `fold`, `group`, ordered by path."""
    write_bytes_atomic(file, table.sort("path").write_csv().encode())


def read_table(file: Path) -> pl.DataFrame:
    """The table: `path`, `line` and what of `split`, `fold` (Int64) and `group` there are; ConfigError if malformed."""
    table = read_rows(file)
    if "path" not in table.columns or len(set(table.columns) & set(_COLUMNS)) < 2:
        raise ConfigError(
            f"must have a column 'path' and one of 'split', 'fold' and 'group', got {', '.join(table.columns)}",
            where=at(file, 1),
        )
    table = table.select(c for c in _COLUMNS if c in table.columns).with_row_index("line", offset=2)
    bad = table.filter(pl.col("path").is_null() | ~pl.col("path").is_first_distinct())
    if not bad.is_empty():
        got = "an empty path" if bad["path"][0] is None else f"'{bad['path'][0]}' again"
        raise ConfigError(f"must name each image once, got {got}", where=at(file, bad["line"][0]))
    if "fold" in table.columns:
        bad = table.filter(pl.col("fold").is_not_null() & ~pl.col("fold").str.contains(r"^\d{1,9}$"))
        if not bad.is_empty():
            raise ConfigError(f"'fold' must be 0, 1, ..., got '{bad['fold'][0]}'", where=at(file, bad["line"][0]))
        table = table.with_columns(pl.col("fold").cast(pl.Int64))
    return table


def apply_table(
    images: pl.DataFrame, file: Path, fold: int | None, excluded: set[str]
) -> tuple[pl.DataFrame, list[Finding]]:
    """`images` with the table's splits and, where they have none, its groups; rows and images without each other.

    With `fold`, that fold is `val` and the others are `train`. Rows of images in `excluded` are passed over.
    """
    table = read_table(file)
    if fold is not None:
        table = _one_fold(table, fold, file)
    elif "fold" in table.columns and "split" not in table.columns:
        raise ConfigError("'fold' must say which fold of the table is for validation", where=str(file))
    known = images["path"].implode()
    findings = []
    unknown = table.filter(~pl.col("path").is_in(known) & ~pl.col("path").is_in(sorted(excluded)))
    if not unknown.is_empty():
        message = f"{unknown.height} listed images are not in the data, the first is '{unknown['path'][0]}'"
        place = {"path": file.name, "line": int(unknown["line"][0]), "count": unknown.height}
        findings.append(finding("split-unknown-image", message, **place))  # type: ignore[arg-type]
    rows = table.drop("line", "fold", strict=False)
    joined = images.join(rows, on="path", how="left", maintain_order="left", suffix="_listed")
    if "split" in rows.columns:
        joined = joined.with_columns(split="split_listed")
        left = joined.filter(pl.col("split").is_null())
        if not left.is_empty():
            message = f"{left.height} images are in no split of {file.name}"
            findings.append(finding("split-unlisted", message, path=left["path"][0], count=left.height))
    if "group" in rows.columns:
        joined = joined.with_columns(group=pl.coalesce("group", "group_listed"))
    return joined.select(images.columns), findings


def changed_splits(dataset: Dataset, record: SplitRecord, file: Path) -> list[Finding]:
    """A finding for each recorded split whose labels are no longer the recorded ones; no image is read."""
    now = split_label_digests(dataset)
    changed = [name for name, digest in record.label_digests.items() if now.get(name) != digest]
    return [
        finding("split-changed", f"images or labels of split '{name}' differ from those recorded", path=file.name)
        for name in changed
    ]


def _one_fold(table: pl.DataFrame, fold: int, file: Path) -> pl.DataFrame:
    if "fold" not in table.columns:
        raise ConfigError("must have a column 'fold' to take one of, got none", where=at(file, 1))
    folds = table["fold"].drop_nulls().unique().sort().to_list()
    if fold not in folds:
        raise ConfigError(f"'fold' must be one of {', '.join(map(str, folds))}, got {fold}", where=str(file))
    part = pl.when(pl.col("fold") == fold).then(pl.lit("val")).when(pl.col("fold").is_not_null())
    return table.with_columns(split=part.then(pl.lit("train")))
