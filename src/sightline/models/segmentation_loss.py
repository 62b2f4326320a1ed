"""Loss of semantic segmentation: cross-entropy plus soft Dice, pixels marked as ignored never counting.

Dice loss: Milletari et al., V-Net (2016), over the pooled pixels of the batch, so images without foreground are sound.
"""

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.contract import IGNORE_INDEX, Total, own_share

__all__ = ["binary_loss", "multiclass_loss", "soft_dice"]

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
