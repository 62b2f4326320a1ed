"""Files of identical content, and near-duplicates: one picture up to size, compression, flips and turns.

Near-duplicates are found by the pictures' hashes (`hamming` beside this file, exact, eight symmetries) and confirmed
by the details of their thumbnails: pictures of one kind often share a hash and never share details. Pictures without
details (a black frame, an even sky) are like everything and are compared by their bytes only. Where pictures that are
the same are labelled differently, one of the two labels must be wrong.
"""

from collections import Counter, defaultdict
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.audit.duplicates.groups import check_groups, find_sequences, name_sequences
from sightline.audit.duplicates.hamming import hamming_components, in_order_of_appearance
from sightline.audit.result import AuditOptions
from sightline.audit.scan.image_hash import (
    SYMMETRIES,
    apply_symmetry,
    hash_thumbnails_symmetric,
    symmetry_indices,
    thumbnail_details,
)
from sightline.audit.scan.one_pass import Scan, thumbnails_of
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import examine_class_mask, finding
from sightline.ops.boxes import iou_matrix

__all__ = ["check_duplicates", "near_duplicate_components", "turn_boxes"]

_LEAST_IOU = 0.5  # of boxes that are meant to be of one object
_DIFFERENT_PIXELS = 0.05  # share of a mask


class Pair(NamedTuple):
    """Two rows of `Scan.images` that show one picture: `row`, after the symmetry, looks like `other`."""

    row: int
    other: int
    symmetry: int


def find_conflicts(dataset: Dataset, images: pl.DataFrame, pairs: list[Pair]) -> list[Finding]:
    """A finding for each pair whose labels differ: classes, places (IoU below 0.5), or 5 % of the mask's pixels."""
    if not pairs:
        return []
    ids, paths = images["image_id"].to_list(), images["path"].to_list()
    differ = _masks_differ(dataset) if dataset.task == "semantic" else _boxes_differ(dataset, ids, pairs)
    found = []
    for pair in pairs:
        what = differ(ids[pair.row], ids[pair.other], pair.symmetry)
        if what is not None:
            message = f"the same picture as {paths[pair.other]}, but {what}"
            found.append(finding("split-label-conflict", message, path=paths[pair.row], image_id=ids[pair.row]))
    return found


def turn_boxes(boxes_xyxy: NDArray[np.float64], symmetry: int) -> NDArray[np.float64]:
    """Boxes in the unit square after symmetry number 0..7 of `image_hash.SYMMETRIES`: (N, 4), still x1 < x2."""
    boxes = boxes_xyxy[:, [1, 0, 3, 2]] if symmetry & 4 else boxes_xyxy.copy()
    if symmetry & 1:
        boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    if symmetry & 2:
        boxes[:, [1, 3]] = 1 - boxes[:, [3, 1]]
    return boxes


def _boxes_differ(dataset: Dataset, ids: list[int], pairs: list[Pair]) -> Any:
    wanted = pl.Series(sorted({ids[r] for p in pairs for r in (p.row, p.other)}), dtype=pl.Int64)
    sizes = dataset.images.select("image_id", "width", "height")
    objects = dataset.usable_objects.filter(pl.col("image_id").is_in(wanted.implode())).join(sizes, on="image_id")
    unit = objects.select(
        "image_id",
        "class_id",
        *(pl.col(c) / pl.col("width") for c in ("x1", "x2")),
        *(pl.col(c) / pl.col("height") for c in ("y1", "y2")),
    )
    of_image = {
        key[0]: (part["class_id"].to_numpy(), part.select("x1", "y1", "x2", "y2").to_numpy())
        for key, part in unit.group_by("image_id")
    }
    nothing = (np.zeros(0, dtype=np.int32), np.zeros((0, 4)))

    def differ(one: int, other: int, symmetry: int) -> str | None:
        classes, boxes = of_image.get(one, nothing)
        their_classes, their_boxes = of_image.get(other, nothing)
        if Counter(classes.tolist()) != Counter(their_classes.tolist()):
            return f"with {_counted(dataset, classes)} instead of {_counted(dataset, their_classes)}"
        ious = iou_matrix(turn_boxes(boxes, symmetry), np.ascontiguousarray(their_boxes))
        ious[classes[:, None] != their_classes[None]] = -1
        rows, columns = linear_sum_assignment(ious, maximize=True)
        moved = int((ious[rows, columns] < _LEAST_IOU).sum())
        return f"{moved} of {len(rows)} boxes are elsewhere" if moved else None

    return differ


def _counted(dataset: Dataset, classes: NDArray[np.int32]) -> str:
    counts = Counter(classes.tolist())
    return ", ".join(f"{n} {dataset.class_names[c]}" for c, n in sorted(counts.items())) or "no object"


