"""LiteFusionNet (Advanced Engineering Informatics 65, 2025): cracks in roads with 0.493 M parameters.

Published are the names of its parts, 0.493 M parameters and 0.397 GFLOPs (multiply-accumulates at 320 x 320, as its
table's other rows show). Widths, strides and wiring are not: those here are a reconstruction that meets both (493,555
parameters; 0.395 G outside of the state spaces, 0.403 G with normalisation). That field's counters do not see inside
state spaces, whose projections cost another 16 M and whose scan 13 M.

The gated units follow MALUNet (Ruan et al. 2022) and the two-way state space UltraLight VM-UNet (Wu et al. 2024).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.resnet import NormConv
from sightline.models.segment.blocks import ChannelGate, DepthwiseConv
from sightline.models.segment.state_space import SelectiveStateSpace

__all__ = ["LiteFusionNet"]

_WIDTHS = (12, 24, 40, 80, 128, 192)
_BRIDGE, _BRANCH = 136, 96
_BRIDGE_DILATIONS = (2, 4, 6)
_DECODER = (64, 32, 16, 12)
_GROUPS = 4
_GROUP_DILATIONS = (7, 5, 2, 1)


class StridedResidual(nn.Module):
    """Two 3x3, the first of stride 2, and a 1x1 of stride 2 beside them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = NormConv(in_channels, out_channels, 3, 2)
        self.second = NormConv(out_channels, out_channels, 3, activation="none")
        self.adapt = NormConv(in_channels, out_channels, stride=2, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H / 2, W / 2)."""
        return functional.relu(self.adapt(x) + self.second(self.first(x)))


class GroupedSeparable(nn.Module):
    """A depthwise convolution, normalisation in four groups, a 1x1."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels)
        self.norm = nn.GroupNorm(_GROUPS, in_channels)
        self.point = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        mapped: Tensor = self.point(self.norm(self.depthwise(x)))
        return mapped


class DilatedGate(nn.Module):
    """DGA: a quarter of the channels each at another dilation, then one map that gates another."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = in_channels // _GROUPS
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate, groups=width) for rate in _GROUP_DILATIONS
        )
        self.norm = nn.GroupNorm(_GROUPS, in_channels)
        self.mix = nn.Conv2d(in_channels, in_channels, 1)
        self.gate = GroupedSeparable(in_channels, in_channels, 3)
        self.value = GroupedSeparable(in_channels, in_channels, 5)
        self.out = GroupedSeparable(in_channels, out_channels, 3)
        self.adapt = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        parts = [conv(part) for conv, part in zip(self.dilated, x.chunk(_GROUPS, 1), strict=True)]
        x = functional.gelu(self.mix(self.norm(torch.cat(parts, 1))))
        gated = torch.sigmoid(self.gate(x)) * functional.gelu(self.value(x))
        adapted: Tensor = self.adapt(x)
        return functional.gelu(self.out(gated)) + adapted


class TwoWayStateSpace(nn.Module):
    """DVM: half of the channels scanned along rows, half along columns, each by a state space of its own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.along_rows = SelectiveStateSpace(in_channels // 2)
        self.along_columns = SelectiveStateSpace(in_channels // 2)
        self.skip_scale = nn.Parameter(torch.ones(1))
        self.project = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        height, width = x.shape[2:]
        grid = self.norm(x.permute(0, 2, 3, 1))  # (B, H, W, C)
        rows, columns = grid.chunk(2, dim=-1)
        rows, columns = rows.flatten(1, 2), columns.transpose(1, 2).flatten(1, 2)
        rows = self.along_rows(rows) + self.skip_scale * rows
        columns = self.along_columns(columns) + self.skip_scale * columns
        columns = columns.unflatten(1, (width, height)).transpose(1, 2)
        joined = torch.cat((rows.unflatten(1, (height, width)), columns), -1)
        projected: Tensor = self.project(self.norm(joined))
        return projected.permute(0, 3, 1, 2)


class SeparablePyramid(nn.Module):
    """EASPP: a 1x1, depthwise-separable 3x3 of three dilations and the mean of the map, joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int, branch: int) -> None:
        super().__init__()
        self.point = NormConv(in_channels, branch)
        self.branches = nn.ModuleList(
            nn.Sequential(DepthwiseConv(in_channels, dilation=rate), NormConv(in_channels, branch))
            for rate in _BRIDGE_DILATIONS
        )
        self.mean = nn.Conv2d(in_channels, branch, 1)
        self.join = NormConv((2 + len(_BRIDGE_DILATIONS)) * branch, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        mean = torch.relu(self.mean(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])
        joined: Tensor = self.join(torch.cat((self.point(x), *(branch(x) for branch in self.branches), mean), 1))
        return joined


class FusedUp(nn.Module):
    """Twice as large, with the encoder's map beside, a 3x3 and a gate of the channels."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.fuse = NormConv(in_channels + skip_channels, out_channels, 3)
        self.gate = ChannelGate(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps (B, C, H, W) and (B, S, 2H, 2W) to (B, out, 2H, 2W)."""
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        gated: Tensor = self.gate(self.fuse(torch.cat((x, skip), 1)))
        return gated


class LiteFusionNet(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32."""

    multiple = 32
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        w1, w2, w3, w4, w5, w6 = _WIDTHS
        self.shallow = nn.ModuleList((StridedResidual(channels, w1), StridedResidual(w1, w2)))
        self.deep = nn.ModuleList(
            (DilatedGate(w2, w3), DilatedGate(w3, w4), TwoWayStateSpace(w4, w5), TwoWayStateSpace(w5, w6))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, width) for width in _WIDTHS[2:])
        self.bridge = SeparablePyramid(w6, _BRIDGE, _BRANCH)
        before = (_BRIDGE, *_DECODER[:-1])
        self.decoders = nn.ModuleList(
            FusedUp(i, s, o) for i, s, o in zip(before, (w4, w3, w2, w1), _DECODER, strict=True)
        )
        self.head = nn.Conv2d(_DECODER[-1], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        skips: list[Tensor] = []
        x = images
        for stage in self.shallow:
            x = stage(x)
            skips.append(x)
        for number, (stage, norm) in enumerate(zip(self.deep, self.norms, strict=True)):
            x = norm(stage(x))
            x = functional.gelu(x if number == len(self.deep) - 1 else functional.max_pool2d(x, 2))
            skips.append(x)
        x = self.bridge(x)
        for decoder, skip in zip(self.decoders, reversed(skips[:4]), strict=True):
            x = decoder(x, skip)
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)
