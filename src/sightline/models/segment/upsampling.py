"""Ways to make maps larger, each with its output size, and the pooling that remembers where its values came from.

All double height and width here. The size of a transposed convolution is (n - 1) * stride - 2 * padding + kernel.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PoolWithPlaces", "Upsampling", "bed_of_nails", "unpool", "upsampler"]

Upsampling = Literal["transposed", "bilinear", "nearest", "bed-of-nails"]


def bed_of_nails(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): each value in the upper left of four pixels, zeros around it."""
    corner = functional.pad(x.unsqueeze(3).unsqueeze(5), (0, 1, 0, 0, 0, 1))  # (B, C, H, 2, W, 2)
    batch, channels, height, width = x.shape
    return corner.reshape(batch, channels, 2 * height, 2 * width)


class PoolWithPlaces(nn.Module):
    """2 x 2 max-pooling that also says which of the four was the largest, the first of equal ones.

    (B, C, H, W) -> values (B, C, H/2, W/2) and places (B, C, H/2, W/2, 4), one 1 among zeros, which graphs of every
    runtime can hold, as opposed to torch's indices.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool maps with even sides."""
        batch, channels, height, width = x.shape
        cells = x.reshape(batch, channels, height // 2, 2, width // 2, 2).transpose(3, 4).flatten(4)
        values, index = cells.max(-1)
        return values, functional.one_hot(index, 4).to(x.dtype)


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Max-unpooling: (B, C, H, W) -> (B, C, 2H, 2W), each value where the pooling found its own, zeros elsewhere."""
    batch, channels, height, width = x.shape
    cells = (x.unsqueeze(-1) * places).reshape(batch, channels, height, width, 2, 2)
    return cells.transpose(3, 4).reshape(batch, channels, 2 * height, 2 * width)


class _Resized(nn.Module):
    """Maps made twice as large without weights, and a 1 x 1 convolution to `out_channels`."""

    def __init__(self, in_channels: int, out_channels: int, way: Upsampling) -> None:
        super().__init__()
        self.way = way
        self.project = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)  # first: a quarter of the work, and the same but for a bed of nails' zeros
        if self.way == "bed-of-nails":
            return bed_of_nails(x)
        if self.way == "nearest":
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def upsampler(in_channels: int, out_channels: int, way: Upsampling) -> nn.Module:
    """A module (B, in, H, W) -> (B, out, 2H, 2W): a transposed convolution of 2 x 2, or a resizing behind a 1 x 1."""
    if way == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    return _Resized(in_channels, out_channels, way)


def bilinear_kernel(channels: int, factor: int) -> Tensor:
    """Weights (C, C, 2f, 2f) with which a transposed convolution of stride f and padding f/2 is bilinear upsampling,
    channel by channel (Shelhamer et al. 2017)."""
    side = 2 * factor
    ramp = 1 - (torch.arange(side, dtype=torch.float32) + 0.5 - factor).abs() / factor
    weights = torch.zeros(channels, channels, side, side)
    each = torch.arange(channels)
    weights[each, each] = torch.outer(ramp, ramp)
    return weights
