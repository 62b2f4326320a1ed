"""A network that gives each pixel a logit for each class, as a model of the contract."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.segment.losses import check_loss, segment_loss

__all__ = ["MAX_CLASSES", "ClassWeights", "PixelNetwork", "Segmenter", "map_preprocess"]

ClassWeights: TypeAlias = tuple[float, ...] | Literal["balanced"]
"""One for each class, none for equal ones; "balanced" until training has counted its masks."""


MAX_CLASSES = 255  # 255 marks ignored pixels

# Statistics of natural photographs (ImageNet's training images, RGB in 0..1), the usual choice of the field.
PHOTO_MEAN = (0.485, 0.456, 0.406)
PHOTO_STD = (0.229, 0.224, 0.225)
GRAY_MEAN, GRAY_STD = (0.449,), (0.226,)  # their means


class PixelNetwork(Protocol):
    """What a network must offer: images (B, `channels`, H, W) -> logits (B, `outputs`, H, W).

    H and W are multiples of `multiple`; `class_parts` are the prefixes of the tensors that depend on the classes. Where
    it has a `known_trunk`, which weights of its own start (its name, prefixes of its tensors), `fed_mean_std` is what
    that was fed with.
    """

    multiple: int
    class_parts: tuple[str, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """As `forward`."""
        ...


class Segmenter(nn.Module):
    """`network(channels, outputs)` with its loss. Two classes have one logit, of the second; more have one each.

    `loss` joins terms of `SEGMENT_LOSSES` by "+"; `class_weights` are those of its pixel-wise terms; `channels` 1 feeds
    gray. Images are letterboxed, so that thin structures keep their shape; the mask ignores the padding.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        network: Callable[[int, int], nn.Module],
        *,
        imgsz: int | tuple[int, int],
        channels: int = 3,
        loss: str = "ce+dice",
        class_weights: ClassWeights = (),
    ) -> None:
        super().__init__()
        count = len(class_names)
        if not 2 <= count <= MAX_CLASSES:
            raise ConfigError(f"class_names must hold 2..{MAX_CLASSES} names, background included, got {count}")
        if channels not in (1, 3):
            raise ConfigError(f"channels must be 3 (colour) or 1 (gray), got {channels}")
        self.terms = check_loss(loss, count, class_weights)
        self.network = network(channels, 1 if count == 2 else count)
        facts = cast("PixelNetwork", self.network)
        self.name = name
        self.task: Task = "semantic"
        self.class_names = class_names
        fed: tuple[float, float] | None = getattr(self.network, "fed_mean_std", None)
        self.preprocess = map_preprocess(check_imgsz(imgsz, facts.multiple), channels, fed)
        trunk: tuple[str, tuple[str, ...]] | None = getattr(self.network, "known_trunk", None)
        self.trunk = None if trunk is None else (trunk[0], tuple(f"network.{part}" for part in trunk[1]))
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "channels": channels, "loss": loss}
        self.arguments["class_weights"] = class_weights
        self.class_tensors = tuple(f"network.{part}" for part in facts.class_parts)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, H, W) for two classes, (B, C, H, W) for more."""
        check_input(images, cast("PixelNetwork", self.network).multiple)
        logits: Tensor = self.network(images)
        return logits

    def loss(self, raw: Tensor, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """The terms of `loss` by name, 'ce' as 'bce' for two classes; means over the batch's counted pixels."""
        check_targets(self.task, targets, len(self.class_names))
        weights: ClassWeights = self.arguments["class_weights"]
        if weights == "balanced":
            do = "give class_weights as numbers; 'sightline train' counts them on the training masks"
            raise ConfigError(f"the class weights of '{self.name}' must be numbers by now, got 'balanced'", do=do)
        return segment_loss(raw, targets["mask"].to(raw.device), self.terms, weights, total)

    def decode(self, raw: Tensor) -> Tensor:
        """Probabilities (B, C, H, W), float32, summing to 1 over C."""
        if len(self.class_names) > 2:
            return raw.float().softmax(1)
        foreground = raw.float().sigmoid()
        return torch.cat((1 - foreground, foreground), 1)


def map_preprocess(
    size_hw: tuple[int, int], channels: int, fed_mean_std: tuple[float, float] | None = None
) -> Preprocess:
    """How a network of label maps is fed, unless its trunk was fed otherwise: as photographs, colour or gray."""
    if fed_mean_std is not None:
        mean, std = ((value,) * channels for value in fed_mean_std)
        return Preprocess(size_hw=size_hw, channels="gray" if channels == 1 else "rgb", mean=mean, std=std)
    if channels == 1:
        return Preprocess(size_hw=size_hw, channels="gray", mean=GRAY_MEAN, std=GRAY_STD)
    return Preprocess(size_hw=size_hw, mean=PHOTO_MEAN, std=PHOTO_STD)
