"""U-Net (Ronneberger et al., 2015) with padded convolutions and batch normalisation, and its loss.

The loss is cross-entropy plus soft Dice (Milletari et al., V-Net, 2016) over the pooled pixels of the batch, so that
images without foreground are sound; pixels marked as ignored never count.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.preprocess import Preprocess
from sightline.models.blocks import DoubleConv
from sightline.models.contract import IGNORE_INDEX, Targets, Total, check_imgsz, check_input, check_targets, own_share

__all__ = ["Segmenter", "UNet", "binary_loss", "multiclass_loss", "soft_dice"]

DICE_SMOOTHING = 1.0
"""Pixels added to both sides of the ratio: keeps it defined and its gradient small where a class is absent."""


def soft_dice(probabilities: Tensor, truth: Tensor, total: Total = own_share) -> Tensor:
    """Dice coefficient per class, in (0, 1], 1 is best: probabilities and one-hot truth, both (C, P) -> (C,)."""
    own = torch.stack(((probabilities * truth).sum(1), probabilities.sum(1) + truth.sum(1)))
    overlap, size = total(own).unbind(0)
    return (2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)


def binary_loss(logits: Tensor, mask: Tensor, total: Total = own_share) -> dict[str, Tensor]:
    """Terms `bce` (mean over counted pixels) and `dice` (1 - Dice of the foreground).

    `logits` (B, 1, H, W); `mask` (B, H, W) of 0, 1 and `IGNORE_INDEX`; `total` as for `Model.loss`.
    """
    with torch.autocast(logits.device.type, enabled=False):
        flat = logits.float().flatten()
        counted = (mask != IGNORE_INDEX).flatten().to(flat.dtype)
        truth = (mask == 1).flatten().to(flat.dtype)
        bce = (functional.binary_cross_entropy_with_logits(flat, truth, reduction="none") * counted).sum()
        dice = soft_dice((flat.sigmoid() * counted)[None], truth[None], total)
        bce, count = total(torch.stack((bce, counted.sum()))).unbind()
        return {"bce": bce / count.clamp(min=1), "dice": 1 - dice.mean()}


def multiclass_loss(logits: Tensor, mask: Tensor, total: Total = own_share) -> dict[str, Tensor]:
    """Terms `ce` (mean over counted pixels) and `dice` (1 - mean Dice of all classes).

    `logits` (B, C, H, W); `mask` (B, H, W) of 0..C-1 and `IGNORE_INDEX`; `total` as for `Model.loss`.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        counted = mask != IGNORE_INDEX
        safe = torch.where(counted, mask, 0)
        ce = (functional.cross_entropy(logits, safe, reduction="none") * counted).sum()
        weight = counted.to(logits.dtype).unsqueeze(1)
        truth = torch.zeros_like(logits).scatter_(1, safe.unsqueeze(1), weight)
        dice = soft_dice(_per_class(logits.softmax(1) * weight), _per_class(truth), total)
        ce, count = total(torch.stack((ce, weight.sum()))).unbind()
        return {"ce": ce / count.clamp(min=1), "dice": 1 - dice.mean()}


def _per_class(maps: Tensor) -> Tensor:
    return maps.transpose(0, 1).flatten(1)


LEVELS = 5
MULTIPLE = 2**LEVELS
MAX_CLASSES = 255  # 255 marks ignored pixels
MAX_BASE_WIDTH = 512

# Statistics of natural photographs (ImageNet's training images, RGB in 0..1), the usual choice of the field.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """What every network of label maps is around its `forward`: two classes give one logit (of the second class), more
    give one each. Images are letterboxed, so thin structures keep their shape; the padding is ignored in the loss by
    the mask.
    """

    head: nn.Module

    def __init__(self, name: str, class_names: tuple[str, ...], preprocess: Preprocess) -> None:
        super().__init__()
        if not 2 <= len(class_names) <= MAX_CLASSES:
            raise ConfigError(
                f"class_names must hold 2..{MAX_CLASSES} names, background included, got {len(class_names)}"
            )
        self.name = name
        self.task: Task = "semantic"
        self.class_names = class_names
        self.preprocess = preprocess
        self.class_tensors: tuple[str, ...] = ("head.",)

    def make_head(self, width: int) -> nn.Conv2d:
        """The last layer, from so many channels to logits."""
        return nn.Conv2d(width, 1 if len(self.class_names) == 2 else len(self.class_names), 1)

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


class UNet(Segmenter):
    """Five levels of `base_width` x (1, 2, 4, 8, 16), a bottleneck of x 32, transposed-convolution upsampling.

    Input (B, 3, H, W), H and W multiples of 32.
    """

    def __init__(
        self, name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int], base_width: int
    ) -> None:
        if not 1 <= base_width <= MAX_BASE_WIDTH:
            raise ConfigError(f"base_width must be 1..{MAX_BASE_WIDTH}, got {base_width}")
        preprocess = Preprocess(size_hw=check_imgsz(imgsz, MULTIPLE), mean=PHOTO_MEAN, std=PHOTO_STD)
        super().__init__(name, class_names, preprocess)
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "base_width": base_width}
        widths = [base_width * 2**level for level in range(LEVELS)]
        self.encoders = nn.ModuleList(
            DoubleConv(before, width) for before, width in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(widths[-1], 2 * widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths))
        self.decoders = nn.ModuleList(DoubleConv(2 * width, width) for width in reversed(widths))
        self.head = self.make_head(base_width)
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