def _masks_differ(dataset: Dataset) -> Any:
    masks = dict(dataset.images.select("image_id", "mask_path").drop_nulls().iter_rows())

    def differ(one: int, other: int, symmetry: int) -> str | None:
        if one not in masks or other not in masks:
            return None
        try:
            mine, theirs = (examine_class_mask(dataset.image_path(masks[i]), dataset).ids for i in (one, other))
        except DataError:  # the masks' own check has reported it
            return None
        mine = apply_symmetry(mine, symmetry)
        if mine.shape != theirs.shape:
            return None  # resized: what differs along the edges is no contradiction
        share = float((mine != theirs).mean())
        return f"{share:.0%} of the mask's pixels differ" if share > _DIFFERENT_PIXELS else None

    return differ


MIN_COSINE = 0.92
"""Correlation of details from which on two pictures of near hashes are one: re-encoding, half size, blur of 2 pixels
and changed brightness stay above 0.96, different retinas and street scenes with equal hashes below 0.91."""

_LEAST_DETAIL = 0.5  # standard deviation in steps of luma; a thumbnail's rounding alone has 0.1
_SAME_BITS, _SAME_COSINE = 4, 0.97  # nothing can have moved between two such pictures
_LOOKED_AT = 1000  # images of a component that are searched for the closest pair across splits
_SMALL = 64  # images of a component of which every pair is compared

Rows: TypeAlias = NDArray[np.int64]


class _Near(NamedTuple):
    """Per row of `Scan.images`: what it is a near-duplicate of."""

    labels: Rows  # its component
    partner: Rows  # one near-duplicate of its own, -1 where there is none
    first_of_bytes: Rows  # the first row of identical content
    variants: NDArray[np.uint64]  # (N, 8): the hashes of its flips and turns


def near_duplicate_components(images: pl.DataFrame, max_bits: int, *, workers: int = 2) -> pl.Series:
    """For each row of `Scan.images` the number of its component: 0, 1, … in the order of first appearance.

    Rows are of one component when a chain of identical or near-duplicate pictures (hashes at most `max_bits` apart,
    0..15, under any flip or turn, and details alike) joins them; most are alone in theirs.
    """
    details = thumbnail_details(thumbnails_of(images))
    return pl.Series("component", _find(images, max_bits, *details, workers=workers).labels)


def check_duplicates(dataset: Dataset, scan: Scan, options: AuditOptions) -> list[Finding]:
    """What is in a data set twice, and what is on both sides of a split.

    Identical files, near-duplicates, labels of such pairs that contradict each other, and groups: declared ones that
    splits divide, and consecutive frames that nobody declared.
    """
    images, details = scan.images, thumbnail_details(thumbnails_of(scan.images))
    sequences = find_sequences(images, details[0])
    near = _find(images, options.near_duplicate_bits, *details, workers=2)
    same = _same_bytes(images, near)
    names = name_sequences(images, sequences)
    unit = [declared or found for declared, found in zip(images["group"].to_list(), names, strict=True)]
    findings = [*same, *_near_findings(dataset, images, near, unit)]
    findings += find_conflicts(dataset, images, _same_pictures(near, details[0], unit))
    return [*findings, *check_groups(dataset, scan, sequences)]


def _find(
    images: pl.DataFrame, max_bits: int, details: NDArray[np.int8], strength: NDArray[np.float32], workers: int
) -> _Near:
    count = images.height
    digests = images["sha256"].to_list()
    first: dict[bytes, int] = {}
    first_of_bytes = np.array(
        [i if d is None else first.setdefault(d, i) for i, d in enumerate(digests)], dtype=np.int64
    )
    variants = hash_thumbnails_symmetric(thumbnails_of(images))
    judged = images["thumbnail"].is_not_null().to_numpy() & (strength >= _LEAST_DETAIL)
    rows = np.flatnonzero(judged & (first_of_bytes == np.arange(count)))
    leader, partner = np.arange(count), np.full(count, -1, dtype=np.int64)
    if len(rows):
        found = hamming_components(
            variants[rows],
            max_bits,
            details=np.ascontiguousarray(details[rows]),
            turns=symmetry_indices(),
            min_cosine=MIN_COSINE,
            workers=workers,
        )
        leader[rows] = rows[np.unique(found.labels, return_index=True)[1][found.labels]]
        partner[rows] = np.where(found.partner >= 0, rows[found.partner], -1)
    return _Near(in_order_of_appearance(leader[first_of_bytes]), partner, first_of_bytes, variants)


def _same_bytes(images: pl.DataFrame, near: _Near) -> list[Finding]:
    paths, splits = images["path"].to_list(), images["split"].to_list()
    sizes = images["bytes"].to_list()
    found = []
    for row, first in enumerate(near.first_of_bytes.tolist()):
        if row == first or not sizes[row]:
            continue
        one, other = splits[first], splits[row]
        if one != other and one is not None and other is not None:
            message = f"the same bytes as {paths[first]}, which is in '{one}', while this is in '{other}'"
            found.append(finding("split-overlap-bytes", message, path=paths[row], other=paths[first]))
        else:
            message = f"the same bytes as {paths[first]}"
            found.append(finding("image-duplicate", message, path=paths[row], other=paths[first]))
    return found


