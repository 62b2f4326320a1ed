"""The anchor-free head of the YOLO tables: a distribution over 16 distance bins per box side, and class logits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.models.assignment import TASK_ALIGNED, AssignedMeter, Assignment, AssignmentRule
from sightline.models.blocks import ConvBnAct
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import (
    USUAL_TERMS,
    DetectionRaw,
    DetectionTerms,
    assigned_loss,
    boxes_from_distances,
    expected_distances,
)

__all__ = ["STRIDES", "DetectHead", "cell_centres", "flatten_levels"]

STRIDES = (8, 16, 32)
BIN_COUNT = 16


class DetectHead(nn.Module):
    """Per level: a box branch of 4 x 16 distance logits and a class branch of C logits.

    The 3x3 convolutions of the class branch are depthwise where `light` (from YOLO11 on), else full.
    """

    bins: Tensor
    class_tensors = ("class_branches.",)

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
        self.rule, self.kinds, self.assigned = rule, kinds, AssignedMeter()
        box_width = max(16, in_channels[0] // 4, 4 * BIN_COUNT)
        class_width = max(in_channels[0], min(class_count, 100))
        self.box_branches = nn.ModuleList(
            nn.Sequential(
                ConvBnAct(channels, box_width, 3),
                ConvBnAct(box_width, box_width, 3),
                nn.Conv2d(box_width, 4 * BIN_COUNT, 1),
            )
            for channels in in_channels
        )
        branch = _light_class_branch if light else _full_class_branch
        self.class_branches = nn.ModuleList(branch(channels, class_width, class_count) for channels in in_channels)
        # Fixed, but a parameter all the same: the published counts include these 16 values.
        self.bins = nn.Parameter(torch.arange(BIN_COUNT, dtype=torch.float32), requires_grad=False)
        self._set_biases(class_count)

    def _set_biases(self, class_count: int) -> None:
        """Start with few detections: about five objects in a 640 pixel image, spread over the cells of a level."""
        for box, classes, stride in zip(self.box_branches, self.class_branches, STRIDES, strict=True):
            box_bias, class_bias = box[-1].bias, classes[-1].bias  # type: ignore[index]
            nn.init.constant_(box_bias, 1.0)
            nn.init.constant_(class_bias, math.log(5 / class_count / (640 / stride) ** 2))

    def forward(self, features: list[Tensor]) -> DetectionRaw:
        """Flatten the levels, finest first."""
        distances = [branch(x) for branch, x in zip(self.box_branches, features, strict=True)]
        logits = [branch(x) for branch, x in zip(self.class_branches, features, strict=True)]
        centres, strides = cell_centres([(x.shape[2], x.shape[3]) for x in features], features[0].device)
        return DetectionRaw(flatten_levels(distances), flatten_levels(logits), centres, strides)

    def loss(self, raw: DetectionRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls`, `dfl`, weighted; a mean over the batch's assigned target score."""
        return self.assigned_loss(raw, targets, self.bins, total)[0]

    def assigned_loss(
        self, raw: DetectionRaw, targets: Targets, bins: Tensor, total: Total = own_share
    ) -> tuple[dict[str, Tensor], Assignment]:
        """As `loss`, with the anchors that learn; `bins` are the head's own, or of another it shares them with."""
        terms, found = assigned_loss(raw, targets, bins, self.rule, self.kinds, total)
        if self.training:
            anchors = raw.logits.shape[0] * raw.logits.shape[1]
            self.assigned.update(len(found.anchor), anchors, found.target, len(targets["labels"]))
        return terms, found

    def decode(self, raw: DetectionRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C) in 0..1, both float32."""
        distances = expected_distances(raw.distances.float(), self.bins)
        return boxes_from_distances(distances, raw.centres_xy, raw.strides), raw.logits.float().sigmoid()


def _full_class_branch(channels: int, width: int, class_count: int) -> nn.Sequential:
    return nn.Sequential(ConvBnAct(channels, width, 3), ConvBnAct(width, width, 3), nn.Conv2d(width, class_count, 1))


def _light_class_branch(channels: int, width: int, class_count: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBnAct(channels, channels, 3, groups=channels),
        ConvBnAct(channels, width),
        ConvBnAct(width, width, 3, groups=width),
        ConvBnAct(width, width),
        nn.Conv2d(width, class_count, 1),
    )


def flatten_levels(levels: list[Tensor]) -> Tensor:
    """Maps (B, C, H, W) of every level -> (B, A, C)."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1)


def cell_centres(sizes_hw: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) xy in network pixels and strides (A, 1) of all cells, row by row, finest level first."""
    centres, strides = [], []
    for (height, width), stride in zip(sizes_hw, STRIDES, strict=True):
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y), -1).reshape(-1, 2))
        strides.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)
