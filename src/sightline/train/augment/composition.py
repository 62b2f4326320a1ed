"""Several images in one, and what is left of the objects: cutting at the canvas, tiles, blending, pasting."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.core.frames import IGNORE_INDEX
from sightline.ops.oriented import clip_corners
from sightline.train.augment.geometry import move_objects, translate
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Sample, join_objects, keep_objects

__all__ = [
    "Rectangle",
    "blend",
    "box_areas",
    "crop_sample",
    "cut_sample",
    "join_tiles",
    "meeting_point",
    "paste_objects",
]

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels."""
_PASTED_SHARE = 0.5  # of the other image's objects


def box_areas(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4); 0 for one that is turned inside out."""
    sides = (boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]).clip(0)
    areas: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return areas


def cut_sample(sample: Sample, policy: Augmentation) -> Sample:
    """Boxes and keypoints cut at the image's edges, and objects below the policy's visibility left out.

    Needs `whole`, the area of each object before any cut, and with masks `left`, what is left of it.
    """
    if "boxes" not in sample:
        return sample
    cut = _cut_at_edges(sample)
    if "masks" not in cut:
        cut["left"] = box_areas(cut["boxes"])
    return _drop_invisible(cut, policy)


def _cut_at_edges(sample: Sample) -> Sample:
    height, width = sample["image"].shape[:2]
    cut = {**sample, "boxes": sample["boxes"].clip(0, np.array([width, height, width, height], np.float32))}
    if "corners" in sample:
        cut["corners"] = clip_corners(sample["corners"], (height, width)).astype(np.float32)
    if "keypoints" in sample:
        x, y, _ = np.moveaxis(sample["keypoints"], -1, 0)
        outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        cut["keypoints"] = np.where(outside[..., None], 0.0, sample["keypoints"]).astype(np.float32)
    return cut


def _drop_invisible(sample: Sample, policy: Augmentation) -> Sample:
    boxes = sample["boxes"]
    kept = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= policy.min_side_px
    if policy.below_visible == "drop":
        # A hair's breadth of tolerance: areas of boxes that were not cut at all are equal up to rounding.
        kept &= sample["left"] >= policy.min_visible * sample["whole"] * (1 - 1e-6)
    return sample if kept.all() else keep_objects(sample, kept)


def crop_sample(sample: Sample, rectangle: Rectangle) -> Sample:
    """The part of a sample in a rectangle, its objects cut at the edges."""
    x1, y1, x2, y2 = rectangle
    part = move_objects(sample, translate(-x1, -y1), None)
    for key in ("image", "mask", "content"):
        if key in part:
            part[key] = part[key][y1:y2, x1:x2]
    if "masks" in part:
        part["masks"] = part["masks"].changed(lambda labels: labels[y1:y2, x1:x2])
    return _cut_at_edges(part) if "boxes" in part else part


def join_tiles(tiles: list[Sample], pad_value: int) -> tuple[Sample, tuple[int, int]]:
    """Four samples around a point (x, y), which each touches with a corner; what none covers is padding."""
    heights, widths = np.array([tile["image"].shape[:2] for tile in tiles]).T.tolist()
    x, y = max(widths[0], widths[2]), max(heights[0], heights[1])
    size_hw = (y + max(heights[2:]), x + max(widths[1], widths[3]))
    corners = ((x - widths[0], y - heights[0]), (x, y - heights[1]), (x - widths[2], y), (x, y))
    placed = [_on_canvas(tile, size_hw, corner) for tile, corner in zip(tiles, corners, strict=True)]
    joined = join_objects(placed[0], *placed[1:])
    for key, fill in (("image", pad_value), ("mask", IGNORE_INDEX), ("content", 0)):
        if key in joined:
            joined[key] = np.full((*size_hw, *joined[key].shape[2:]), fill, np.uint8)
            for tile, (left, top) in zip(tiles, corners, strict=True):
                height, width = tile[key].shape[:2]
                joined[key][top : top + height, left : left + width] = tile[key]
    return joined, (x, y)


def _on_canvas(tile: Sample, size_hw: tuple[int, int], corner_xy: tuple[int, int]) -> Sample:
    """The objects of a tile where it lies on a canvas; its pixels stay as they are."""
    left, top = corner_xy
    placed = move_objects(tile, translate(left, top), None)
    if "masks" in tile:
        height, width = tile["image"].shape[:2]
        around = ((top, size_hw[0] - top - height), (left, size_hw[1] - left - width))
        placed["masks"] = tile["masks"].changed(lambda labels: np.pad(labels, around))
    return placed


def meeting_point(tiles: list[Sample], view_xyxy: NDArray[Any], place: NDArray[Any]) -> NDArray[np.float64]:
    """Where in a view four tiles meet so that they cover most of it: (x, y), anywhere in that range by `place`, 0..1.

    Tiles too small to cover it lie wholly in it.
    """
    heights, widths = np.array([tile["image"].shape[:2] for tile in tiles]).T
    before = np.array([min(widths[0], widths[2]), min(heights[0], heights[1])])
    after = np.array([min(widths[1], widths[3]), min(heights[2], heights[3])])
    low, high = view_xyxy[:2], view_xyxy[2:]
    ends = np.sort([np.minimum(low + before, high), np.maximum(high - after, low)], axis=0)
    point: NDArray[np.float64] = ends[0] + place * (ends[1] - ends[0])
    return point


def blend(first: Sample, second: Sample, share: float) -> Sample:
    """Mixup (Zhang et al., 2018) for boxes: `share` of the first image over the second, with the objects of both."""
    joined = join_objects(first, second)
    joined["image"] = cv2.addWeighted(first["image"], share, second["image"], 1 - share, 0).reshape(
        first["image"].shape
    )
    return joined


def paste_objects(target: Sample, source: Sample, policy: Augmentation, rng: np.random.Generator) -> Sample:
    """Copy-paste (Ghiasi et al., 2021): half of the source's objects, at random, over the target; both have `masks`.

    Only objects with an outline that the source's padding does not cut, and only on the target's content. What they
    cover is taken from the target's masks, whose boxes shrink to what is left.
    """
    masks = source["masks"]
    chosen = (rng.random(len(masks)) < _PASTED_SHARE) & masks.outlined & (masks.sizes() > 0) & ~_touch_padding(source)
    pasted = _covered_by(keep_objects(source, chosen), target["content"] == 0)
    pasted = _drop_invisible(pasted, policy)
    covered = pasted["masks"].covered()
    if not covered.any():
        return target
    under = _covered_by(target, covered)
    under["image"] = np.where(covered[..., None], source["image"], target["image"])
    if "keypoints" in target:
        under["keypoints"] = _hide(target["keypoints"], covered)
    if "keypoints" in pasted:
        pasted["keypoints"] = _take_away(pasted["keypoints"], target["content"] == 0)
    return join_objects(_drop_invisible(under, policy), pasted)


def _touch_padding(sample: Sample) -> NDArray[np.bool_]:
    """Whether each object reaches the edge (N,) between content and padding, where its image cuts it."""
    content = sample["content"]
    edge = (content > 0) & (cv2.erode(content, np.ones((3, 3), np.uint8)) == 0)
    touched: NDArray[np.bool_] = sample["masks"].sizes(edge) > 0
    return touched


def _covered_by(sample: Sample, cover: NDArray[np.bool_]) -> Sample:
    """The objects without what lies under a cover (H, W); the boxes of those that lose something shrink to the rest."""
    masks = sample["masks"].changed(lambda labels: labels * ~cover)
    before, after = sample["masks"].sizes(), masks.sizes()
    boxes = np.where((after < before)[:, None], masks.boxes(), sample["boxes"])
    shares = np.divide(after, before, out=np.ones_like(before), where=before > 0)
    return {**sample, "masks": masks, "boxes": boxes, "left": sample["left"] * shares}


def _under(keypoints: NDArray[np.float32], cover: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each point (N, K) lies under a cover (H, W)."""
    height, width = cover.shape
    columns = keypoints[..., 0].astype(np.int64).clip(0, width - 1)
    rows = keypoints[..., 1].astype(np.int64).clip(0, height - 1)
    under: NDArray[np.bool_] = cover[rows, columns]
    return under


def _hide(keypoints: NDArray[np.float32], cover: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Seen points (2) that something now lies on become hidden ones (1)."""
    changed = keypoints.copy()
    changed[..., 2] = np.where(_under(keypoints, cover) & (keypoints[..., 2] == 2), 1, keypoints[..., 2])
    return changed


def _take_away(keypoints: NDArray[np.float32], cover: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Points that are no longer in the picture become unlabelled."""
    return np.where(_under(keypoints, cover)[..., None], np.float32(0), keypoints)
