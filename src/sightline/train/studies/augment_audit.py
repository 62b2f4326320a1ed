"""What augmentation does to the labels of a data set: objects it removes, shrinks, enlarges and adds, by operation.

Samples come through what training reads them through. Sizes are in pixels of the network: of an object the shorter side
of its box; of a class in a mask, the side of a square of as many pixels as it has in the image.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.core.frames import IGNORE_INDEX
from sightline.core.preprocess import Preprocess
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.data import BACKGROUND_NAMES
from sightline.train.augment.policy import NONE, WHOLE, Augmentation, check_policy
from sightline.train.augment.sample import Draw, Sample
from sightline.train.data.images import NetworkImages, varied_sizes
from sightline.train.data.store import Keeping, fits_in_memory

__all__ = ["AugmentAudit", "AugmentAuditOptions", "audit_augmentation"]

MOST_REMOVED = 0.10
"""Beyond this share an operation costs more labels than what annotators miss, and whole classes may go unlearnt."""
MOST_SHRUNK = 0.10
"""Beyond this share the sizes that are learnt are no longer those of the data."""
LEAST_GIVEN = 30
"""Shares of fewer objects than this say little about a class."""
_WEAKER = {
    "affine": "Lower augment.scale, augment.translate or augment.rotate",
    "crop": "Raise augment.crop_min, or lower augment.crop",
    "mosaic": "Lower augment.mosaic or augment.scale",
    "all": "Weaken the operations that remove most",
}


class AugmentAuditOptions(Config):
    """How much is measured, and what counts as small."""

    images: int = Field(default=64, ge=1, description="images, drawn at random; all where there are fewer")
    draws: int = Field(default=4, ge=1, description="how often each is augmented by each operation")
    below_px: float = Field(default=8.0, gt=0, description="objects below this many network pixels count as small")
    seed: int = Field(default=0, ge=0, description="seed of the images and of the draws")


@dataclass(frozen=True)
class AugmentAudit(Result):
    """What each operation alone (`none`: what training leaves out without any) and the whole policy do to the labels.

    `table`: operation, given (objects × draws; in masks: classes of each image × draws), kept, removed, removed_share,
    by_rule (of the removed: what `below_visible: keep` would keep), small_before (given and small), shrunk (kept, small
    only afterwards), grown (kept, small only before), added (of other images), pixels (masks: foreground pixels
    afterwards per pixel given; else null). given = kept + removed.
    `by_class` has the same counts for each class.
    """

    table: pl.DataFrame
    by_class: pl.DataFrame
    findings: tuple[Finding, ...]
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The table."""
        return self.table


@dataclass
class _Tally:
    """Of every thing given: its class, its size before and after (0: removed), and under `keep`; one part per draw."""

    labels: list[NDArray[np.int64]] = field(default_factory=list)
    before: list[NDArray[np.float64]] = field(default_factory=list)
    after: list[NDArray[np.float64]] = field(default_factory=list)
    lenient: list[NDArray[np.float64]] = field(default_factory=list)
    added: list[NDArray[np.int64]] = field(default_factory=list)
    pixels: list[tuple[float, float]] = field(default_factory=list)


def audit_augmentation(
    dataset: Dataset,
    preprocess: Preprocess,
    policy: Augmentation,
    options: AugmentAuditOptions | None = None,
    progress: Progress | None = None,
) -> AugmentAudit:
    """Measure a policy on images drawn at random; the same seed gives the same.

    Every operation gets the same images with the same seeds. ConfigError for a policy that the data cannot take.
    """
    options = options or AugmentAuditOptions()
    check_policy(policy, dataset)
    rng = np.random.default_rng(options.seed)
    rows = np.sort(rng.permutation(len(dataset))[: options.images])
    seeds = rng.integers(0, 2**31, (len(rows), options.draws))
    images = NetworkImages(dataset, preprocess, policy, Keeping(in_memory=fits_in_memory(len(dataset), preprocess)))
    parts = policy.apart()
    names = dataset.class_names
    foreground = np.array([name.lower() not in BACKGROUND_NAMES for name in names])
    tables, by_class, done = [], [], 0
    for name, part in parts.items():
        tally = _Tally()
        for _ in _measure(images, part, rows, seeds, foreground, tally):
            done += 1
            if progress is not None:
                progress(done, len(parts) * len(rows), "augmenting")
        tables.append({"operation": name, **_counts(tally, options.below_px, None), "pixels": _pixels(tally)})
        by_class += [
            {"operation": name, "class": names[i], **_counts(tally, options.below_px, i)}
            for i in range(len(names))
            if any((labels == i).any() for labels in tally.labels)
        ]
    table, classes = pl.DataFrame(tables, infer_schema_length=None), pl.DataFrame(by_class, infer_schema_length=None)
    things = "classes of each image" if dataset.task == "semantic" else "objects"
    conventions = {
        **options.model_dump(),
        "images": len(rows),
        "size_hw": list(preprocess.size_hw),
        "counted": things,
        "policy": policy.model_dump(mode="json"),
    }
    return AugmentAudit(table, classes, tuple(_judge(table, classes, options.below_px, things)), conventions)


def _by(images: NetworkImages, policy: Augmentation) -> NetworkImages:
    """The same images, read once, by a part of their policy."""
    other = copy.copy(images)
    other.augmenter = copy.copy(images.augmenter)
    if other.augmenter is not None:
        other.augmenter.policy = policy
    return other


