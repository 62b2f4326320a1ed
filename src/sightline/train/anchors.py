"""Anchor boxes for the objects of a data set: k-means by shape, then a short evolution.

Source: Redmon and Farhadi, YOLO9000 (2017), clusters by 1 - IoU.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.preprocess import Preprocess
from sightline.core.results import Result
from sightline.models import build_shapes

__all__ = ["LEVELS", "AnchorFit", "AnchorProposal", "propose_anchors"]

FloatArray = npt.NDArray[np.float64]
LEVELS = 3
MOST_OBJECTS = 20_000  # more change no cluster
STARTS, ROUNDS = 8, 300  # of k-means: from so many places, each until nothing moves or for so many rounds
GENERATIONS, MUTATED, SPREAD = 1000, 0.3, 0.1
"""Of the evolution: attempts, the share of sides that each changes, and by how much (standard deviation, factor)."""
LEAST_SIDE = 1.0  # pixels


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors fit objects."""

    recall: float  # share of objects at most `ratio` times as wide, narrow, high and low as an anchor; best 1
    mean_iou: float  # mean over the objects of the best IoU by shape, 0..1, best 1


@dataclass(frozen=True)
class AnchorProposal(Result):
    """Anchors for a model on a data set, and how they fit beside the model's own."""

    model: str
    height: int
    width: int
    objects: int
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    """(width, height) in network pixels of each level, the finest first: the model's argument `anchors`."""
    before: AnchorFit
    after: AnchorFit
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """`anchors`, best possible recall and mean IoU: the model's own, and those that are proposed."""
        rows = [("the model's own", self.before.recall, self.before.mean_iou)]
        rows.append(("proposed", self.after.recall, self.after.mean_iou))
        return pl.DataFrame(rows, schema=["anchors", "best possible recall", "mean IoU"], orient="row")

    def settings(self) -> dict[str, Any]:
        """What a run that uses them is given, as YAML for `sightline train --config`."""
        return {
            "model": {"name": self.model, "imgsz": [self.height, self.width]},
            "arguments": {"anchors": [[list(size) for size in level] for level in self.anchors]},
        }


def propose_anchors(
    dataset: Dataset, model: str, imgsz: int | tuple[int, int] | None = None, *, per_level: int = 3, seed: int = 0
) -> AnchorProposal:
    """Anchors for the objects of `dataset` as `model` sees them at `imgsz` (its own size without it).

    ConfigError for a model without anchors, DataError where there are fewer different objects than anchors.
    """
    size = {} if imgsz is None else {"imgsz": imgsz}
    made = build_shapes(model, dataset.class_names, size)
    if "anchors" not in made.arguments:
        raise ConfigError(f"the model must have anchors, got '{model}', which has none", do="use yolo5n or yolo3")
    sizes = object_sizes(dataset, made.preprocess)
    count = LEVELS * per_level
    if len(np.unique(sizes, axis=0)) < count:
        raise DataError(
            f"{count} anchors need as many objects of different sizes, got {len(np.unique(sizes, axis=0))}",
            where=str(dataset.root),
            do="use --per-level 1, or the model's own anchors",
        )
    rng = np.random.default_rng(seed)
    sample = sizes if len(sizes) <= MOST_OBJECTS else rng.choice(sizes, MOST_OBJECTS, replace=False)
    found = _evolved(_clustered(sample, count, rng), sample, rng)
    found = found[np.argsort(found.prod(1), kind="stable")].round(1)
    levels = found.reshape(LEVELS, per_level, 2)
    ratio = float(made.arguments.get("anchor_ratio", 4.0))
    own = np.array(made.arguments["anchors"], np.float64).reshape(-1, 2)
    return AnchorProposal(
        model=model,
        height=made.preprocess.size_hw[0],
        width=made.preprocess.size_hw[1],
        objects=len(sizes),
        anchors=tuple(tuple((float(w), float(h)) for w, h in level) for level in levels),
        before=_fit(own, sizes, ratio),
        after=_fit(found, sizes, ratio),
        conventions={"ratio": ratio, "seed": seed, "sampled": len(sample), "digest": dataset.label_digest()},
    )


def object_sizes(dataset: Dataset, preprocess: Preprocess) -> FloatArray:
    """(N, 2) width and height in network pixels of the usable objects that have both."""
    sources = dataset.images.select("width", "height").unique().rows()
    scales = [(w, h, *preprocess.geometry((h, w)).scale_xy) for w, h in sources]
    table = pl.DataFrame(scales, schema=["width", "height", "sx", "sy"], orient="row").with_columns(
        pl.col("width", "height").cast(pl.Int32)
    )
    images = dataset.images.select("image_id", "width", "height").join(table, on=["width", "height"])
    rows = dataset.usable_objects.join(images, on="image_id").select(
        w=(pl.col("x2") - pl.col("x1")) * pl.col("sx"), h=(pl.col("y2") - pl.col("y1")) * pl.col("sy")
    )
    return rows.filter((pl.col("w") > 0) & (pl.col("h") > 0)).to_numpy().astype(np.float64)


def _iou(sizes: FloatArray, anchors: FloatArray) -> FloatArray:
    """(N, K) IoU of boxes on one centre."""
    both = np.minimum(sizes[:, None], anchors).prod(-1)
    joined: FloatArray = both / (sizes.prod(-1)[:, None] + anchors.prod(-1) - both)
    return joined


def _fit(anchors: FloatArray, sizes: FloatArray, ratio: float) -> AnchorFit:
    relative = sizes[:, None] / anchors
    farthest = np.maximum(relative, 1 / relative).max(-1).min(1)
    return AnchorFit(float((farthest < ratio).mean()), float(_iou(sizes, anchors).max(1).mean()))


def _clustered(sizes: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """The best of several runs of k-means whose distance is 1 - IoU."""
    best, best_iou = sizes[:count], -1.0
    for _ in range(STARTS):
        anchors = _spread(sizes, count, rng)
        nearest = np.full(len(sizes), -1)
        for _ in range(ROUNDS):
            now = _iou(sizes, anchors).argmax(1)
            if (now == nearest).all():
                break
            nearest = now
            for k in np.unique(nearest):
                anchors[k] = sizes[nearest == k].mean(0)
        reached = float(_iou(sizes, anchors).max(1).mean())
        if reached > best_iou:
            best, best_iou = anchors, reached
    return best


def _spread(sizes: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Objects far from each other, to begin with: each by chance, the likelier the less it is like those before it.

    Arthur and Vassilvitskii, k-means++ (2007).
    """
    chosen = [sizes[rng.integers(len(sizes))]]
    for _ in range(count - 1):
        apart = (1 - _iou(sizes, np.array(chosen)).max(1)) ** 2
        chosen.append(sizes[rng.choice(len(sizes), p=apart / apart.sum())])
    return np.array(chosen)


def _evolved(anchors: FloatArray, sizes: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The anchors after small changes of chance, each kept where the mean IoU grows."""
    best_iou = float(_iou(sizes, anchors).max(1).mean())
    for _ in range(GENERATIONS):
        factors = np.where(rng.random(anchors.shape) < MUTATED, 1 + SPREAD * rng.standard_normal(anchors.shape), 1.0)
        changed = (anchors * factors.clip(0.5, 2)).clip(LEAST_SIDE)
        reached = float(_iou(sizes, changed).max(1).mean())
        if reached > best_iou:
            anchors, best_iou = changed, reached
    return anchors
