"""Building blocks that more than one network is made of.

Parameter counts below are the published ones; `tests/models/test_yolo11.py` holds every layer to them.
"""

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from sightline.models.fused_norm import Activation, norm_act

ModuleT = TypeVar("ModuleT", bound=nn.Module)

YOLO_BN_EPS = 1e-3
YOLO_BN_MOMENTUM = 0.03
HEAD_CHANNELS = 64
"""Channels per attention head in `PSABlock`."""


class ConvBnAct(nn.Module):
    """Convolution without bias, batch normalisation, SiLU (or none): (B, C, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=YOLO_BN_EPS, momentum=YOLO_BN_MOMENTUM)
        self.activation: Activation = "silu" if act else "none"

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return norm_act(self.conv(x), self.bn, self.activation)


class DoubleConv(nn.Module):
    """Twice 3x3 convolution, batch normalisation, ReLU: the U-Net block. Height and width are kept."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        x = norm_act(self.conv1(x), self.bn1, "relu")
        return norm_act(self.conv2(x), self.bn2, "relu")


class Bottleneck(nn.Module):
    """Two 3x3 convolutions through `expansion * channels`, added to the input."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.reduce = ConvBnAct(channels, hidden, 3)
        self.expand = ConvBnAct(hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.expand(self.reduce(x))
        return out


class C3k(nn.Module):
    """Cross-stage partial block: one half through two bottlenecks, the other straight, joined by a 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.deep_in = ConvBnAct(channels, hidden)
        self.straight = ConvBnAct(channels, hidden)
        self.deep = nn.Sequential(Bottleneck(hidden, 1.0), Bottleneck(hidden, 1.0))
        self.join = ConvBnAct(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = self.join(torch.cat((self.deep(self.deep_in(x)), self.straight(x)), 1))
        return out


class C3k2(nn.Module):
    """YOLO11's main block: split in two, chain `repeats` inner blocks on one half, concatenate all stages, 1x1.

    The inner block is `C3k` where `deep`, otherwise a `Bottleneck` of half width.
    """

    def __init__(
        self, in_channels: int, out_channels: int, repeats: int, *, deep: bool, expansion: float = 0.5
    ) -> None:
        super().__init__()
        self.hidden = int(out_channels * expansion)
        self.split = ConvBnAct(in_channels, 2 * self.hidden)
        self.inner = nn.ModuleList(C3k(self.hidden) if deep else Bottleneck(self.hidden, 0.5) for _ in range(repeats))
        self.join = ConvBnAct((2 + repeats) * self.hidden, out_channels)

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


class SPPF(nn.Module):
    """Spatial pyramid pooling, fast form: three chained 5x5 max-pools see 5, 9 and 13 cells (He et al. 2014)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = ConvBnAct(2 * channels, channels)

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

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        self.hidden = channels // 2
        self.split = ConvBnAct(channels, 2 * self.hidden)
        self.deep = nn.Sequential(*(PSABlock(self.hidden) for _ in range(repeats)))
        self.join = ConvBnAct(2 * self.hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        straight, deep = self.split(x).chunk(2, 1)
        out: Tensor = self.join(torch.cat((straight, self.deep(deep)), 1))
        return out


def fuse_conv_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with bias that equals `bn(conv(x))` in evaluation mode (weights folded in float64)."""
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("bn must keep running statistics to be folded into a convolution")
    fused = copy.deepcopy(conv)
    gain = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    shift = bn.bias.double() - bn.running_mean.double() * gain
    if conv.bias is not None:
        shift = shift + conv.bias.double() * gain
    weight = conv.weight.double() * gain.reshape(-1, 1, 1, 1)
    fused.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    fused.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    return fused


_CONV_BN_NAMES = (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"))


def fuse(model: ModuleT) -> ModuleT:
    """A copy in evaluation mode whose batch normalisations are folded into their convolutions.

    Same outputs up to rounding, fewer operations; for inference and export only (`save_weights` refuses it).
    """
    fused = copy.deepcopy(model).eval()
    for module, names, (conv, bn) in list(_pairs(fused)):
        setattr(module, names[0], fuse_conv_bn(conv, bn))
        setattr(module, names[1], nn.Identity())
    return fused


def count_fused_parameters(model: nn.Module) -> int:
    """How many parameters `fuse` would leave: a bias in place of each normalisation's two, unless there is one."""
    count = sum(p.numel() for p in model.parameters())
    for _, _, (conv, bn) in _pairs(model):
        count += (bn.num_features if conv.bias is None else 0) - sum(p.numel() for p in bn.parameters())
    return count


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, str], tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """Modules with a convolution and its normalisation, the names of both in the module, and both."""
    for module in model.modules():
        for names in _CONV_BN_NAMES:
            conv, bn = (getattr(module, name, None) for name in names)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                yield module, names, (conv, bn)
