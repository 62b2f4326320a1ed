"""ENet (Paszke et al. 2016): early down-sampling, bottlenecks with dilated and asymmetric convolutions."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.segment.upsampling import PoolWithPlaces, unpool

__all__ = ["ENet"]

_REDUCTION = 4
_EARLY_DROPOUT, _DROPOUT = 0.01, 0.1  # table 1's bottlenecks 1.x, and those behind
Kind = Literal["plain", "asymmetric"] | int
"""Of a bottleneck's middle: 3x3, 5x1 and 1x5, or a 3x3 of this dilation."""
_SECTION: tuple[Kind, ...] = ("plain", 2, "asymmetric", 4, "plain", 8, "asymmetric", 16)


def _norm(conv: nn.Module, channels: int, activation: Callable[[int], nn.Module] | None) -> nn.Sequential:
    parts = [conv, nn.BatchNorm2d(channels)]
    return nn.Sequential(*parts, activation(channels)) if activation is not None else nn.Sequential(*parts)


def _relu(channels: int) -> nn.Module:
    return nn.ReLU()


class _Initial(nn.Module):
    """A 3x3 of stride 2 beside the pooled image: 16 maps at half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beside = nn.Conv2d(channels, 16 - channels, 3, 2, 1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(16), nn.PReLU(16)

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.act(self.norm(torch.cat((self.beside(x), functional.max_pool2d(x, 2)), 1)))
        return joined


class _Bottleneck(nn.Module):
    """1x1 to a quarter, the middle, 1x1 back, dropout of whole maps; added to the input."""

    def __init__(
        self, channels: int, dropout: float, kind: Kind = "plain", act: Callable[[int], nn.Module] = nn.PReLU
    ) -> None:
        super().__init__()
        width = channels // _REDUCTION
        self.reduce = _norm(nn.Conv2d(channels, width, 1, bias=False), width, act)
        self.middle = _norm(_middle(width, kind), width, act)
        self.expand = _norm(nn.Conv2d(width, channels, 1, bias=False), channels, None)
        self.drop, self.act = nn.Dropout2d(dropout), act(channels)

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.act(x + self.drop(self.expand(self.middle(self.reduce(x)))))
        return summed


def _middle(width: int, kind: Kind) -> nn.Module:
    if kind == "asymmetric":
        down = nn.Conv2d(width, width, (5, 1), padding=(2, 0), bias=False)
        return nn.Sequential(down, nn.Conv2d(width, width, (1, 5), padding=(0, 2)))
    dilation = kind if isinstance(kind, int) else 1
    return nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)


class _Down(nn.Module):
    """A bottleneck that begins with a 2x2 of stride 2, beside pooling with zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        width = in_channels // _REDUCTION
        self.reduce = _norm(nn.Conv2d(in_channels, width, 2, 2, bias=False), width, nn.PReLU)
        self.middle = _norm(_middle(width, "plain"), width, nn.PReLU)
        self.expand = _norm(nn.Conv2d(width, out_channels, 1, bias=False), out_channels, None)
        self.drop, self.act, self.pool = nn.Dropout2d(dropout), nn.PReLU(out_channels), PoolWithPlaces()
        self.new = out_channels - in_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, places = self.pool(x)
        pooled = functional.pad(pooled, (0, 0, 0, 0, 0, self.new))
        return self.act(pooled + self.drop(self.expand(self.middle(self.reduce(x))))), places


class _Up(nn.Module):
    """A bottleneck whose middle is a transposed convolution, beside unpooling where the encoder pooled."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        width = in_channels // _REDUCTION
        self.main = _norm(nn.Conv2d(in_channels, out_channels, 1, bias=False), out_channels, None)
        self.reduce = _norm(nn.Conv2d(in_channels, width, 1, bias=False), width, _relu)
        self.middle = _norm(nn.ConvTranspose2d(width, width, 3, 2, 1, 1), width, _relu)
        self.expand = _norm(nn.Conv2d(width, out_channels, 1, bias=False), out_channels, None)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        inside = self.drop(self.expand(self.middle(self.reduce(x))))
        return functional.relu(unpool(self.main(x), places) + inside)


class ENet(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 8."""

    multiple = 8
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.initial = _Initial(channels)
        self.down1 = _Down(16, 64, _EARLY_DROPOUT)
        self.section1 = nn.Sequential(*(_Bottleneck(64, _EARLY_DROPOUT) for _ in range(4)))
        self.down2 = _Down(64, 128, _DROPOUT)
        self.sections = nn.Sequential(*(_Bottleneck(128, _DROPOUT, kind) for kind in 2 * _SECTION))
        self.up1 = _Up(128, 64, _DROPOUT)
        self.back1 = nn.Sequential(*(_Bottleneck(64, _DROPOUT, act=_relu) for _ in range(2)))
        self.up2 = _Up(64, 16, _DROPOUT)
        self.back2 = _Bottleneck(16, _DROPOUT, act=_relu)
        self.head = nn.ConvTranspose2d(16, outputs, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        x, first = self.down1(self.initial(images))
        x, second = self.down2(self.section1(x))
        x = self.back1(self.up1(self.sections(x), second))
        logits: Tensor = self.head(self.back2(self.up2(x, first)))
        return logits
