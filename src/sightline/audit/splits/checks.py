"""Checks that compare the splits with each other, and with what they were when somebody wrote them down.

Whether two splits differ by more than chance is a permutation test of whole groups, since objects come in clusters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from sightline.audit.result import AuditOptions, AuditResult, SplitCounts
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding
from sightline.data.splits import changed_parts

__all__ = ["check_recorded_splits", "check_splits"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Statistic: TypeAlias = Callable[[Floats, Floats], Floats]
"""Distances (K,) between two tables of shares (K, C), each row summing to 1."""

_PERMUTATIONS = 999
_ENOUGH = 20  # as many permutations that differ as much decide it
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


SIGNIFICANCE = 0.01
WORTH_CLASSES = 0.1
WORTH_SIZES = 0.15
WORTH_ABSENCE = 10  # objects of a class in one split from which on its absence in the other is worth a word
_SIZE_BINS = 64
_SEED = 0
_SHOWN = 10

Pair: TypeAlias = tuple[str, str]


def check_splits(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    """`split-identical`, `split-class-absent`, `split-class-shift` and `split-size-shift`.

    Identity is looked for in every two splits, the rest between training (or the first) and each other. A shift is
    reported where it is worth mentioning (classes: total variation distance of at least 0.1; sizes: Kolmogorov-Smirnov
    distance of at least 0.15) and a random division of the same groups, or of runs of neighbouring images where no
    groups are declared, would give as much less than once in a hundred, the number of comparisons counted.
    """
    found = [*_emptied_splits(dataset)]
    for pair in combinations(dataset.splits, 2):
        found += _identical(scan, pair)
    first, *others = sorted(dataset.splits, key=lambda name: name != "train") or [""]
    for other in others:
        level = SIGNIFICANCE / len(others)
        if dataset.task == "semantic":
            found += _pixel_shift(dataset, scan, (first, other), level)
        else:
            found += _object_shifts(dataset, (first, other), level)
    return found


def check_recorded_splits(
    digests: Mapping[str, str], counts: Mapping[str, SplitCounts], since: AuditResult | None
) -> list[Finding]:
    """`split-changed` for every split that is not what `since`, an earlier audit, has recorded.

    `digests` and `counts` are the `split_digests` and `splits` of the audit that is being made.
    """
    if since is None:
        return []
    before, found = since.split_digests, []
    for split in sorted({*before, *digests} if before else ()):
        name = f"'{split}'" if split else "the images in no split"
        if split not in digests or split not in before:
            message = f"{name} {'is gone' if split in before else 'was not recorded'}"
            found.append(finding("split-changed", message))
            continue
        parts = changed_parts(before[split], digests[split])
        if not parts:
            continue
        now = counts[split]
        then = since.splits.get(split, now)
        both = (("images", then.images, now.images), ("objects", then.objects, now.objects))
        numbers = [f"{old} {what} then, {new} now" for what, old, new in both if old != new]
        what = " and ".join({"images": "pictures", "labels": "labels"}[p] for p in parts)
        detail = f" ({', '.join(numbers)})" if numbers else " (as many as then)"
        found.append(finding("split-changed", f"the {what} of {name} have changed{detail}"))
    return found


def _emptied_splits(dataset: Dataset) -> list[Finding]:
    """Splits that a reader found wholly inside another: of them nothing but its finding is left."""
    found: dict[Pair, int] = {}
    for f in dataset.findings:
        first, second = f.facts["splits"] if f.code == "split-overlap-path" else (None, None)
        if first is not None and second is not None and second not in dataset.splits:
            found[first, second] = found.get((first, second), 0) + f.count
    return [
        finding("split-identical", f"all {n} images of '{second}' are the same files as in '{first}'", count=n)
        for (first, second), n in found.items()
    ]


def _identical(scan: Scan, pair: Pair) -> list[Finding]:
    """Splits of which one holds no other content than the other; single copies are `split-overlap-bytes`."""
    contents = [scan.images.filter((pl.col("split") == s) & (pl.col("bytes") > 0))["sha256"].drop_nulls() for s in pair]
    first, second = (set(c.to_list()) for c in contents)
    small, large = sorted((first, second), key=len)
    if not small or not small <= large:
        return []
    if len(first) == len(second):
        message = f"'{pair[0]}' and '{pair[1]}' hold the same {len(first)} pictures"
    else:
        inner, outer = pair if len(first) < len(second) else pair[::-1]
        message = f"all {len(small)} pictures of '{inner}' are also in '{outer}'"
    return [finding("split-identical", message, count=len(small))]


def _object_shifts(dataset: Dataset, pair: Pair, level: float) -> list[Finding]:
    images, place = _images_of(dataset, pair)
    objects = dataset.usable_objects.join(place, on="image_id")
    units = sampling_units(images, pair)
    second = (images["split"] == pair[1]).to_numpy()
    image = objects["image"].to_numpy()
    in_second = second[image]
    if in_second.all() or not in_second.any():
        return []  # a split without labels has no distribution
    of_class = objects["class_id"].cast(pl.Int64).to_numpy()
    kinds = len(dataset.class_names)
    counts = np.stack([np.bincount(of_class[in_second == s], minlength=kinds) for s in (False, True)])
    found = _absent(dataset.class_names, counts, pair)
    ones = np.ones(len(objects))
    if kinds > 1:
        shift = measure_shift(units, second, image, of_class, ones, kinds, _total_variation, WORTH_CLASSES, _SEED)
        found += _class_shift(dataset.class_names, shift, units, pair, level)
    side = pl.min_horizontal(
        (pl.col("x2") - pl.col("x1")) / pl.col("width"), (pl.col("y2") - pl.col("y1")) / pl.col("height")
    )
    sides = objects.select(side=side)["side"].to_numpy()
    edges = np.quantile(sides, np.linspace(0, 1, _SIZE_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, sides, side="right").astype(np.int64)
    shift = measure_shift(units, second, image, bins, ones, _SIZE_BINS, _kolmogorov_smirnov, WORTH_SIZES, _SEED)
    if shift.p_value < level:
        medians = [float(np.median(sides[in_second == s])) for s in (False, True)]
        message = (
            f"objects have a shorter side of {medians[0]:.1%} of the image in '{pair[0]}' and of {medians[1]:.1%} in "
            f"'{pair[1]}', in the median (Kolmogorov-Smirnov distance {shift.distance:.2f}, {_chance(shift, units)})"
        )
        found.append(finding("split-size-shift", message))
    return found


def _pixel_shift(dataset: Dataset, scan: Scan, pair: Pair, level: float) -> list[Finding]:
    images, place = _images_of(dataset, pair)
    slots = dict(place.select("image_id", "image").iter_rows())
    known = [(slots[m.image_id], m.pixels) for m in scan.masks if m.pixels is not None and m.image_id in slots]
    known = [(slot, pixels) for slot, pixels in known if pixels.sum() > 0]
    second = (images["split"] == pair[1]).to_numpy()
    sides = {bool(second[slot]) for slot, _ in known}
    if len(sides) < 2:
        return []
    kinds = len(dataset.class_names)
    shares = np.stack([pixels / pixels.sum() for _, pixels in known])
    counts = np.stack([(shares[[second[i] == s for i, _ in known]] > 0).sum(axis=0) for s in (False, True)])
    found = _absent(dataset.class_names, counts, pair)
    image = np.repeat([slot for slot, _ in known], kinds)
    kind = np.tile(np.arange(kinds), len(known))
    units = sampling_units(images, pair)
    shift = measure_shift(units, second, image, kind, shares.ravel(), kinds, _total_variation, WORTH_CLASSES, _SEED)
    return found + _class_shift(dataset.class_names, shift, units, pair, level)


def _images_of(dataset: Dataset, pair: Pair) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The images of two splits, and the place of each image id in them with the image's size."""
    images = dataset.images.filter(pl.col("split").is_in(list(pair)))
    place = images.select("image_id", "width", "height").with_row_index("image")
    return images, place.with_columns(pl.col("image").cast(pl.Int64))