def _measure(
    images: NetworkImages,
    policy: Augmentation,
    rows: NDArray[np.int64],
    seeds: NDArray[np.int64],
    foreground: NDArray[np.bool_],
    tally: _Tally,
) -> Iterator[int]:
    """Fill the tally, image by image."""
    keeps = _by(images, policy.model_copy(update={"below_visible": "keep"}))
    changed, sizes = _by(images, policy), varied_sizes(images.store.preprocess.size_hw, policy.multi_scale)
    for row, of_row in zip(rows.tolist(), seeds.tolist(), strict=True):
        ids, labels, before, pixels = _things(images.store.load(row), foreground)
        for seed in of_row:
            draw = Draw(row, seed, size_hw=sizes[seed % len(sizes)] if sizes else None)
            new_ids, new_labels, new_sizes, new_pixels = _things(changed[draw], foreground)
            after, strangers = _survivors(ids, new_ids, new_sizes)
            spared = after
            if (after == 0).any() and policy.below_visible == "drop":
                spare_ids, _, spare_sizes, _ = _things(keeps[draw], foreground)
                spared, _ = _survivors(ids, spare_ids, spare_sizes)
            tally.labels.append(labels)
            tally.before.append(before)
            tally.after.append(after)
            tally.lenient.append(spared)
            tally.added.append(new_labels[strangers])
            tally.pixels.append((pixels, new_pixels))
        yield row


_Things = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], float]


def _things(sample: Sample, foreground: NDArray[np.bool_]) -> _Things:
    """Id, class and size (px) of a sample's objects, or of its mask's foreground classes, and the pixels of those."""
    if "mask" not in sample:
        boxes = sample["boxes"].astype(np.float64)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        return sample["objects"], sample["labels"], sides, 0.0
    counts = np.bincount(sample["mask"].ravel(), minlength=IGNORE_INDEX + 1)[: len(foreground)] * foreground
    present = np.flatnonzero(counts)
    return present, present, np.sqrt(counts[present]), float(counts.sum())


def _survivors(
    given: NDArray[np.int64], ids: NDArray[np.int64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Size of each given thing (ids rising) among those of a sample, 0 where it is gone, and which are no given ones.

    A thing that is there twice, as mosaic may lay an image beside itself, has the size of its larger copy.
    """
    after = np.zeros(len(given))
    own = np.isin(ids, given)
    np.maximum.at(after, np.searchsorted(given, ids[own]), sizes[own])
    return after, ~own


def _counts(tally: _Tally, below_px: float, class_id: int | None) -> dict[str, Any]:
    labels = np.concatenate(tally.labels)
    wanted = np.ones(len(labels), np.bool_) if class_id is None else labels == class_id
    before, after, lenient = (np.concatenate(p)[wanted] for p in (tally.before, tally.after, tally.lenient))
    added = np.concatenate(tally.added)
    gone, small, small_after = after == 0, before < below_px, after < below_px
    given, removed = len(before), int(gone.sum())
    return {
        "given": given,
        "kept": given - removed,
        "removed": removed,
        "removed_share": removed / given if given else 0.0,
        "by_rule": int((gone & (lenient > 0)).sum()),
        "small_before": int(small.sum()),
        "shrunk": int((~gone & ~small & small_after).sum()),
        "grown": int((~gone & small & ~small_after).sum()),
        "added": len(added) if class_id is None else int((added == class_id).sum()),
    }


def _pixels(tally: _Tally) -> float | None:
    before, after = np.array(tally.pixels).reshape(-1, 2).sum(axis=0).tolist()
    return after / before if before else None


def _judge(table: pl.DataFrame, classes: pl.DataFrame, below_px: float, things: str) -> Iterator[Finding]:
    """Findings about operations, beyond what is left out without any, and about classes under the whole policy."""
    none, said = table.row(0, named=True), set[str]()
    for row in table.rows(named=True)[1:]:
        name, given = row["operation"], row["given"]
        lost, shrunk = _lost(row) - _lost(none), row["shrunk"] - none["shrunk"]
        if given and lost / given > MOST_REMOVED and not (name == WHOLE and "augment-removes" in said):
            said.add("augment-removes")
            message = f"'{name}' takes away {lost / given:.1%} of {things} ({row['removed']} of {given})"
            message += f" and adds {row['added']}" if row["added"] else ""
            yield Finding("augment-removes", "warning", message, count=lost, do=_weaker(name))
        if given and shrunk / given > MOST_SHRUNK and not (name == WHOLE and "augment-shrinks" in said):
            said.add("augment-shrinks")
            message = f"'{name}' makes {shrunk / given:.1%} of {things} smaller than {below_px:g} network pixels"
            message += f", and {row['grown'] / given:.1%} no longer so" if row["grown"] else ""
            yield Finding("augment-shrinks", "warning", message, count=shrunk, do=_weaker(name))
    small = none["small_before"] / none["given"] if none["given"] else 0.0
    if small > MOST_SHRUNK:
        message = f"{small:.1%} of {things} are below {below_px:g} network pixels before any augmentation"
        yield Finding(
            "augment-small", "info", message, count=none["small_before"], do="Raise imgsz, or tile the images"
        )
    whole = table["operation"][-1]
    if classes.is_empty() or whole == NONE:
        return
    before = {row["class"]: row for row in classes.filter(pl.col("operation") == NONE).rows(named=True)}
    for row in classes.filter(pl.col("operation") == whole).rows(named=True):
        lost, given = _lost(row) - _lost(before[row["class"]]), row["given"]
        if given >= LEAST_GIVEN and lost / given > MOST_REMOVED:
            message = f"the whole policy takes away {lost / given:.1%} of class '{row['class']}' ({lost} of {given})"
            yield Finding("augment-class", "warning", message, count=lost, do="See above which operation does it")


def _lost(row: Mapping[str, Any]) -> int:
    """What is removed and not made up for: operations that put images together exchange objects."""
    return max(0, int(row["removed"]) - int(row["added"]))


def _weaker(operation: str) -> str:
    return _WEAKER.get(operation, f"Lower augment.{operation}")
