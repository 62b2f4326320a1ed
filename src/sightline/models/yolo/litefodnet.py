"""LiteFODNet, a light detector of foreign objects on runways, on the skeleton of YOLOv8n.

Source: Intelligent Data Analysis (2025), doi 10.1177/1088467X251377586. Published are the names and purposes of the
four modules (atrous pooling with global context, depthwise separable downsampling, two-stage channel calibration,
attention along the axes), 2.515 M parameters fused and 7.9 GFLOPs unfused, at 640 with about eleven classes.
RECONSTRUCTION: the insides of the modules and where they stand, chosen so that both numbers are met (+0.2 %, -0.1 %).
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.plan import Row, Scale, neck
from sightline.models.yolo.yolo8 import c2f

__all__ = ["SCALE", "plan"]

SCALE = Scale(1 / 3, 0.25, 1024)
_CONTEXT = 32  # channels of each branch of the pooling
_DILATIONS = (1, 3, 5)
_CALIBRATION = 16  # a channel of the calibration stands for so many
_AXIS = 7  # cells an axis is looked along


class CMSP(nn.Module):
    """Depthwise 3x3 at three dilations beside the input and its mean over the map, joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = ConvBnAct(in_channels, _CONTEXT)
        self.branches = nn.ModuleList(
            ConvBnAct(_CONTEXT, _CONTEXT, 3, groups=_CONTEXT, dilation=dilation) for dilation in _DILATIONS
        )
        self.context = nn.Conv2d(_CONTEXT, _CONTEXT, 1)  # of one value a channel: nothing to normalise over
        self.join = ConvBnAct((2 + len(_DILATIONS)) * _CONTEXT, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        x = self.reduce(x)
        context = functional.silu(self.context(x.mean((2, 3), keepdim=True))).expand_as(x)
        out: Tensor = self.join(torch.cat((x, *(branch(x) for branch in self.branches), context), 1))
        return out


class FFM(nn.Module):
    """Channels weighed twice, from their mean and maximum and then from their neighbours' means; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _CALIBRATION
        self.weigh = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.neighbours = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        first = self.weigh(x.mean((2, 3), keepdim=True)) + self.weigh(x.amax((2, 3), keepdim=True))
        weighed = x * first.sigmoid()
        means = weighed.mean((2, 3)).unsqueeze(1)
        out: Tensor = x + weighed * self.neighbours(means).sigmoid().transpose(1, 2).unsqueeze(-1)
        return out


class SPA(nn.Module):
    """Half of the channels weighed by what lies above and below, half by left and right; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.column = ConvBnAct(half, half, (_AXIS, 1), groups=half, act=False)
        self.row = ConvBnAct(half, half, (1, _AXIS), groups=half, act=False)
        self.weigh_column, self.weigh_row = nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 1)
        self.join = ConvBnAct(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        a, b = x.chunk(2, 1)
        a, b = a * self.weigh_column(self.column(a)).sigmoid(), b * self.weigh_row(self.row(b)).sigmoid()
        out: Tensor = x + self.join(torch.cat((a, b), 1))
        return out


def scr(in_channels: int, out_channels: int) -> nn.Sequential:
    """Half the size by a depthwise 3x3, then the new channels."""
    return nn.Sequential(
        ConvBnAct(in_channels, in_channels, 3, 2, groups=in_channels), ConvBnAct(in_channels, out_channels)
    )


def _calibrated_pool(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(CMSP(in_channels, out_channels), FFM(out_channels))


def _fine_level(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(c2f(in_channels, out_channels, 1, shortcut=False), SPA(out_channels))


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows; only the published size is known."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    down = partial(ConvBnAct, kernel=3, stride=2)
    one, two, merge = partial(c2f, repeats=1), partial(c2f, repeats=2), partial(c2f, repeats=1, shortcut=False)
    return (
        Row("stem", down, c64),
        Row("down2", down, c128),
        Row("stage2", one, c128),
        Row("down3", down, c256),
        Row("stage3", two, c256),
        Row("down4", down, c512),
        Row("stage4", two, c512),
        Row("down5", scr, c1024),
        Row("stage5", one, c1024),
        Row("pool5", _calibrated_pool, c1024),
        *neck("pool5", (c256, c512, c1024), (merge, _fine_level, merge, merge), (down, scr)),
    )