def _absent(names: tuple[str, ...], counts: npt.NDArray[np.int64], pair: Pair) -> list[Finding]:
    """Classes that occur in one of the two splits only, and not so seldom that it is likely chance; `counts` (2, C)."""
    found = []
    for here, there in ((0, 1), (1, 0)):
        missing = np.flatnonzero((counts[here] >= WORTH_ABSENCE) & (counts[there] == 0)).tolist()
        if not missing:
            continue
        missing.sort(key=lambda c: -int(counts[here][c]))
        listed = ", ".join(f"{names[c]} ({counts[here][c]})" for c in missing[:_SHOWN])
        more = ", …" if len(missing) > _SHOWN else ""
        message = f"{len(missing)} classes occur in '{pair[here]}' and not in '{pair[there]}': {listed}{more}"
        found.append(finding("split-class-absent", message, count=len(missing)))
    return found


def _class_shift(names: tuple[str, ...], shift: Shift, units: Units, pair: Pair, level: float) -> list[Finding]:
    if shift.p_value >= level:
        return []
    change = shift.shares[1] - shift.shares[0]
    largest = np.argsort(-np.abs(change), kind="stable")[:3].tolist()
    listed = ", ".join(f"{names[c]} {shift.shares[0][c]:.1%} and {shift.shares[1][c]:.1%}" for c in largest)
    message = (
        f"shares in '{pair[0]}' and '{pair[1]}': {listed} "
        f"(total variation distance {shift.distance:.2f}, {_chance(shift, units)})"
    )
    return [finding("split-class-shift", message)]


def _chance(shift: Shift, units: Units) -> str:
    return f"p = {shift.p_value:.3f} by permuting {units.made_of}"


def _total_variation(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.abs(first - second).sum(axis=1) / 2)


def _kolmogorov_smirnov(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.abs(np.cumsum(first - second, axis=1)).max(axis=1))
