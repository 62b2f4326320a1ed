"""Training-time augmentation with torchvision's v2 transforms: image, boxes and mask move together, by one seed."""

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from sightline.train.config import Augmentation

__all__ = ["IGNORE", "Sample", "augment_sample", "build_transforms"]

IGNORE = 255  # mask value that never counts
Sample = dict[str, Any]
"""`image` uint8 (3, H, W); for detection `boxes` (N, 4) xyxy and `labels` (N,); for segmentation `mask` (H, W)."""


def build_transforms(config: Augmentation, pad_value: int) -> v2.Compose:
    """The chain for `config`; what it cannot see any more (outside, or thinner than `min_side_px`) it leaves out."""
    fill: dict[Any, Any] = {tv_tensors.Image: pad_value, tv_tensors.Mask: IGNORE}
    steps: list[v2.Transform] = []
    if config.scale or config.translate or config.rotate:
        steps.append(
            v2.RandomAffine(
                degrees=config.rotate,
                translate=(config.translate, config.translate),
                scale=(1.0 - config.scale, 1.0 + config.scale),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=fill,
            )
        )
    if config.flip_lr:
        steps.append(v2.RandomHorizontalFlip(config.flip_lr))
    if config.flip_ud:
        steps.append(v2.RandomVerticalFlip(config.flip_ud))
    if config.brightness or config.contrast or config.saturation:
        steps.append(v2.ColorJitter(config.brightness, config.contrast, config.saturation))
    steps += [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=config.min_side_px, labels_getter=_labels)]
    return v2.Compose(steps)


def augment_sample(sample: Sample, transforms: v2.Compose, seed: int) -> Sample:
    """The sample after `transforms`, drawn from `seed` alone; the caller's random state is left as it was."""
    wrapped: Sample = {"image": tv_tensors.Image(sample["image"])}
    size_hw = tuple(sample["image"].shape[-2:])
    if "mask" in sample:
        wrapped["mask"] = tv_tensors.Mask(sample["mask"])
    boxes = sample.get("boxes", torch.zeros(0, 4))
    # v2 reads the formats from these classes; a sample without boxes carries an empty list of them.
    wrapped["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size_hw)
    wrapped["labels"] = sample.get("labels", torch.zeros(0, dtype=torch.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        done = transforms(wrapped)
    return {key: done[key].as_subclass(Tensor) for key in sample}


def _labels(sample: Sample) -> Tensor:
    labels: Tensor = sample["labels"]
    return labels
