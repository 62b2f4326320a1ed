"""U-Net (Ronneberger et al., 2015) with padded convolutions and batch normalisation, in variants of its block."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.errors import ConfigError
from sightline.models.blocks import DoubleConv
from sightline.models.resnet import NormConv
from sightline.models.segment.segmenter import ClassWeights, Segmenter
from sightline.models.segment.upsampling import Upsampling, upsampler

__all__ = ["BLOCKS", "Block", "UNet", "build_unet"]

MAX_BASE_WIDTH = 512
MAX_LEVELS = 7
Block = Literal["plain", "residual", "inception", "dense"]


class ResidualBlock(nn.Module):
    """A `DoubleConv` whose input, through a 1x1 where channels change, is added before the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = NormConv(in_channels, out_channels, 3)
        self.second = NormConv(out_channels, out_channels, 3, activation="none")
        same = in_channels == out_channels
        self.adapt: nn.Module = nn.Identity() if same else NormConv(in_channels, out_channels, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        return functional.relu(self.adapt(x) + self.second(self.first(x)))


class InceptionBlock(nn.Module):
    """1x1, 3x3, two 3x3, and pooling side by side, a quarter of the channels each; joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = max(1, out_channels // 4)
        self.point = NormConv(in_channels, width)
        self.three = nn.Sequential(NormConv(in_channels, width), NormConv(width, width, 3))
        self.five = nn.Sequential(NormConv(in_channels, width), NormConv(width, width, 3), NormConv(width, width, 3))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), NormConv(in_channels, width))
        self.join = NormConv(4 * width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        joined: Tensor = self.join(torch.cat((self.point(x), self.three(x), self.five(x), self.pooled(x)), 1))
        return joined


class DenseBlock(nn.Module):
    """Two 3x3 of half the channels, each of all maps before it; joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        growth = max(1, out_channels // 2)
        self.first = NormConv(in_channels, growth, 3)
        self.second = NormConv(in_channels + growth, growth, 3)
        self.join = NormConv(in_channels + 2 * growth, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        x = torch.cat((x, self.first(x)), 1)
        joined: Tensor = self.join(torch.cat((x, self.second(x)), 1))
        return joined


BLOCKS: dict[Block, Callable[[int, int], nn.Module]] = {
    "plain": DoubleConv,
    "residual": ResidualBlock,
    "inception": InceptionBlock,
    "dense": DenseBlock,
}


class UNet(nn.Module):
    """`levels` of `base_width` x 1, 2, 4, …, each halved by pooling, a bottleneck, and the way back with the skips.

    Input (B, C, H, W), H and W multiples of 2 to the power of `levels`; logits of the same size. What one output pixel
    sees along the encoder is 5, 14, 32, 68, 140, 284 pixels on a side at level 1, 2, … (two 3x3, then pooling).
    """

    class_parts = ("head.",)

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        base_width: int = 32,
        levels: int = 5,
        block: Block = "plain",
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.multiple = 2**levels
        widths = [base_width * 2**level for level in range(levels)]
        make = BLOCKS[block]
        self.encoders = nn.ModuleList(
            make(before, width) for before, width in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = make(widths[-1], 2 * widths[-1])
        self.ups = nn.ModuleList(upsampler(2 * width, width, upsampling) for width in reversed(widths))
        self.decoders = nn.ModuleList(make(2 * width, width) for width in reversed(widths))
        self.head = nn.Conv2d(base_width, outputs, 1)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. (2015) before ReLU; the head keeps torch's start (a near-zero one collapses to background)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, outputs, H, W)."""
        skips: list[Tensor] = []
        x = images
        for encoder in self.encoders:
            skips.append(encoder(x))
            x = self.pool(skips[-1])
        x = self.bottleneck(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(torch.cat((skip, up(x)), 1))
        logits: Tensor = self.head(x)
        return logits


def build_unet(
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 256,
    base_width: int = 32,
    levels: int = 5,
    block: Block = "plain",
    upsampling: Upsampling = "transposed",
    channels: int = 3,
    loss: str = "ce+dice",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """A U-Net whose widths double from `base_width` at full resolution, `levels` times halved."""
    if not 1 <= base_width <= MAX_BASE_WIDTH:
        raise ConfigError(f"base_width must be 1..{MAX_BASE_WIDTH}, got {base_width}")
    if not 1 <= levels <= MAX_LEVELS:
        raise ConfigError(f"levels must be 1..{MAX_LEVELS}, got {levels}")

    def network(inputs: int, outputs: int) -> UNet:
        return UNet(inputs, outputs, base_width=base_width, levels=levels, block=block, upsampling=upsampling)

    made = Segmenter(name, class_names, network, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)
    made.arguments |= {"base_width": base_width, "levels": levels, "block": block, "upsampling": upsampling}
    return made
