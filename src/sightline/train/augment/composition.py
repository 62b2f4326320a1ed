"""Several images in one, and what is left of the objects: cutting at the canvas, tiles, blending, pasting."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import IGNORE, Sample, boxes_of_masks, join_objects, keep_objects

__all__ = ["blend", "box_areas", "cut_sample", "join_tiles", "paste_objects"]

_PASTED_SHARE = 0.5  # of the other image's objects


def box_areas(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4); 0 for one that is turned inside out."""
    sides = (boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]).clip(0)
    areas: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return areas


def cut_sample(sample: Sample, policy: Augmentation) -> Sample:
    """Boxes and keypoints cut at the image's edges, and objects below the policy's visibility left out.

    Needs `whole`, the area of each object before any cut.
    """
    if "boxes" not in sample:
        return sample
    height, width = sample["image"].shape[:2]
    boxes = sample["boxes"].clip(0, np.array([width, height, width, height], np.float32))
    cut = {**sample, "boxes": boxes}
    if "keypoints" in sample:
        x, y, _ = np.moveaxis(sample["keypoints"], -1, 0)
        outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        cut["keypoints"] = np.where(outside[..., None], 0.0, sample["keypoints"]).astype(np.float32)
    return _drop_invisible(cut, policy)


def _drop_invisible(sample: Sample, policy: Augmentation) -> Sample:
    boxes = sample["boxes"]
    left = sample["masks"].sum((1, 2), dtype=np.float64) if "masks" in sample else box_areas(boxes)
    kept = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= policy.min_side_px
    if policy.below_visible == "drop":
        # A hair's breadth of tolerance: areas of boxes that were not cut at all are equal up to rounding.
        kept &= left >= policy.min_visible * sample["whole"] * (1 - 1e-6)
    return sample if kept.all() else keep_objects(sample, kept)


def join_tiles(tiles: list[Sample], covers: list[NDArray[np.uint8]], pad_value: int) -> Sample:
    """Tiles of one size, each shown where its cover is not 0, with the objects of all."""
    joined = join_objects(tiles[0], *tiles[1:]) if "boxes" in tiles[0] else dict(tiles[0])
    for key, fill in (("image", pad_value), ("mask", IGNORE)):
        if key in joined:
            canvas = np.full_like(joined[key], fill)
            for tile, cover in zip(tiles, covers, strict=True):
                cv2.copyTo(tile[key], cover, canvas)
            joined[key] = canvas
    return joined


def blend(first: Sample, second: Sample, share: float) -> Sample:
    """Mixup (Zhang et al., 2018) for boxes: `share` of the first image over the second, with the objects of both."""
    joined = join_objects(first, second)
    joined["image"] = cv2.addWeighted(first["image"], share, second["image"], 1 - share, 0).reshape(
        first["image"].shape
    )
    return joined


def paste_objects(target: Sample, source: Sample, policy: Augmentation, rng: np.random.Generator) -> Sample:
    """Copy-paste (Ghiasi et al., 2021): half of the source's objects, at random, over the target; both have `masks`.

    What they cover is taken from the target's masks, whose boxes shrink to what is left.
    """
    chosen = np.flatnonzero(rng.random(len(source["masks"])) < _PASTED_SHARE)
    if not len(chosen):
        return target
    pasted = keep_objects(source, chosen)
    covered = pasted["masks"].any(0)
    under = dict(target)
    under["image"] = np.where(covered[..., None], source["image"], target["image"])
    touched = (target["masks"] & covered).any((1, 2))
    under["masks"] = target["masks"] * ~covered
    under["boxes"] = np.where(touched[:, None], boxes_of_masks(under["masks"]), target["boxes"])
    if "keypoints" in target:
        under["keypoints"] = _hide_covered(target["keypoints"], covered)
    return join_objects(_drop_invisible(under, policy), pasted)


def _hide_covered(keypoints: NDArray[np.float32], covered: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Seen points (2) that something now lies on become hidden ones (1)."""
    height, width = covered.shape
    columns = keypoints[..., 0].astype(np.int64).clip(0, width - 1)
    rows = keypoints[..., 1].astype(np.int64).clip(0, height - 1)
    changed = keypoints.copy()
    changed[..., 2] = np.where(covered[rows, columns] & (keypoints[..., 2] == 2), 1, keypoints[..., 2])
    return changed
