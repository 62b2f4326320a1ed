"""U-Net (Ronneberger et al., 2015) with padded convolutions and batch normalisation."""

from typing import Any

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.preprocess import Preprocess
from sightline.models.blocks import DoubleConv
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.segmentation_loss import binary_loss, multiclass_loss

__all__ = ["UNet"]

LEVELS = 5
MULTIPLE = 2**LEVELS
MAX_CLASSES = 255  # 255 marks ignored pixels
MAX_BASE_WIDTH = 512

# Statistics of natural photographs (ImageNet's training images, RGB in 0..1), the usual choice of the field.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)


class UNet(nn.Module):
    """Five levels of `base_width` x (1, 2, 4, 8, 16), a bottleneck of x 32, transposed-convolution upsampling.

    Input (B, 3, H, W), H and W multiples of 32. Two classes give one logit (of the second class), more give one each.
    Images are letterboxed, so thin structures keep their shape; the padding is ignored in the loss by the mask.
    """

    def __init__(
        self, name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int], base_width: int
    ) -> None:
        super().__init__()
        if not 2 <= len(class_names) <= MAX_CLASSES:
            raise ConfigError(
                f"class_names must hold 2..{MAX_CLASSES} names, background included, got {len(class_names)}"
            )
        if not 1 <= base_width <= MAX_BASE_WIDTH:
            raise ConfigError(f"base_width must be 1..{MAX_BASE_WIDTH}, got {base_width}")
        self.name = name
        self.task: Task = "semantic"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, MULTIPLE), mean=PHOTO_MEAN, std=PHOTO_STD)
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "base_width": base_width}
        self.class_tensors: tuple[str, ...] = ("head.",)
        widths = [base_width * 2**level for level in range(LEVELS)]
        self.encoders = nn.ModuleList(
            DoubleConv(before, width) for before, width in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(widths[-1], 2 * widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths))
        self.decoders = nn.ModuleList(DoubleConv(2 * width, width) for width in reversed(widths))
        self.head = nn.Conv2d(base_width, 1 if len(class_names) == 2 else len(class_names), 1)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. (2015) before ReLU; the head keeps torch's start (a near-zero one collapses to background)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, H, W) for two classes, (B, C, H, W) for more."""
        check_input(images, MULTIPLE)
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

    def loss(self, raw: Tensor, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `bce` and `dice` for two classes, `ce` and `dice` for more; means over the batch's counted pixels."""
        check_targets(self.task, targets, len(self.class_names))
        mask = targets["mask"].to(raw.device)
        return (binary_loss if len(self.class_names) == 2 else multiclass_loss)(raw, mask, total)

    def decode(self, raw: Tensor) -> Tensor:
        """Probabilities (B, C, H, W), float32, summing to 1 over C."""
        if len(self.class_names) == 2:
            foreground = raw.float().sigmoid()
            return torch.cat((1 - foreground, foreground), 1)
        return raw.float().softmax(1)
