"""What label maps are learnt by: terms on logits, each with a part of the batch, pixels that do not count, and classes.

A term takes `Pixels` and gives a scalar; `segment_loss` adds nothing up, it names them. Two classes have one logit, of
the second class, and the terms of one foreground; more classes have a logit each, and the mean over all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sightline.core.errors import ConfigError, unknown_name
from sightline.models.contract import IGNORE_INDEX, Total, own_share

__all__ = ["SEGMENT_LOSSES", "Pixels", "check_loss", "segment_loss", "soft_dice"]

DICE_SMOOTHING = 1.0
"""Pixels added to both sides of the ratio: keeps it defined and its gradient small where a class is absent."""
FOCAL_GAMMA = 2.0
TVERSKY_FALSE_POSITIVE, TVERSKY_FALSE_NEGATIVE = 0.3, 0.7
"""What a wrong and a missing pixel cost: Salehi et al. (2017) prefer sensitivity."""


@dataclass(frozen=True)
class Pixels:
    """Logits (B, 1, H, W) or (B, C, H, W) float32 and masks (B, H, W) of class ids and `IGNORE_INDEX`.

    `weights` are those of the classes, none for equal ones; `total` as for `Model.loss`.
    """

    logits: Tensor
    mask: Tensor
    weights: tuple[float, ...] = ()
    total: Total = own_share

    @property
    def is_binary(self) -> bool:
        """Whether there is one logit for two classes."""
        return self.logits.shape[1] == 1

    @cached_property
    def counted(self) -> Tensor:
        """(B, 1, H, W), 1 where a pixel counts."""
        return (self.mask != IGNORE_INDEX).unsqueeze(1).to(self.logits.dtype)

    @cached_property
    def probabilities(self) -> Tensor:
        """As the logits: of the foreground, or of each class; 0 where a pixel does not count."""
        values = self.logits.sigmoid() if self.is_binary else self.logits.softmax(1)
        return values * self.counted

    @cached_property
    def truth(self) -> Tensor:
        """As the logits: 1 where a pixel is of the class, 0 elsewhere and where it does not count."""
        if self.is_binary:
            return (self.mask == 1).unsqueeze(1).to(self.logits.dtype)
        safe = torch.where(self.mask != IGNORE_INDEX, self.mask, 0).unsqueeze(1)
        return torch.zeros_like(self.logits).scatter_(1, safe, self.counted)

    @cached_property
    def log_likelihood(self) -> Tensor:
        """(B, H, W): the logarithm of the probability of the pixel's own class; 0 where it does not count."""
        if self.is_binary:
            signs = 2 * self.truth - 1
            values = functional.logsigmoid(self.logits * signs)[:, 0]
        else:
            values = (functional.log_softmax(self.logits, 1) * self.truth).sum(1)
        return values * self.counted[:, 0]

    @cached_property
    def pixel_weights(self) -> Tensor:
        """(B, H, W): the weight of the pixel's class, 0 where it does not count."""
        if not self.weights:
            return self.counted[:, 0]
        weights = self.logits.new_tensor(self.weights)
        return weights[torch.where(self.mask != IGNORE_INDEX, self.mask, 0)] * self.counted[:, 0]

    def mean(self, values: Tensor, weights: Tensor) -> Tensor:
        """Sum of `values` over that of `weights`, both over the whole batch; 0 where nothing counts."""
        top, below = self.total(torch.stack((values.sum(), weights.sum()))).unbind()
        return top / torch.where(below > 0, below, 1)


def soft_dice(probabilities: Tensor, truth: Tensor, total: Total = own_share) -> Tensor:
    """Dice coefficient per class, in (0, 1], 1 is best: probabilities and one-hot truth, both (C, P) -> (C,)."""
    own = torch.stack(((probabilities * truth).sum(1), probabilities.sum(1) + truth.sum(1)))
    overlap, size = total(own).unbind(0)
    return (2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)


def _per_class(maps: Tensor) -> Tensor:
    return maps.transpose(0, 1).flatten(1)


def _cross_entropy(pixels: Pixels) -> Tensor:
    """Mean over the counted pixels, each with the weight of its class."""
    return pixels.mean(-pixels.log_likelihood * pixels.pixel_weights, pixels.pixel_weights)


def _dice(pixels: Pixels) -> Tensor:
    """1 - soft Dice (Milletari et al., V-Net, 2016) of the pooled pixels of the batch: sound without foreground."""
    return 1 - soft_dice(_per_class(pixels.probabilities), _per_class(pixels.truth), pixels.total).mean()


def _dice_image(pixels: Pixels) -> Tensor:
    """1 - soft Dice of each image, a mean over images: a small object counts as much as a large one."""
    overlap = (pixels.probabilities * pixels.truth).sum((2, 3))
    size = (pixels.probabilities + pixels.truth).sum((2, 3))
    dice = ((2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)).mean(1)
    known = (pixels.counted.sum((1, 2, 3)) > 0).to(dice.dtype)
    return pixels.mean((1 - dice) * known, known)


def _focal(pixels: Pixels) -> Tensor:
    """Cross-entropy times (1 - p)^2 (Lin et al. 2017): pixels that are right already count little."""
    factor = (1 - pixels.log_likelihood.exp()) ** FOCAL_GAMMA
    return pixels.mean(-factor * pixels.log_likelihood * pixels.pixel_weights, pixels.pixel_weights)


