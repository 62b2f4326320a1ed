"""The head that gives masks beside boxes: prototypes of the whole image, and for each cell how much of each it takes.

Source: Bolya et al., YOLACT (2019); widths of the branches: Ultralytics YOLOv8 and YOLO11 (2023, 2024), as facts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.models.assignment import TASK_ALIGNED, AssignmentRule
from sightline.models.blocks import ConvBnAct
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import USUAL_TERMS, DetectionRaw, DetectionTerms
from sightline.models.mask_loss import mask_loss
from sightline.models.yolo.head import DetectHead, flatten_levels

__all__ = ["MASK_GAIN", "InstanceRaw", "MaskHead", "Prototypes"]

PROTOTYPES = 32
MASK_GAIN = 7.5
"""Weight of the masks' term, that of the boxes': both say where an object lies."""


class InstanceRaw(NamedTuple):
    """Raw output over A = all cells of all levels."""

    boxes: DetectionRaw
    coefficients: Tensor  # (B, A, M)
    prototypes: Tensor  # (B, M, H / 4, W / 4)


class Prototypes(nn.Module):
    """The finest level (B, C, H / 8, W / 8) -> M maps (B, M, H / 4, W / 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = ConvBnAct(channels, channels, 3)
        self.enlarge = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.behind = ConvBnAct(channels, channels, 3)
        self.maps = ConvBnAct(channels, PROTOTYPES)

    def forward(self, x: Tensor) -> Tensor:
        """M maps at twice the resolution of `x`."""
        maps: Tensor = self.maps(self.behind(self.enlarge(self.before(x))))
        return maps


class MaskHead(nn.Module):
    """A `DetectHead` with M mask coefficients per cell, and M prototypes."""

    task: Task = "instance"
    class_tensors = tuple(f"boxes.{name}" for name in DetectHead.class_tensors)

    def __init__(
        self,
        in_channels: Sequence[int],
        class_count: int,
        *,
        light: bool = True,
        rule: AssignmentRule = TASK_ALIGNED,
        kinds: DetectionTerms = USUAL_TERMS,
    ) -> None:
        super().__init__()
        self.boxes = DetectHead(in_channels, class_count, light=light, rule=rule, kinds=kinds)
        self.assigned = self.boxes.assigned
        self.prototypes = Prototypes(in_channels[0])
        width = max(in_channels[0] // 4, PROTOTYPES)
        self.coefficients = nn.ModuleList(
            nn.Sequential(ConvBnAct(channels, width, 3), ConvBnAct(width, width, 3), nn.Conv2d(width, PROTOTYPES, 1))
            for channels in in_channels
        )

    def forward(self, features: list[Tensor]) -> InstanceRaw:
        """Flatten the levels, finest first."""
        coefficients = [branch(x) for branch, x in zip(self.coefficients, features, strict=True)]
        return InstanceRaw(self.boxes(features), flatten_levels(coefficients), self.prototypes(features[0]))

    def loss(self, raw: InstanceRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls` and `dfl` as `DetectHead.loss`, and `mask`, see `mask_loss`, times `MASK_GAIN`."""
        device = raw.coefficients.device
        targets = {key: value.to(device) for key, value in targets.items()}
        terms, found = self.boxes.assigned_loss(raw.boxes, targets, self.boxes.bins, total)
        with torch.autocast(device.type, enabled=False):
            mask = mask_loss(raw.coefficients.float(), raw.prototypes.float(), found, targets, total)
        return {**terms, "mask": mask * MASK_GAIN}

    def decode(self, raw: InstanceRaw) -> tuple[Tensor, ...]:
        """Boxes and scores of `DetectHead.decode`, coefficients (B, A, M), prototypes (B, M, h, w); all float32."""
        return *self.boxes.decode(raw.boxes), raw.coefficients.float(), raw.prototypes.float()
