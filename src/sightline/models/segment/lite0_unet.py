"""A U-Net on EfficientNet-Lite0: the trunk of `lite0-yolo`, which has ImageNet weights, and a decoder of U-Net blocks.

Source: Ronneberger et al. 2015 (the shape), Tan and Le 2019 (the trunk, see `sightline.models.yolo.lite0`). The widths
of the decoder are ours.
"""

import torch
from torch import Tensor, nn

from sightline.models.blocks import DoubleConv
from sightline.models.yolo.lite0 import INPUT_MEAN, INPUT_STD, TRUNK, TRUNK_ROWS, plan

__all__ = ["Lite0UNet"]

_SKIPS = ("stage1", "stage2", "stage3", "stage4")
"""What the decoder reads beside the last stage: the last of strides 2, 4, 8 and 16."""
_WIDTHS = (128, 64, 32, 32, 16)
"""Of the decoder, the coarsest level first; the last one is at full resolution and reads no skip."""


class Lite0UNet(nn.Module):
    """The trunk down to stride 32, five levels up again: (B, channels, H, W) -> logits (B, outputs, H, W).

    It is fed as its trunk was trained, so that `weights=lite0` starts it from ImageNet.
    """

    multiple = 32
    class_parts = ("head.",)
    known_trunk = ("lite0", TRUNK)
    fed_mean_std = (INPUT_MEAN, INPUT_STD)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        widths, above = {}, channels
        for row in plan()[: len(TRUNK_ROWS)]:
            self.add_module(row.name, row.make(above, row.channels))
            widths[row.name] = above = row.channels
        beside = [widths[skip] for skip in reversed(_SKIPS)] + [0]
        below = [above, *_WIDTHS]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in zip(below, _WIDTHS, strict=False))
        self.decoders = nn.ModuleList(DoubleConv(w + skip, w) for w, skip in zip(_WIDTHS, beside, strict=True))
        self.head = nn.Conv2d(_WIDTHS[-1], outputs, 1)
        for module in self.decoders.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        skips: dict[str, Tensor] = {}
        x = images
        for row in TRUNK_ROWS:
            x = self.get_submodule(row)(x)
            if row in _SKIPS:
                skips[row] = x
        given = [skips[name] for name in reversed(_SKIPS)]
        for level, (up, decoder) in enumerate(zip(self.ups, self.decoders, strict=True)):
            x = up(x)
            x = decoder(torch.cat((given[level], x), 1) if level < len(given) else x)
        logits: Tensor = self.head(x)
        return logits
