"""YOLO11 detectors (n, s, m, l, x), written from the published layer table; trained from scratch here.

Source: Jocher and Qiu, Ultralytics YOLO11 (2024), the model's configuration as facts: layers, widths, repeats and
parameter counts. The detection head is anchor-free with a distribution over 16 distance bins per box side.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.preprocess import Preprocess
from sightline.models.blocks import C2PSA, SPPF, C3k2, ConvBnAct
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.detection_loss import (
    AssignmentRule,
    DetectionGains,
    DetectionRaw,
    boxes_from_distances,
    detection_loss,
    expected_distances,
)

__all__ = ["YOLO11", "YOLO11_SCALES", "Scale"]

STRIDES = (8, 16, 32)
BIN_COUNT = 16


@dataclass(frozen=True, slots=True)
class Scale:
    """Multipliers of one size; `deep` uses the C3k inner block everywhere, not only at the coarse levels."""

    depth: float
    width: float
    max_channels: int
    deep: bool

    def channels(self, base: int) -> int:
        """Width of a layer whose base width is `base`, a multiple of 8."""
        return math.ceil(min(base, self.max_channels) * self.width / 8) * 8

    def repeats(self, base: int) -> int:
        """Repeats of a block whose base count is `base`, at least 1."""
        return max(round(base * self.depth), 1)


YOLO11_SCALES = {
    "n": Scale(0.5, 0.25, 1024, deep=False),
    "s": Scale(0.5, 0.5, 1024, deep=False),
    "m": Scale(0.5, 1.0, 512, deep=True),
    "l": Scale(1.0, 1.0, 512, deep=True),
    "x": Scale(1.0, 1.5, 512, deep=True),
}


class DetectHead(nn.Module):
    """Per level: a box branch of 4 x 16 distance logits and a class branch of C logits."""

    bins: Tensor

    def __init__(self, in_channels: tuple[int, ...], class_count: int) -> None:
        super().__init__()
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
        self.class_branches = nn.ModuleList(
            nn.Sequential(
                ConvBnAct(channels, channels, 3, groups=channels),
                ConvBnAct(channels, class_width),
                ConvBnAct(class_width, class_width, 3, groups=class_width),
                ConvBnAct(class_width, class_width),
                nn.Conv2d(class_width, class_count, 1),
            )
            for channels in in_channels
        )
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
        return DetectionRaw(_flatten(distances), _flatten(logits), centres, strides)


def _flatten(levels: list[Tensor]) -> Tensor:
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


class YOLO11(nn.Module):
    """One-stage anchor-free detector; three levels at strides 8, 16 and 32.

    Input (B, 3, H, W) RGB in 0..1, H and W multiples of 32. `decode` gives A = HW/64 + HW/256 + HW/1024 candidates.
    """

    def __init__(
        self,
        size: str,
        class_names: tuple[str, ...],
        *,
        imgsz: int | tuple[int, int],
        rule: AssignmentRule,
        gains: DetectionGains,
    ) -> None:
        super().__init__()
        self.name = f"yolo11{size}"
        self.task: Task = "detect"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, STRIDES[-1]))
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.class_tensors: tuple[str, ...] = ("head.class_branches.",)
        self.rule, self.gains = rule, gains
        self._build(YOLO11_SCALES[size], len(class_names))

    def _build(self, scale: Scale, class_count: int) -> None:
        c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
        repeats = scale.repeats(2)

        def c3k2(in_channels: int, out_channels: int, deep: bool, expansion: float = 0.5) -> C3k2:
            return C3k2(in_channels, out_channels, repeats, deep=deep or scale.deep, expansion=expansion)

        self.stem = ConvBnAct(3, c64, 3, 2)
        self.down2 = ConvBnAct(c64, c128, 3, 2)
        self.stage2 = c3k2(c128, c256, deep=False, expansion=0.25)
        self.down3 = ConvBnAct(c256, c256, 3, 2)
        self.stage3 = c3k2(c256, c512, deep=False, expansion=0.25)
        self.down4 = ConvBnAct(c512, c512, 3, 2)
        self.stage4 = c3k2(c512, c512, deep=True)
        self.down5 = ConvBnAct(c512, c1024, 3, 2)
        self.stage5 = c3k2(c1024, c1024, deep=True)
        self.pool5 = SPPF(c1024)
        self.attend5 = C2PSA(c1024, repeats)
        self.top4 = c3k2(c1024 + c512, c512, deep=False)
        self.out3 = c3k2(c512 + c512, c256, deep=False)
        self.up4 = ConvBnAct(c256, c256, 3, 2)
        self.out4 = c3k2(c256 + c512, c512, deep=False)
        self.up5 = ConvBnAct(c512, c512, 3, 2)
        self.out5 = c3k2(c512 + c1024, c1024, deep=True)
        self.head = DetectHead((c256, c512, c1024), class_count)

    def forward(self, images: Tensor) -> DetectionRaw:
        """Raw distances and logits of all cells."""
        check_input(images, STRIDES[-1])
        x = self.stage2(self.down2(self.stem(images)))
        level3 = self.stage3(self.down3(x))
        level4 = self.stage4(self.down4(level3))
        level5 = self.attend5(self.pool5(self.stage5(self.down5(level4))))
        top4 = self.top4(torch.cat((_double(level5), level4), 1))
        out3 = self.out3(torch.cat((_double(top4), level3), 1))
        out4 = self.out4(torch.cat((self.up4(out3), top4), 1))
        out5 = self.out5(torch.cat((self.up5(out4), level5), 1))
        raw: DetectionRaw = self.head([out3, out4, out5])
        return raw

    def loss(self, raw: DetectionRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `cls`, `dfl`, weighted; a mean over the batch's assigned target score."""
        check_targets(self.task, targets, len(self.class_names))
        return detection_loss(raw, targets, self.head.bins, self.rule, self.gains, total)

    def decode(self, raw: DetectionRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C) in 0..1, both float32, nothing suppressed."""
        distances = expected_distances(raw.distances.float(), self.head.bins)
        return boxes_from_distances(distances, raw.centres_xy, raw.strides), raw.logits.float().sigmoid()


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
