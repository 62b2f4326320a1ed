"""A U-Net on ResNet-50: deep context from the trunk, precision from its early maps, bilinear on the way back."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.blocks import DoubleConv
from sightline.models.resnet import RESNET50_CHANNELS, resnet50_stages

__all__ = ["ResNetUNet"]

_SKIPS = (1024, 512, 256, 64)
_WIDTHS = (256, 128, 64, 32, 16)


class ResNetUNet(nn.Module):
    """(B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32."""

    multiple = 32
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(resnet50_stages(channels))
        before = (RESNET50_CHANNELS, *_WIDTHS[:-1])
        self.decoders = nn.ModuleList(
            DoubleConv(i + skip, o) for i, skip, o in zip(before, (*_SKIPS, 0), _WIDTHS, strict=True)
        )
        self.head = nn.Conv2d(_WIDTHS[-1], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        enter, pool = cast("nn.Sequential", self.stages[0])
        x = enter(images)
        skips = [x]
        x = pool(x)
        for stage in list(self.stages)[1:]:
            x = stage(x)
            skips.append(x)
        for decoder, skip in zip(self.decoders, (*reversed(skips[:-1]), None), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = decoder(x if skip is None else torch.cat((x, skip), 1))
        logits: Tensor = self.head(x)
        return logits
