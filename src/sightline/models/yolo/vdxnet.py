"""VDXNet, a light detector of vehicles from the air, on the skeleton of YOLO11n.

Source: Khan et al., IEEE Geoscience and Remote Sensing Letters 22 (2025), doi 10.1109/LGRS.2025.3558423. Published are
the names and purposes of the three modules (residual cross depth fusion in place of C3k2, a lightweight feature
pyramid pooling, a channel-reducing downsampling), 1.608 M parameters and 5.9 GFLOPs, fused, at 640 with one class.
RECONSTRUCTION: the insides of the modules and where they stand, chosen so that both numbers are met (-0.2 %, -0.6 %).
"""

from functools import partial

import torch
from torch import Tensor, nn

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import C2PSA
from sightline.models.yolo.plan import Row, Scale, neck

__all__ = ["SCALE", "plan"]

SCALE = Scale(0.5, 0.25, 1024)
_LONG = 5  # cells that a one-sided depthwise convolution sees
_POOLED = 32  # channels while pooling


class RxDF(nn.Module):
    """Two halves, each through a row-wise and a column-wise depthwise convolution that read the other's first one."""

    def __init__(self, in_channels: int, out_channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        row = partial(ConvBnAct, hidden, hidden, (1, _LONG), groups=hidden)
        column = partial(ConvBnAct, hidden, hidden, (_LONG, 1), groups=hidden)
        self.split = ConvBnAct(in_channels, 2 * hidden)
        self.row_first, self.column_first = row(act=False), column(act=False)
        self.column_second, self.row_second = column(), row()
        self.mix_a, self.mix_b = ConvBnAct(hidden, hidden), ConvBnAct(hidden, hidden)
        self.join = ConvBnAct(2 * hidden, out_channels)
        self.shortcut = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        a, b = self.split(x).chunk(2, 1)
        crossed = self.row_first(a) + self.column_first(b)
        a, b = a + self.mix_a(self.column_second(crossed)), b + self.mix_b(self.row_second(crossed))
        out: Tensor = self.join(torch.cat((a, b), 1))
        return x + out if self.shortcut else out


class LiteFPP(nn.Module):
    """Pyramid pooling at few channels: what is there, and its maxima over 5 and 9 cells, side by side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = ConvBnAct(in_channels, _POOLED)
        self.near, self.far = nn.MaxPool2d(5, 1, 2), nn.MaxPool2d(9, 1, 4)
        self.join = ConvBnAct(3 * _POOLED, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        x = self.reduce(x)
        out: Tensor = self.join(torch.cat((x, self.near(x), self.far(x)), 1))
        return out


def crdown(in_channels: int, out_channels: int) -> nn.Sequential:
    """Half the channels, then half the size by a depthwise 3x3, then the new channels."""
    half = in_channels // 2
    return nn.Sequential(
        ConvBnAct(in_channels, half), ConvBnAct(half, half, 3, 2, groups=half), ConvBnAct(half, out_channels)
    )


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows; only the published size is known."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    down = partial(ConvBnAct, kernel=3, stride=2)
    # Wider where the map is large: the paper saves parameters, hardly any operations.
    wide, usual = partial(RxDF, expansion=0.75), partial(RxDF, expansion=0.5)
    return (
        Row("stem", down, c64),
        Row("down2", down, c128),
        Row("stage2", wide, c256),
        Row("down3", down, c256),
        Row("stage3", usual, c512),
        Row("down4", down, c512),
        Row("stage4", usual, c512),
        Row("down5", crdown, c1024),
        Row("stage5", usual, c1024),
        Row("pool5", LiteFPP, c1024),
        Row("attend5", partial(C2PSA, repeats=1), c1024),
        *neck("attend5", (c256, c512, c1024), (usual, wide, usual, usual), (down, crdown)),
    )
