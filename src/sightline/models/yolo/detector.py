"""The network of every anchor-free YOLO: a table of rows, the head that reads its levels, loss and decoding."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.detection_loss import (
    AssignmentRule,
    DetectionGains,
    DetectionRaw,
    boxes_from_distances,
    detection_loss,
    expected_distances,
)
from sightline.models.yolo.head import STRIDES, DetectHead
from sightline.models.yolo.plan import LEVELS, Row, add_rows, run_rows

__all__ = ["YoloDetector"]


class YoloDetector(nn.Module):
    """One-stage anchor-free detector; three levels at strides 8, 16 and 32.

    Input (B, 3, H, W) RGB in 0..1, H and W multiples of 32. `decode` gives A = HW/64 + HW/256 + HW/1024 candidates.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        class_names: tuple[str, ...],
        *,
        imgsz: int | tuple[int, int],
        light_head: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self.task: Task = "detect"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, STRIDES[-1]))
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.class_tensors: tuple[str, ...] = ("head.class_branches.",)
        self.rule, self.gains = AssignmentRule(), DetectionGains()
        self.rows = tuple(rows)
        add_rows(self, self.rows)
        widths = {row.name: row.channels for row in self.rows}
        self.head = DetectHead(tuple(widths[level] for level in LEVELS), len(class_names), light=light_head)

    def forward(self, images: Tensor) -> DetectionRaw:
        """Raw distances and logits of all cells."""
        check_input(images, STRIDES[-1])
        raw: DetectionRaw = self.head(run_rows(self, self.rows, images))
        return raw

    def loss(self, raw: DetectionRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls`, `dfl`, weighted; a mean over the batch's assigned target score."""
        check_targets(self.task, targets, len(self.class_names))
        return detection_loss(raw, targets, self.head.bins, self.rule, self.gains, total)

    def decode(self, raw: DetectionRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C) in 0..1, both float32, nothing suppressed."""
        distances = expected_distances(raw.distances.float(), self.head.bins)
        return boxes_from_distances(distances, raw.centres_xy, raw.strides), raw.logits.float().sigmoid()
