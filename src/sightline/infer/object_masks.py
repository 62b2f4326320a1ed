"""Masks of detections between our run lengths and supervision's: of each object only the part in its box is held."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import supervision as sv

from sightline.ops import rle
from sightline.ops.instance_masks import MaskCrop, crop_counts, crop_runs

__all__ = ["as_detection_masks", "mask_codes"]


def as_detection_masks(crops: Iterable[MaskCrop], size_hw: tuple[int, int]) -> sv.CompactMask:
    """What `sv.Detections.mask` takes: `mask[i]` is dense (H, W), `np.asarray(mask)` (N, H, W)."""
    runs, shapes, corners = [], [], []
    for crop in crops:
        height, width = crop.pixels.shape
        runs.append(crop_runs(MaskCrop(0, 0, crop.pixels), (height, width)).astype(np.int32))
        shapes.append((height, width))
        corners.append((crop.left, crop.top))
    sides, offsets = (np.array(pairs, np.int32).reshape(-1, 2) for pairs in (shapes, corners))
    return sv.CompactMask(runs, sides, offsets, size_hw)


def mask_codes(detections: sv.Detections) -> list[bytes | None]:
    """The run-length code of each detection's mask in the whole image, None where there are no masks."""
    masks: Any = detections.mask
    if masks is None:
        return [None] * len(detections)
    if not isinstance(masks, sv.CompactMask):
        return [rle.encode(mask) for mask in masks]
    height, width = masks.image_shape
    return [
        crop_counts(MaskCrop(int(left), int(top), masks.crop(i)), (int(height), int(width)))
        for i, (left, top) in enumerate(masks.offsets)
    ]
