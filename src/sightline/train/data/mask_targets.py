"""Masks of objects as networks of prototypes learn them: the share of each cell that an object covers, in its box."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.models import MASK_STRIDE
from sightline.train.augment.sample import Layers, Sample

__all__ = ["mask_targets", "touched_cells"]


def mask_targets(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The targets `cells` and `masks` (see `sightline.models.Targets`) of samples with `boxes` and `masks`, in order.

    An object of which no pixel is left at network size, so thin is it, has no cells: nothing says what its mask is.
    """
    cells, masks = [np.zeros((0, 4), np.int64)], [np.zeros(0, np.uint8)]
    for sample in samples:
        touched = touched_cells(sample["boxes"], sample["image"].shape[:2])
        for number, cell in enumerate(touched):
            covered = _covered_shares(sample["masks"], number, cell)
            if covered.any():
                masks.append(covered)
            else:
                cell[:] = 0
        cells.append(touched)
    return {"cells": torch.from_numpy(np.concatenate(cells)), "masks": torch.from_numpy(np.concatenate(masks))}


def touched_cells(boxes_xyxy: NDArray[np.floating], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """The cells (N, 4) xyxy that boxes (N, 4) in network pixels touch, of an image of that size."""
    last = np.tile([size_hw[1] // MASK_STRIDE, size_hw[0] // MASK_STRIDE], 2)
    corners = boxes_xyxy / MASK_STRIDE
    touched = np.concatenate([np.floor(corners[:, :2]), np.ceil(corners[:, 2:])], 1)
    return touched.clip(0, last).astype(np.int64)


def _covered_shares(layers: Layers, number: int, cell_xyxy: NDArray[np.int64]) -> NDArray[np.uint8]:
    """How much of each cell an object covers, row by row: 255 for all of it."""
    x1, y1, x2, y2 = (cell_xyxy * MASK_STRIDE).tolist()
    inside = (layers.maps[:, y1:y2, x1:x2] == layers.values[number]).any(0)
    rows, columns = (y2 - y1) // MASK_STRIDE, (x2 - x1) // MASK_STRIDE
    counts = inside.reshape(rows, MASK_STRIDE, columns, MASK_STRIDE).sum((1, 3))
    shares: NDArray[np.uint8] = np.round(counts * (255 / MASK_STRIDE**2)).astype(np.uint8).ravel()
    return shares
