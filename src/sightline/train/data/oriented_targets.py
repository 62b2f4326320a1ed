"""Oriented boxes as networks learn them: the smallest around what augmentation has made of their corners."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sightline.ops.oriented import box_corners, fit_boxes, upright
from sightline.train.augment.sample import Sample

__all__ = ["oriented_targets"]


def oriented_targets(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The targets `oriented` and `boxes` (around them, see `sightline.models.Targets`) of samples with `corners`."""
    boxes = fit_boxes(np.concatenate([np.zeros((0, 4, 2)), *(sample["corners"] for sample in samples)]))
    around = upright(box_corners(boxes))
    return {
        "oriented": torch.from_numpy(boxes.astype(np.float32)),
        "boxes": torch.from_numpy(around.astype(np.float32)),
    }
