"""Dividing a data set into splits or folds that one can defend: units kept whole, labels spread, choices kept.

What belongs together stays together: a unit is what the declared groups, the near-duplicates and the runs of
consecutive frames join, directly or by way of each other. Units are divided by `sightline.data.splits.stratify`.

What is guaranteed when images are added: with the `previous` table, every unit that has an image in it keeps that
image's split, and only new units are placed; where new images join units of different splits, the new unit goes where
most of its recorded images are, and the others are counted as moved. An image is known by its path: a renamed one
counts as gone and added. Without the table only the order of the units stays, which depends on the seed and their own
names; how many change sides for one image added is the price of even labels: of 200 images some 40, of 20,000 one in a
hundred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pydantic
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sightline.audit.duplicates.checks import near_duplicate_components
from sightline.audit.duplicates.groups import consecutive_groups
from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan, scan_files
from sightline.audit.splits.units import SplitUnits, find_units, image_labels
from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.data.splits import Labels, check_fractions, declared_groups, divide_units, label_imbalance

__all__ = ["DEFAULT_FRACTIONS", "SplitOptions", "SplitPlan", "SplitResult", "plan_splits"]

DEFAULT_FRACTIONS: dict[str, float] = {"train": 0.7, "val": 0.2, "test": 0.1}
_RANDOM_TRIES = 20

Ints = NDArray[np.int64]
StratifyBy = Literal["class", "size"]


class SplitOptions(Config):
    """What can be chosen about a division."""

    fractions: dict[str, float] = DEFAULT_FRACTIONS
    folds: int | None = pydantic.Field(default=None, ge=2)
    """Equal folds in place of the fractions."""
    group_by: str | None = None
    """A pattern, `parent`, or a column of `metadata`; see `sightline.data.splits.division`."""
    metadata: str | None = None
    stratify: tuple[StratifyBy, ...] = ("class", "size")
    seed: int = pydantic.Field(default=0, ge=0)
    near_duplicates: bool = True
    """Keep near-duplicates together."""
    sequences: bool = True
    """Keep runs of consecutive frames together."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "SplitOptions":
        if self.metadata is not None and self.group_by is None:
            raise ValueError("--metadata needs --group-by, the column to group by")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Name → share of the images; folds are named 0, 1, ..."""
        if self.folds is not None:
            return {str(i): 1 / self.folds for i in range(self.folds)}
        return check_fractions(self.fractions)


@dataclass(frozen=True)
class SplitResult(Result):
    """What a division came to.

    `parts` has a row per split (or fold): images, their share and the wanted one, units, objects and the objects of
    each class (for semantic data the pixels). `together` says of near-duplicates, sequences and declared groups how
    many there are with two or more images, how many images they have, and how many the division divides (0);
    `random_division` how many a random division of the same fractions would, the mean of 20. `imbalance` is the mean
    share of images and labels in the wrong split (0 best, see `label_imbalance`), `imbalance_random` that of random
    divisions of the same units. `kept`, `added`, `moved` and `gone` count images against the previous table.
    """

    name: str
    parts: pl.DataFrame
    units: int
    largest_unit: int
    ungrouped: int
    together: dict[str, dict[str, int]]
    imbalance: float
    imbalance_random: float
    kept: int
    added: int
    moved: int
    gone: int
    random_division: dict[str, dict[str, float]] | None
    conventions: dict[str, Any]

    def to_frame(self) -> pl.DataFrame:
        """The splits."""
        return self.parts


@dataclass(frozen=True)
class SplitPlan:
    """A division of `dataset`: its `images` with the groups as found and the `part` (split, or number of the fold), the
    table to be written (`path`, `split` or `fold`, `group`), the options it was made with, and its measures.
    """

    dataset: Dataset
    images: pl.DataFrame
    table: pl.DataFrame
    options: SplitOptions
    result: SplitResult

    def divided(self, fold: int | None = None) -> Dataset:
        """The data set with its splits; of folds, one is `val` and the others are `train`."""
        split = pl.col("part")
        if fold is not None:
            split = pl.when(pl.col("part") == str(fold)).then(pl.lit("val")).otherwise(pl.lit("train"))
        return replace(self.dataset, images=self.images.with_columns(split=split).drop("part"))


def plan_splits(
    dataset: Dataset,
    options: SplitOptions,
    *,
    previous: pl.DataFrame | None = None,
    compare_random: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> SplitPlan:
    """Divide a data set; reads every image once. `previous` is a table of an earlier division (`read_table`).

    Raises DataError where there are fewer units than splits, ConfigError for a table of other splits or other images.
    """
    scan = scan_files(dataset, workers=workers, progress=progress)
    partitions = _partitions(dataset, scan, options, workers)
    images = dataset.images
    if "groups" in partitions:
        images = images.with_columns(group=pl.coalesce(partitions["groups"], "group"))
    labels, kinds = image_labels(dataset, scan)
    used = [partitions[k] for k in _constraints(options) if k in partitions] + [dataset.images["group"]]
    units = find_units(images, used, labels, options.seed)
    shares = np.array(list(options.shares.values()))
    if len(units.sizes) < len(shares):
        raise DataError(
            f"each split must get an image, got {len(units.sizes)} units of images that belong together for "
            f"{len(shares)} splits",
            where=str(dataset.root),
            do="Group by something finer, or ask for fewer splits",
        )
    before = None if previous is None else _before(dataset.images["path"], previous, options)
    fixed = None if before is None else _majority(units.unit_of, before, len(units.sizes), len(shares))
    slots = divide_units(units.sizes, units.labels[:, _spread(kinds, options)], shares, fixed)
    part_of = slots[units.unit_of]
    everything = partitions | ({"groups": images["group"]} if images["group"].null_count() < images.height else {})
    result = SplitResult(
        name=dataset.name,
        parts=_parts(dataset, labels, options, units.unit_of, part_of),
        units=len(units.sizes),
        largest_unit=int(units.sizes.max()),
        ungrouped=images["group"].null_count(),
        together={name: _divided(values, part_of) for name, values in everything.items()},
        imbalance=label_imbalance(units.sizes, units.labels, shares, slots),
        imbalance_random=_random_imbalance(units, shares, options.seed),
        kept=0 if before is None else int((before == part_of).sum()),
        added=images.height if before is None else int((before < 0).sum()),
        moved=0 if before is None else int(((before >= 0) & (before != part_of)).sum()),
        gone=0 if previous is None else int((~previous["path"].is_in(dataset.images["path"].implode())).sum()),
        random_division=_random_division(everything, images.height, shares, options.seed) if compare_random else None,
        conventions={
            **options.model_dump(exclude={"fractions", "folds"}),
            "fractions": options.shares,
            "near_duplicate_bits": AuditOptions().near_duplicate_bits,
        },
    )
    return _plan(dataset, images["group"], options, units.unit_of, part_of, result)


def _spread(kinds: Sequence[str], options: SplitOptions) -> Ints:
    """The columns of the labels that are to be spread evenly."""
    return np.flatnonzero(np.isin(np.array(kinds, dtype=str), options.stratify))


def _constraints(options: SplitOptions) -> list[str]:
    wanted = {"groups": True, "near-duplicates": options.near_duplicates, "sequences": options.sequences}
    return [name for name, keep in wanted.items() if keep]


def _partitions(dataset: Dataset, scan: Scan, options: SplitOptions, workers: int) -> dict[str, pl.Series]:
    """Per kind of belonging together, its value for each row of the images table."""
    found = {
        "near-duplicates": near_duplicate_components(scan.images, AuditOptions().near_duplicate_bits, workers=workers),
        "sequences": consecutive_groups(scan.images),
    }
    ids = dataset.images.select("image_id")
    partitions = {
        name: ids.join(scan.images.select("image_id", value=values), on="image_id", how="left", maintain_order="left")[
            "value"
        ]
        for name, values in found.items()
    }
    if options.group_by is not None:
        metadata = None if options.metadata is None else Path(options.metadata)
        partitions["groups"] = declared_groups(dataset.images["path"], options.group_by, metadata, "--group-by")
    return partitions


def _before(paths: pl.Series, previous: pl.DataFrame, options: SplitOptions) -> Ints:
    """The part of each image in the earlier table, -1 where it is not in it."""
    column = "split" if options.folds is None else "fold"
    if column not in previous.columns:
        raise ConfigError(f"the previous table must have a column '{column}', got {', '.join(previous.columns)}")
    names = list(options.shares)
    strange = sorted(set(previous[column].drop_nulls().cast(pl.String)) - set(names))
    if strange:
        raise ConfigError(
            f"the previous table must have the {column}s {', '.join(names)}, got also '{strange[0]}'",
            do="Ask for the same splits again, or begin anew without --previous",
        )
    place = {name: i for i, name in enumerate(names)}
    rows = previous.select("path", pl.col(column).cast(pl.String)).drop_nulls()
    part_of = {path: place[name] for path, name in rows.iter_rows()}
    before = np.array([part_of.get(p, -1) for p in paths.to_list()], dtype=np.int64)
    if (before < 0).all():
        raise ConfigError("the previous table must name images of this data set, got none that is one")
    return before


def _majority(unit_of: Ints, before: Ints, units: int, parts: int) -> Ints:
    """Per unit the part most of its recorded images are in, -1 where it has none."""
    votes = np.zeros((units, parts), dtype=np.int64)
    known = before >= 0
    np.add.at(votes, (unit_of[known], before[known]), 1)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def _divided(values: pl.Series, part_of: Ints) -> dict[str, int]:
    """How many of the values that several images have are in several parts."""
    frame = pl.DataFrame({"value": values, "part": part_of}).drop_nulls("value")
    by_value = (
        frame.group_by("value").agg(images=pl.len(), parts=pl.col("part").n_unique()).filter(pl.col("images") > 1)
    )
    split = by_value.filter(pl.col("parts") > 1)
    return {
        "count": by_value.height,
        "images": int(by_value["images"].sum()),
        "divided": split.height,
        "images_divided": int(split["images"].sum()),
    }


def _random_division(
    partitions: Mapping[str, pl.Series], count: int, shares: NDArray[np.float64], seed: int
) -> dict[str, dict[str, float]]:
    """What random divisions of single images would divide, the mean over some seeds."""
    ones = np.ones(count)
    found: dict[str, list[dict[str, int]]] = {name: [] for name in partitions}
    for i in range(_RANDOM_TRIES):
        part_of = _random_parts(ones, shares, np.random.default_rng((seed, i)))
        for name, values in partitions.items():
            found[name].append(_divided(values, part_of))
    keys = ("divided", "images_divided")
    return {name: {k: float(np.mean([r[k] for r in rows])) for k in keys} for name, rows in found.items()}


def _random_imbalance(units: SplitUnits, shares: NDArray[np.float64], seed: int) -> float:
    rngs = [np.random.default_rng((seed, i)) for i in range(_RANDOM_TRIES)]
    parts = [_random_parts(units.sizes, shares, rng) for rng in rngs]
    return float(np.mean([label_imbalance(units.sizes, units.labels, shares, p) for p in parts]))


def _random_parts(sizes: NDArray[np.float64], shares: NDArray[np.float64], rng: np.random.Generator) -> Ints:
    order = rng.permutation(len(sizes))
    parts = np.empty(len(sizes), dtype=np.int64)
    parts[order] = divide_units(sizes[order], csr_array((len(sizes), 0)), shares)
    return parts


def _parts(dataset: Dataset, labels: Labels, options: SplitOptions, unit_of: Ints, part_of: Ints) -> pl.DataFrame:
    """A row per split or fold: what it has; `labels` are those of `image_labels`, the classes first."""
    rows = []
    for i, (name, share) in enumerate(options.shares.items()):
        mine = np.flatnonzero(part_of == i)
        by_class = np.asarray(labels[mine].sum(axis=0)).ravel()[: len(dataset.classes)].astype(np.int64)
        rows.append(
            {
                "split" if options.folds is None else "fold": name,
                "images": len(mine),
                "share": len(mine) / max(len(part_of), 1),
                "wanted": share,
                "units": len(np.unique(unit_of[mine])),
                "objects" if dataset.task != "semantic" else "pixels": int(by_class.sum()),
                **{f"class {n}": int(c) for n, c in zip(dataset.class_names, by_class, strict=True)},
            }
        )
    return pl.DataFrame(rows)


def _plan(
    dataset: Dataset, declared: pl.Series, options: SplitOptions, unit_of: Ints, part_of: Ints, result: SplitResult
) -> SplitPlan:
    names = list(options.shares)
    images = dataset.images.with_columns(
        group=pl.coalesce("group", _unit_names(dataset.images["path"], declared, unit_of)),
        part=pl.Series([names[p] for p in part_of.tolist()], dtype=pl.String),
    )
    column = "split" if options.folds is None else "fold"
    table = images.select("path", pl.col("part").alias(column), "group").sort("path")
    return SplitPlan(dataset, images, table, options, result)


def _unit_names(paths: pl.Series, declared: pl.Series, unit_of: Ints) -> pl.Series:
    """A name for each unit: its declared group where it has just one, else after its first image; null for one image
    on its own.
    """
    frame = pl.DataFrame({"path": paths, "group": declared, "unit": unit_of})
    one_group = (pl.col("group").n_unique().over("unit") == 1) & pl.col("group").is_not_null()
    named = pl.when(one_group).then(pl.col("group")).when(pl.len().over("unit") > 1)
    return frame.select(named.then(pl.format("with {}", pl.col("path").min().over("unit")))).to_series()
