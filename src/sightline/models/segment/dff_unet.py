"""DFF-UNet (Khan, Khan, Teng, IEEE TIM 74, 2025): a U-Net of 0.190 M parameters for skin lesions.

Published are the names and duties of its three blocks, the dilations 1, 3, 5, depthwise convolutions, the number of
parameters and 0.109 GFLOPs. How many stages there are, their widths and the wiring inside the blocks are not:
those here are a reconstruction that meets both numbers (189,949 parameters; at 256 x 256 89.3 M multiply-accumulates of
convolutions, 107.7 M with normalisation counted four for each value, as the group's other papers count).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.resnet import NormConv
from sightline.models.segment.blocks import DepthwiseConv

__all__ = ["DFFUNet"]

_WIDTHS = (8, 8, 24, 32, 64)
_BRIDGE, _BRANCH = 112, 56
_DILATIONS = (1, 3, 5)
_LEAST_WIDTH = 4


class RefinedResidual(nn.Module):
    """RFRE: a 3x3, a 1x1 that refines it, and the input, adapted by a 1x1 where channels change."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.extract = NormConv(in_channels, out_channels, 3)
        self.refine = NormConv(out_channels, out_channels, activation="none")
        same = in_channels == out_channels
        self.adapt: nn.Module = nn.Identity() if same else NormConv(in_channels, out_channels, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        return functional.relu(self.refine(self.extract(x)) + self.adapt(x))


class DilatedBridge(nn.Module):
    """PDCP: 3x3 convolutions of three dilations side by side, joined by a 1x1, with the input beside."""

    def __init__(self, in_channels: int, out_channels: int, branch: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(NormConv(in_channels, branch, 3, dilation=rate) for rate in _DILATIONS)
        self.join = NormConv(len(_DILATIONS) * branch, out_channels, activation="none")
        self.adapt = NormConv(in_channels, out_channels, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        joined: Tensor = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        return functional.relu(joined + self.adapt(x))


class SpatialDecoder(nn.Module):
    """BSFD: a bottleneck with a depthwise 3x3 at low resolution, then twice as large, with the encoder's map added."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = max(out_channels // 2, _LEAST_WIDTH)
        self.bottleneck = nn.Sequential(
            NormConv(in_channels, width),
            DepthwiseConv(width),
            NormConv(width, width),
            NormConv(width, out_channels, activation="none"),
        )
        self.adapt = NormConv(in_channels, out_channels, activation="none")
        self.smooth = nn.Sequential(DepthwiseConv(out_channels), NormConv(out_channels, out_channels))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps (B, C, H, W) and the encoder's (B, out, 2H, 2W) to (B, out, 2H, 2W)."""
        x = functional.relu(self.bottleneck(x) + self.adapt(x))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        smoothed: Tensor = self.smooth(x + skip)
        return smoothed


class DFFUNet(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32."""

    multiple = 32
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        before = (channels, *_WIDTHS[:-1])
        self.encoders = nn.ModuleList(RefinedResidual(i, o) for i, o in zip(before, _WIDTHS, strict=True))
        self.bridge = DilatedBridge(_WIDTHS[-1], _BRIDGE, _BRANCH)
        deep = (_BRIDGE, *reversed(_WIDTHS))
        self.decoders = nn.ModuleList(SpatialDecoder(i, o) for i, o in pairwise(deep))
        self.head = nn.Conv2d(_WIDTHS[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        skips: list[Tensor] = []
        x = images
        for encoder in self.encoders:
            skips.append(encoder(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.bridge(x)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x, skip)
        logits: Tensor = self.head(x)
        return logits
