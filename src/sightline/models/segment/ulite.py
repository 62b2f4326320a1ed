"""U-Lite (Dinh et al. 2023): a U-Net of axial depthwise convolutions, 878,417 parameters for one class."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ULite"]

_WIDTHS = (16, 32, 64, 128, 256, 512)
_AXIAL, _BOTTLENECK_AXIAL = 7, 3
_DILATIONS = (1, 2, 3)


class AxialConv(nn.Module):
    """The map, and depthwise convolutions along its columns and along its rows, added."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        around = dilation * (kernel // 2)
        self.down = nn.Conv2d(channels, channels, (kernel, 1), padding=(around, 0), dilation=dilation, groups=channels)
        self.along = nn.Conv2d(channels, channels, (1, kernel), padding=(0, around), dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the same shape."""
        summed: Tensor = x + self.down(x) + self.along(x)
        return summed


class _Encoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.axial, self.norm = AxialConv(in_channels, _AXIAL), nn.BatchNorm2d(in_channels)
        self.point = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.norm(self.axial(x))
        return functional.gelu(functional.max_pool2d(self.point(skip), 2)), skip


class _Bottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.reduce = nn.Conv2d(channels, width, 1)
        self.axial = nn.ModuleList(AxialConv(width, _BOTTLENECK_AXIAL, rate) for rate in _DILATIONS)
        self.norm, self.expand = nn.BatchNorm2d(4 * width), nn.Conv2d(4 * width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        joined = torch.cat((x, *(axial(x) for axial in self.axial)), 1)
        return functional.gelu(self.expand(self.norm(joined)))


class _Decoder(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.point, self.norm = nn.Conv2d(in_channels + out_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
        self.axial, self.out = AxialConv(out_channels, _AXIAL), nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.norm(self.point(torch.cat((x, skip), 1)))
        return functional.gelu(self.out(self.axial(x)))


class ULite(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32."""

    multiple = 32
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, _WIDTHS[0], 7, padding=3)
        pairs = list(pairwise(_WIDTHS))
        self.encoders = nn.ModuleList(_Encoder(i, o) for i, o in pairs)
        self.bottleneck = _Bottleneck(_WIDTHS[-1])
        self.decoders = nn.ModuleList(_Decoder(o, i) for i, o in reversed(pairs))
        self.head = nn.Conv2d(_WIDTHS[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        skips: list[Tensor] = []
        x = self.enter(images)
        for encoder in self.encoders:
            x, skip = encoder(x)
            skips.append(skip)
        x = self.bottleneck(x)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x, skip)
        logits: Tensor = self.head(x)
        return logits
