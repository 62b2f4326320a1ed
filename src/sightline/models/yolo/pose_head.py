"""The head that gives keypoints beside boxes: for each cell K points, and how likely each can be located.

Sources: Maji et al., YOLO-Pose (2022): the loss; widths of the branch and the places of the points: Ultralytics YOLOv8
and YOLO11 (2023, 2024), as facts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.keypoints import PERSON, Keypoints
from sightline.models.assignment import TASK_ALIGNED, AssignmentRule
from sightline.models.blocks import ConvBnAct
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import USUAL_TERMS, DetectionRaw, DetectionTerms
from sightline.models.pose_loss import pose_loss
from sightline.models.yolo.head import DetectHead, flatten_levels

__all__ = ["PoseHead", "PoseRaw"]

POINTS_GAIN, LOCATED_GAIN = 12.0, 1.0
"""Weights of the two terms of keypoints: where they are, and whether they can be located."""
_REACH = 2.0  # strides that an output of 1 moves a point


class PoseRaw(NamedTuple):
    """Raw output over A = all cells of all levels."""

    boxes: DetectionRaw
    points: Tensor  # (B, A, K, 3): x and y in units of two strides from the cell's first corner, and a logit


def _in_full(branch: nn.Module, x: Tensor) -> Tensor:
    """The branch's output, its last convolution in float32 whatever the others run in: 8 bits cannot hold a place."""
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        whole: Tensor = branch(x)
        return whole
    *before, last = branch.children()
    for layer in before:
        x = layer(x)
    with torch.autocast(x.device.type, enabled=False):
        exact: Tensor = last(x.float())
    return exact


class PoseHead(nn.Module):
    """A `DetectHead` with K keypoints per cell."""

    task: Task = "pose"

    def __init__(
        self,
        in_channels: Sequence[int],
        class_count: int,
        *,
        keypoints: Keypoints = PERSON,
        light: bool = True,
        rule: AssignmentRule = TASK_ALIGNED,
        kinds: DetectionTerms = USUAL_TERMS,
    ) -> None:
        super().__init__()
        self.boxes = DetectHead(in_channels, class_count, light=light, rule=rule, kinds=kinds)
        self.assigned, self.keypoints = self.boxes.assigned, keypoints
        outputs = 3 * len(keypoints)
        width = max(in_channels[0] // 4, outputs)
        self.points = nn.ModuleList(
            nn.Sequential(ConvBnAct(channels, width, 3), ConvBnAct(width, width, 3), nn.Conv2d(width, outputs, 1))
            for channels in in_channels
        )
        # All of the branch: its width follows the number of keypoints, and other classes have others.
        self.class_tensors = (*(f"boxes.{name}" for name in DetectHead.class_tensors), "points.")

    def forward(self, features: list[Tensor]) -> PoseRaw:
        """Flatten the levels, finest first."""
        points = flatten_levels([_in_full(branch, x) for branch, x in zip(self.points, features, strict=True)])
        return PoseRaw(self.boxes(features), points.view(*points.shape[:2], len(self.keypoints), 3))

    def loss(self, raw: PoseRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls` and `dfl` as `DetectHead.loss`, and `points` and `located`, see `pose_loss`, weighted."""
        device = raw.points.device
        targets = {key: value.to(device) for key, value in targets.items()}
        terms, found = self.boxes.assigned_loss(raw.boxes, targets, self.boxes.bins, total)
        with torch.autocast(device.type, enabled=False):
            positive = self._places(
                raw.points[found.image, found.anchor].float(),
                raw.boxes.centres_xy[found.anchor],
                raw.boxes.strides[found.anchor],
            )
            points, located = pose_loss(positive, found, targets, self.keypoints.sigmas, total)
        return {**terms, "points": points * POINTS_GAIN, "located": located * LOCATED_GAIN}

    def decode(self, raw: PoseRaw) -> tuple[Tensor, ...]:
        """Boxes and scores of `DetectHead.decode`, keypoints (B, A, K, 3), see `Model.decode`; all float32."""
        placed = self._places(raw.points.float(), raw.boxes.centres_xy, raw.boxes.strides)
        return *self.boxes.decode(raw.boxes), torch.cat((placed[..., :2], placed[..., 2:].sigmoid()), -1)

    @staticmethod
    def _places(points: Tensor, centres_xy: Tensor, strides: Tensor) -> Tensor:
        """Raw points (..., A, K, 3) of cells (A, 2) with x and y in network pixels."""
        corners, steps = centres_xy - strides / 2, strides[..., None]
        places = points[..., :2] * (_REACH * steps) + corners[..., None, :]
        return torch.cat((places, points[..., 2:]), -1)