def _tversky(pixels: Pixels) -> Tensor:
    """1 - Tversky index (Salehi et al. 2017): Dice with a missing pixel dearer than a wrong one."""
    found, truth = _per_class(pixels.probabilities), _per_class(pixels.truth)
    own = torch.stack(((found * truth).sum(1), found.sum(1), truth.sum(1)))
    overlap, found_size, size = pixels.total(own).unbind(0)
    wrong, missing = found_size - overlap, size - overlap
    cost = TVERSKY_FALSE_POSITIVE * wrong + TVERSKY_FALSE_NEGATIVE * missing
    return 1 - ((overlap + DICE_SMOOTHING) / (overlap + cost + DICE_SMOOTHING)).mean()


def _lovasz_gradient(sorted_truth: Tensor) -> Tensor:
    """How much the Jaccard loss grows with each error in order, (P,): Berman et al. (2018), algorithm 1."""
    size = sorted_truth.sum()
    union = size + (1 - sorted_truth).cumsum(0)
    jaccard = 1 - (size - sorted_truth.cumsum(0)) / union
    return torch.cat((jaccard[:1], jaccard.diff()))


def _lovasz(pixels: Pixels) -> Tensor:
    """The Lovász extension of 1 - IoU, a mean over images: the hinge for two classes, else of the softmax.

    Of more than two classes those an image has count.
    """
    own = []
    for logits, maps, truth, counted in zip(
        pixels.logits, pixels.probabilities, pixels.truth, pixels.counted[:, 0] > 0, strict=True
    ):
        if not bool(counted.any()):
            continue
        if pixels.is_binary:
            errors, right = 1 - logits[0][counted] * (2 * truth[0][counted] - 1), truth[0][counted]
            order = errors.argsort(descending=True)
            own.append((errors[order].relu() * _lovasz_gradient(right[order])).sum())
            continue
        classes = []
        for found, right in zip(maps[:, counted], truth[:, counted], strict=True):
            if bool(right.any()):
                errors = (right - found).abs()
                order = errors.argsort(descending=True)
                classes.append((errors[order] * _lovasz_gradient(right[order])).sum())
        own.append(torch.stack(classes).mean())
    sums = torch.stack(own) if own else 0 * pixels.logits.sum()[None]
    return pixels.mean(sums, pixels.logits.new_full((1,), float(len(own))))


def _signed_distances(truth: Tensor) -> Tensor:
    """Of each map (B, C, H, W) of 0 and 1 how far a pixel is from the class, negative inside, in shares of its
    longer side; 0 where the class is nowhere."""
    maps = truth.detach().cpu().numpy().astype(np.uint8)
    out = np.zeros(maps.shape, np.float32)
    for target, plane in zip(out.reshape(-1, *maps.shape[2:]), maps.reshape(-1, *maps.shape[2:]), strict=True):
        if plane.any() and not plane.all():
            outside = cv2.distanceTransform(1 - plane, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            inside = cv2.distanceTransform(plane, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            target[:] = (outside - inside) / max(plane.shape)
    return torch.from_numpy(out).to(truth.device)


def _boundary(pixels: Pixels) -> Tensor:
    """Probability times signed distance from the truth's boundary (Kervadec et al. 2019), a mean over what counts.

    It falls below zero where a class is found within its boundary. For thin, rare classes, beside another term.
    """
    values = pixels.probabilities * _signed_distances(pixels.truth)
    return pixels.mean(values, pixels.counted.expand_as(values))


SEGMENT_LOSSES: dict[str, Callable[[Pixels], Tensor]] = {
    "ce": _cross_entropy,
    "dice": _dice,
    "dice_image": _dice_image,
    "focal": _focal,
    "tversky": _tversky,
    "lovasz": _lovasz,
    "boundary": _boundary,
}
"""Terms by name; 'bce' is what 'ce' is called for two classes."""


def check_loss(loss: str, class_count: int, class_weights: tuple[float, ...] | str) -> tuple[str, ...]:
    """The terms of `loss` ("ce+dice"); ConfigError for one that is none, twice, or weights that do not fit."""
    terms = tuple("ce" if term == "bce" and class_count == 2 else term for term in loss.split("+"))
    for term in terms:
        if term not in SEGMENT_LOSSES:
            raise ConfigError(unknown_name("term of loss", term, SEGMENT_LOSSES), do="join terms by +, as ce+dice")
    if len(set(terms)) < len(terms):
        raise ConfigError(f"loss must name each term once, got '{loss}'")
    if terms == ("boundary",):
        message = (
            "boundary must stand beside another term, as it says nothing of images without the class, got it alone"
        )
        raise ConfigError(message, do="join terms by +, as ce+boundary")
    if class_weights and not {"ce", "focal"} & set(terms):
        message = f"class_weights are those of ce and focal, got the loss '{loss}'"
        raise ConfigError(message, do="add one of them, or leave the weights out")
    if isinstance(class_weights, str) or not class_weights:
        return terms
    sound = len(class_weights) == class_count and all(map(math.isfinite, class_weights))
    if not sound or min(class_weights) < 0 or max(class_weights) == 0:
        message = (
            f"class_weights must be {class_count} finite numbers of at least 0, not all 0, got {list(class_weights)}"
        )
        raise ConfigError(message)
    return terms


def segment_loss(logits: Tensor, mask: Tensor, terms: tuple[str, ...], weights: tuple[float, ...] = (),
                 total: Total = own_share) -> dict[str, Tensor]:  # fmt: skip
    """The terms by name, float32 scalars, each over the counted pixels of the whole batch.

    `logits` (B, 1, H, W) for two classes, else (B, C, H, W); `mask` (B, H, W) of class ids and `IGNORE_INDEX`.
    """
    with torch.autocast(logits.device.type, enabled=False):
        pixels = Pixels(logits.float(), mask, weights, total)
        named = {"bce" if term == "ce" and pixels.is_binary else term: SEGMENT_LOSSES[term] for term in terms}
        return {name: term(pixels) for name, term in named.items()}
