"""Checks that compare the splits with each other, and with what they were when somebody wrote them down."""

from collections.abc import Mapping
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.options import AuditOptions
from sightline.audit.result import AuditResult, SplitCounts
from sightline.audit.scan.one_pass import Scan
from sightline.audit.splits.permutation import Shift, Units, measure_shift, sampling_units
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding
from sightline.data.splits import changed_parts

__all__ = ["check_recorded_splits", "check_splits"]

SIGNIFICANCE = 0.01
WORTH_CLASSES = 0.1
WORTH_SIZES = 0.15
WORTH_ABSENCE = 10  # objects of a class in one split from which on its absence in the other is worth a word
_SIZE_BINS = 64
_SEED = 0
_SHOWN = 10

Floats: TypeAlias = npt.NDArray[np.float64]
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