def _near_findings(dataset: Dataset, images: pl.DataFrame, near: _Near, unit: list[str | None]) -> list[Finding]:
    """One finding for each component of more than identical files; none for the frames of one scene in one split."""
    paths, splits = images["path"].to_list(), images["split"].to_list()
    found = []
    for rows in _components(near):
        held = [s for s in dataset.splits if s in {splits[r] for r in rows}]
        if len(held) > 1:
            found.append(_across(images, near, rows, held))
        elif unit[rows[0]] is None or len({unit[r] for r in rows}) > 1:
            others = ", ".join(paths[r] for r in rows[2:5]) + (", …" if len(rows) > 5 else "")
            message = _resemblance(near, rows[1], rows[0], paths) + (f"; so do {others}" if others else "")
            place = {"path": paths[rows[1]], "count": len(rows) - 1, "other": paths[rows[0]]}
            found.append(finding("image-near-duplicate", message, **place))
    return found


def _across(images: pl.DataFrame, near: _Near, rows: list[int], held: list[str]) -> Finding:
    """The finding of a component in several splits, at the pair across two splits that is closest."""
    paths, splits = images["path"].to_list(), images["split"].to_list()
    base = held[0]
    ours = [r for r in rows if splits[r] == base]
    theirs = [r for r in rows if splits[r] not in {base, None}]
    one, other = _closest(near, ours[:_LOOKED_AT], theirs[:_LOOKED_AT])
    message = (
        f"{_resemblance(near, other, one, paths)}, which is in '{base}', while this is in '{splits[other]}'; "
        f"{len(rows)} images are near-duplicates of each other"
    )
    return finding("split-overlap-near", message, path=paths[other], count=len(theirs), other=paths[one])


def _components(near: _Near) -> list[list[int]]:
    """The rows of each component of several different files, in order."""
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(near.first_of_bytes == np.arange(len(near.labels))).tolist():
        members[int(near.labels[row])].append(row)
    return [rows for rows in members.values() if len(rows) > 1]


def _closest(near: _Near, ours: list[int], theirs: list[int]) -> tuple[int, int]:
    plain, best = near.variants[ours, 0], (65, 0, 0)
    for row in theirs:
        bits = np.bitwise_count(near.variants[row][:, None] ^ plain).min(axis=0)
        best = min(best, (int(bits.min()), ours[int(bits.argmin())], row))
    return best[1], best[2]


def _resemblance(near: _Near, row: int, other: int, paths: list[str]) -> str:
    """How the picture of a row is like another's, with the flip or turn that shows it."""
    bits = np.bitwise_count(near.variants[row] ^ near.variants[other, 0])
    symmetry = int(bits.argmin())
    turned = "" if symmetry == 0 else f" once it is {SYMMETRIES[symmetry]}"
    return f"looks like {paths[other]}{turned} ({int(bits[symmetry])} of 64 hash bits differ)"


def _same_pictures(near: _Near, details: NDArray[np.int8], unit: list[str | None]) -> list[Pair]:
    """Pairs that must have equal labels: identical files, and near-duplicates in which nothing can have moved.

    Every pair of a small component is looked at, in a large one only each row and its partner. Frames of one scene are
    left out: in them things move.
    """
    pairs = [Pair(row, first, 0) for row, first in enumerate(near.first_of_bytes.tolist()) if row != first]
    later, earlier = _pairs_within(near)
    same_unit = np.array([unit[a] is not None and unit[a] == unit[b] for a, b in zip(later, earlier, strict=True)])
    later, earlier = later[~same_unit.astype(bool)], earlier[~same_unit.astype(bool)]
    bits = np.bitwise_count(near.variants[later] ^ near.variants[earlier, :1])
    symmetries, turns = bits.argmin(axis=1), symmetry_indices()
    for place in np.flatnonzero(bits.min(axis=1, initial=65) <= _SAME_BITS).tolist():
        symmetry = int(symmetries[place])
        one = details[later[place]][turns[symmetry]].astype(np.float64)
        other = details[earlier[place]].astype(np.float64)
        if one @ other >= _SAME_COSINE * np.linalg.norm(one) * np.linalg.norm(other):
            pairs.append(Pair(int(later[place]), int(earlier[place]), symmetry))
    return pairs


def _pairs_within(near: _Near) -> tuple[Rows, Rows]:
    """The later and the earlier rows of the pairs to look at within components."""
    later, earlier = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for members in _components(near):
        rows = np.array(members)
        if len(rows) <= _SMALL:
            one, other = np.tril_indices(len(rows), -1)
            later.append(rows[one])
            earlier.append(rows[other])
        else:
            pairs = np.unique(np.sort(np.stack([rows, near.partner[rows]]), axis=0), axis=1)
            later.append(pairs[1])
            earlier.append(pairs[0])
    return np.concatenate(later), np.concatenate(earlier)
