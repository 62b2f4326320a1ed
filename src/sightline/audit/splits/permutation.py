"""Do two splits differ by more than chance? A permutation test of whole groups, since objects come in clusters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

__all__ = ["Shift", "Units", "measure_shift", "sampling_units"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Statistic: TypeAlias = Callable[[Floats, Floats], Floats]
"""Distances (K,) between two tables of shares (K, C), each row summing to 1."""

_PERMUTATIONS = 999
_ENOUGH = 20  # as many permutations that differ as much settle the matter
_BATCH = 50
_FEWEST = 10  # units a split is cut into at least where it has as many images


@dataclass(frozen=True)
class Units:
    """What a random division would have moved as one: `unit` (images,) of each image, and how they were made."""

    unit: Ints
    made_of: str


@dataclass(frozen=True)
class Shift:
    """Distance between the shares of two splits, 0..1, and the probability of as large a one by chance."""

    distance: float
    p_value: float
    shares: tuple[Floats, Floats]


def sampling_units(images: pl.DataFrame, pair: tuple[str, str]) -> Units:
    """The units of the images of two splits: declared groups, else runs of images that follow each other by path.

    Neighbours in a folder are often frames of one scene, so that single images would make any difference look
    significant. A run is as long as leaves the smaller split 10 of them; in a split of fewer than 20 images it is one
    image. `images` are the rows of the two splits, in any order.
    """
    if images["group"].is_not_null().any():
        names = images.select("split", group=pl.coalesce("group", "path"))
        codes = names.select(code=pl.struct("group", "split").rank("dense").cast(pl.Int64) - 1)["code"]
        return Units(codes.to_numpy(), "groups")
    sizes = [int((images["split"] == s).sum()) for s in pair]
    length = max(min(sizes) // _FEWEST, 1)
    placed = images.select("split", place=pl.col("path").rank("ordinal").over("split").cast(pl.Int64) - 1)
    runs = placed["place"].to_numpy() // length
    unit = np.where((placed["split"] == pair[0]).to_numpy(), runs, runs + len(images))
    return Units(np.unique(unit, return_inverse=True)[1].astype(np.int64), f"runs of {length} images")


def measure_shift(
    units: Units,
    second: npt.NDArray[np.bool_],
    image: Ints,
    kind: Ints,
    weight: Floats,
    kinds: int,
    statistic: Statistic,
    worth: float,
    seed: int,
) -> Shift:
    """How far the shares of `kinds` differ between the images of the first and of the `second` (images,) split.

    Rows (`image`, `kind`, `weight`) say how much of a kind an image holds. The p value is the share of random divisions
    of the units, each as many as here, that differ at least as much (Phipson and Smyth 2010: the data counts as one).
    It is 1 without a test where the distance is below `worth`, a difference too small to matter.
    """
    count = int(units.unit.max()) + 1
    table: Any = csr_array((weight, (units.unit[image], kind)), shape=(count, kinds))
    in_second = np.zeros(count, dtype=np.bool_)
    in_second[units.unit[second]] = True
    total = np.asarray(table.sum(axis=0))
    distance, shares = _distances(table, total, in_second[None].astype(np.float64), statistic)
    if not distance[0] >= worth:
        return Shift(float(distance[0]), 1.0, shares)
    rng = np.random.default_rng(seed)
    done = extreme = 0
    while done < _PERMUTATIONS and extreme < _ENOUGH:
        drawn = np.stack([rng.permutation(in_second) for _ in range(_BATCH)]).astype(np.float64)
        found, _ = _distances(table, total, drawn, statistic)
        extreme += int((found >= distance[0] - 1e-12).sum())
        done += _BATCH
    return Shift(float(distance[0]), (extreme + 1) / (done + 1), shares)


def _distances(table: Any, total: Floats, drawn: Floats, statistic: Statistic) -> tuple[Floats, tuple[Floats, Floats]]:
    """Distances (K,) of K divisions (K, units), and the shares of the first of them; NaN where a side holds nothing."""
    there = np.asarray((table.T @ drawn.T).T)
    sides = []
    for amounts in (total - there, there):
        sums = amounts.sum(axis=1, keepdims=True)
        sides.append(np.divide(amounts, sums, out=np.full(amounts.shape, np.nan), where=sums > 0))
    return statistic(sides[0], sides[1]), (sides[0][0], sides[1][0])
