"""What an image and its labels are on their way to the network."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.core.frames import IGNORE_INDEX
from sightline.train.augment.layers import Layers

__all__ = ["IGNORE", "OBJECT_KEYS", "Draw", "Sample", "join_objects", "keep_objects"]

IGNORE = IGNORE_INDEX  # mask value that never counts
Sample = dict[str, Any]
"""`image` uint8 (H, W, C), and by the data's task

semantic: `mask` uint8 (H, W) of class ids, IGNORE where pixels never count;
else: `boxes` float32 (N, 4) xyxy, `labels` int64 (N,), `objects` int64 (N,) (which object of the data set each is, in
the order of rows and object ids); where the data has them `keypoints` float32 (N, K, 3) of x, y, v and `tracks` int64
(N,); where they are asked for `masks`, the `Layers` of all objects. All in network pixels.

While a sample is made it also holds `whole` and `left` float64 (N,), the area of each object before any cut and what is
left of it, and for copy_paste `content` uint8 (H, W), 1 where pixels come from an image, 0 where they are padding.
"""
OBJECT_KEYS = ("boxes", "labels", "objects", "keypoints", "tracks", "masks", "whole", "left")


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


def join_objects(first: Sample, *others: Sample) -> Sample:
    """The first sample with the objects of all."""
    joined = dict(first)
    for key in OBJECT_KEYS:
        if key in first:
            parts = [first[key], *(o[key] for o in others)]
            joined[key] = Layers.join(parts) if key == "masks" else np.concatenate(parts)
    return joined
