"""The blocks of the YOLO tables. Their parameter counts are the published ones: the tests hold every layer to them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.blocks import ConvBnAct

__all__ = ["C2PSA", "C3", "SPPF", "A2C2f", "Bottleneck", "C2f", "C3k", "C3k2", "RepConv"]

HEAD_CHANNELS = 64
"""Channels per attention head in `PSABlock`."""
AREA_HEAD_CHANNELS = 32
"""Channels per attention head in `AreaBlock`."""
RESIDUAL_START = 0.01
"""Gain of a residual `A2C2f` at first: deep attention trains only where it starts close to the identity."""

Inner: TypeAlias = Callable[[int], nn.Module]
"""Makes an inner block of so many channels."""


class RepConv(nn.Module):
    """A large and a small convolution side by side, added, SiLU; fused they are one (Ding et al. 2021, RepVGG)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernels: tuple[int, int] = (3, 1), *, groups: int = 1
    ) -> None:
        super().__init__()
        self.large = ConvBnAct(in_channels, out_channels, kernels[0], groups=groups, act=False)
        self.small: ConvBnAct | None = ConvBnAct(in_channels, out_channels, kernels[1], groups=groups, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        out: Tensor = self.large(x)
        return functional.silu(out if self.small is None else out + self.small(x))

    @property
    def spare(self) -> nn.Module | None:
        """The small convolution."""
        return self.small

    def simplify(self) -> None:
        """Add the small kernel to the middle of the large one."""
        assert self.small is not None
        large, small = self.large.conv, self.small.conv
        assert large.bias is not None
        assert small.bias is not None
        around = (large.kernel_size[0] - small.kernel_size[0]) // 2
        with torch.no_grad():
            large.weight += functional.pad(small.weight, (around,) * 4)
            large.bias += small.bias
        self.small = None


class Bottleneck(nn.Module):
    """Two convolutions through `expansion * channels`, the second 3x3, added to the input where `shortcut`."""

    def __init__(self, channels: int, expansion: float, *, shortcut: bool = True, reduce_kernel: int = 3) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.shortcut = shortcut
        self.reduce = ConvBnAct(channels, hidden, reduce_kernel)
        self.expand = ConvBnAct(hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = self.expand(self.reduce(x))
        return x + out if self.shortcut else out


class C3(nn.Module):
    """YOLOv5's main block: one half through bottlenecks, the other straight, joined by a 1x1."""

    def __init__(
        self, in_channels: int, out_channels: int, repeats: int, *, shortcut: bool = True, reduce_kernel: int = 1
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.deep_in, self.straight = ConvBnAct(in_channels, hidden), ConvBnAct(in_channels, hidden)
        inner = (Bottleneck(hidden, 1.0, shortcut=shortcut, reduce_kernel=reduce_kernel) for _ in range(repeats))
        self.deep = nn.Sequential(*inner)
        self.join = ConvBnAct(2 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        out: Tensor = self.join(torch.cat((self.deep(self.deep_in(x)), self.straight(x)), 1))
        return out


class C3k(C3):
    """`C3` of equal width around two bottlenecks of two 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 2, reduce_kernel=3)


class C2f(nn.Module):
    """Split in two, chain the `inner` blocks on one half, concatenate all stages, 1x1: YOLOv8's main block."""

    def __init__(self, in_channels: int, out_channels: int, inner: Sequence[Inner], expansion: float = 0.5) -> None:
        super().__init__()
        self.hidden = int(out_channels * expansion)
        self.split = ConvBnAct(in_channels, 2 * self.hidden)
        self.inner = nn.ModuleList(make(self.hidden) for make in inner)
        self.join = ConvBnAct((2 + len(inner)) * self.hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        both: Tensor = self.split(x)
        stages = [both]
        last = both[:, self.hidden :]
        for block in self.inner:
            last = block(last)
            stages.append(last)
        out: Tensor = self.join(torch.cat(stages, 1))
        return out


class C3k2(C2f):
    """YOLO11's main block: `C2f` around `C3k` where `deep`, otherwise around bottlenecks of half width."""

    def __init__(
        self, in_channels: int, out_channels: int, repeats: int, *, deep: bool, expansion: float = 0.5
    ) -> None:
        inner = C3k if deep else partial(Bottleneck, expansion=0.5)
        super().__init__(in_channels, out_channels, [inner] * repeats, expansion)


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast form: three chained 5x5 max-pools see 5, 9 and 13 cells (He et al. 2014)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = ConvBnAct(in_channels, in_channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = ConvBnAct(2 * in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        stages: list[Tensor] = [self.reduce(x)]
        for _ in range(3):
            stages.append(self.pool(stages[-1]))
        out: Tensor = self.join(torch.cat(stages, 1))
        return out


class Attention(nn.Module):
    """Self-attention over all cells of a map; keys are half as wide as values, position by a depthwise 3x3 on them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // HEAD_CHANNELS, 1)
        self.value_dim = channels // self.heads
        self.key_dim = self.value_dim // 2
        self.qkv = ConvBnAct(channels, channels + 2 * self.key_dim * self.heads, act=False)
        self.position = ConvBnAct(channels, channels, 3, groups=channels, act=False)
        self.project = ConvBnAct(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        qkv: Tensor = self.qkv(x)
        per_head = qkv.reshape(batch, self.heads, 2 * self.key_dim + self.value_dim, height * width)
        query, key, value = torch.split(per_head, [self.key_dim, self.key_dim, self.value_dim], dim=2)
        weights = ((query.transpose(-2, -1) @ key) * self.key_dim**-0.5).softmax(-1)
        attended = (value @ weights.transpose(-2, -1)).reshape(batch, channels, height, width)
        out: Tensor = self.project(attended + self.position(value.reshape(batch, channels, height, width)))
        return out


class PSABlock(nn.Module):
    """Attention, then a two-layer 1x1 feed-forward of twice the width; each added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels)
        self.feed_forward = nn.Sequential(
            ConvBnAct(channels, 2 * channels), ConvBnAct(2 * channels, channels, act=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.attention(x)
        out: Tensor = x + self.feed_forward(x)
        return out


class C2PSA(nn.Module):
    """Half of the channels through `repeats` attention blocks, the other half straight, joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int, repeats: int) -> None:
        super().__init__()
        self.hidden = out_channels // 2
        self.split = ConvBnAct(in_channels, 2 * self.hidden)
        self.deep = nn.Sequential(*(PSABlock(self.hidden) for _ in range(repeats)))
        self.join = ConvBnAct(2 * self.hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        straight, deep = self.split(x).chunk(2, 1)
        out: Tensor = self.join(torch.cat((straight, self.deep(deep)), 1))
        return out


class AreaAttention(nn.Module):
    """Self-attention within `areas` equal runs of cells, row by row; position by a depthwise 5x5 on the values."""

    def __init__(self, channels: int, areas: int) -> None:
        super().__init__()
        self.areas, self.heads = areas, channels // AREA_HEAD_CHANNELS
        self.query_key = ConvBnAct(channels, 2 * channels, act=False)
        self.value = ConvBnAct(channels, channels, act=False)
        self.position = ConvBnAct(channels, channels, 5, groups=channels, act=False)
        self.project = ConvBnAct(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; H * W must be a multiple of `areas`."""
        value = self.value(x)
        query, key = self._per_head(self.query_key(x)).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(query, key, self._per_head(value))
        # (B * areas, heads, cells, channels of a head) back to a map
        batch, channels, height, width = x.shape
        whole = attended.reshape(batch, self.areas, self.heads, -1, AREA_HEAD_CHANNELS)
        whole = whole.permute(0, 2, 4, 1, 3).reshape(batch, channels, height, width)
        out: Tensor = self.project(whole + self.position(value))
        return out

    def _per_head(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * areas, heads, cells of an area, C / heads)."""
        batch, channels, height, width = x.shape
        split = x.reshape(batch, self.heads, channels // self.heads, self.areas, height * width // self.areas)
        return split.permute(0, 3, 1, 4, 2).flatten(0, 1)


class AreaBlock(nn.Module):
    """Area attention, then a two-layer 1x1 feed-forward of `ratio` times the width; each added to its input."""

    def __init__(self, channels: int, areas: int, ratio: float) -> None:
        super().__init__()
        self.attention = AreaAttention(channels, areas)
        hidden = int(channels * ratio)
        self.feed_forward = nn.Sequential(ConvBnAct(channels, hidden), ConvBnAct(hidden, channels, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.attention(x)
        out: Tensor = x + self.feed_forward(x)
        return out


class A2C2f(nn.Module):
    """YOLO12's main block (R-ELAN): reduce, chain the `inner` blocks, concatenate all stages, 1x1.

    With `residual` the result times a learnt gain per channel is added to the input.
    """

    def __init__(self, in_channels: int, out_channels: int, inner: Sequence[Inner], *, residual: bool = False) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.reduce = ConvBnAct(in_channels, hidden)
        self.inner = nn.ModuleList(make(hidden) for make in inner)
        self.join = ConvBnAct((1 + len(inner)) * hidden, out_channels)
        self.gain = nn.Parameter(torch.full((out_channels,), RESIDUAL_START)) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        stages: list[Tensor] = [self.reduce(x)]
        for block in self.inner:
            stages.append(block(stages[-1]))
        out: Tensor = self.join(torch.cat(stages, 1))
        return out if self.gain is None else x + self.gain[:, None, None] * out
