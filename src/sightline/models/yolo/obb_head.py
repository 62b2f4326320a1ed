"""The head that gives oriented boxes: an angle for each cell beside the distances to the sides of a box so turned.

Width of the branch and range of the angle: Ultralytics YOLOv8 and YOLO11 (2024), as facts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.models.blocks import ConvBnAct
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import DetectionRaw, expected_distances
from sightline.models.oriented_boxes import enclosing_boxes, oriented_from_distances, oriented_loss
from sightline.models.yolo.head import DetectHead, flatten_levels

__all__ = ["ObbHead", "ObbRaw"]


class ObbRaw(NamedTuple):
    """Raw output over A = all cells of all levels."""

    boxes: DetectionRaw
    turns: Tensor  # (B, A) logits of the angles

    @property
    def angles(self) -> Tensor:
        """(B, A) float32 radians, -pi / 4 .. 3 pi / 4: half a right angle to either side of what labels have."""
        return (self.turns.float().sigmoid() - 0.25) * math.pi


class ObbHead(nn.Module):
    """A `DetectHead` with an angle per cell, by which the box of its distances is turned about the cell's centre."""

    task: Task = "obb"
    class_tensors = tuple(f"boxes.{name}" for name in DetectHead.class_tensors)

    def __init__(self, in_channels: Sequence[int], class_count: int, *, light: bool = True) -> None:
        super().__init__()
        self.boxes = DetectHead(in_channels, class_count, light=light)
        self.assigned = self.boxes.assigned
        width = max(in_channels[0] // 4, 1)
        self.angles = nn.ModuleList(
            nn.Sequential(ConvBnAct(channels, width, 3), ConvBnAct(width, width, 3), nn.Conv2d(width, 1, 1))
            for channels in in_channels
        )

    def forward(self, features: list[Tensor]) -> ObbRaw:
        """Flatten the levels, finest first."""
        turns = flatten_levels([branch(x) for branch, x in zip(self.angles, features, strict=True)])
        return ObbRaw(self.boxes(features), turns.squeeze(-1))

    def loss(self, raw: ObbRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls` and `dfl`, see `oriented_loss`."""
        head = self.boxes
        terms, found = oriented_loss(raw.boxes, raw.angles, targets, head.bins, total, head.rule, head.kinds)
        if self.training:
            head.assigned.update(len(found.anchor), raw.turns.numel(), found.target, len(targets["labels"]))
        return terms

    def decode(self, raw: ObbRaw) -> tuple[Tensor, ...]:
        """Upright boxes around the oriented ones, scores, and these (B, A, 5), see `Model.decode`; all float32."""
        distances = expected_distances(raw.boxes.distances.float(), self.boxes.bins)
        boxes = oriented_from_distances(distances, raw.angles, raw.boxes.centres_xy, raw.boxes.strides)
        return enclosing_boxes(boxes), raw.boxes.logits.float().sigmoid(), boxes
