"""What an image and its labels are on their way to the network."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORE", "OBJECT_KEYS", "Draw", "Sample", "boxes_of_masks", "join_objects", "keep_objects"]

IGNORE = 255  # mask value that never counts
Sample = dict[str, Any]
"""`image` uint8 (H, W, C), and by the data's task

semantic: `mask` uint8 (H, W) of class ids, IGNORE where pixels never count;
else: `boxes` float32 (N, 4) xyxy, `labels` int64 (N,), `objects` int64 (N,) (which object of the data set each is, in
the order of rows and object ids); where the data has them `keypoints` float32 (N, K, 3) of x, y, v and `tracks` int64
(N,); where they are asked for `masks` uint8 (N, H, W) of 0 and 1. All in network pixels.
"""
OBJECT_KEYS = ("boxes", "labels", "objects", "keypoints", "tracks", "masks", "whole")  # `whole`: area before any cut


class Draw(NamedTuple):
    """One image of a batch: which, and everything that chance decides about it."""

    row: int
    seed: int
    epoch_seed: int = 0  # what is drawn once for all images of an epoch comes from this
    size_hw: tuple[int, int] | None = None  # of the network's input, where it is not the usual one
    heavy: bool = True  # whether several images may be put together


def keep_objects(sample: Sample, kept: NDArray[Any]) -> Sample:
    """The sample with the objects that `kept` (booleans or indices) names."""
    return {key: value[kept] if key in OBJECT_KEYS else value for key, value in sample.items()}


def boxes_of_masks(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The boxes (N, 4) that masks (N, H, W) fill exactly; an empty mask gives an empty box."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[i] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return boxes


def join_objects(first: Sample, *others: Sample) -> Sample:
    """The first sample with the objects of all."""
    return {
        key: np.concatenate([value, *(o[key] for o in others)]) if key in OBJECT_KEYS else value
        for key, value in first.items()
    }
