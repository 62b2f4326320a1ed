"""Keypoints of objects as networks learn them: so many of each object, whatever its labels have."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sightline.train.augment.sample import Sample

__all__ = ["keypoint_targets"]


def keypoint_targets(samples: Sequence[Sample], count: int) -> Tensor:
    """The target `keypoints` (N, `count`, 3), see `sightline.models.Targets`; zeros where an object has none."""
    parts = [np.zeros((0, count, 3), np.float32)]
    for sample in samples:
        points = np.zeros((len(sample["labels"]), count, 3), np.float32)
        given = sample.get("keypoints", points)
        points[:, : given.shape[1]] = given
        parts.append(points)
    return torch.from_numpy(np.concatenate(parts))
