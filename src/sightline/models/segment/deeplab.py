"""DeepLab v3 and v3+ (Chen et al. 2017, 2018) on torchvision's ResNets and atrous pyramid.

torchvision is an extra, and slow to import: the networks are imported where they are made.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.resnet import NormConv
from sightline.models.segment.segmenter import ClassWeights, Segmenter
from sightline.models.torchvision_models import check_torchvision

__all__ = ["DeepLabV3", "DeepLabV3Plus", "build_deeplab"]

Backbone = Literal["resnet50", "resnet101"]
_DEEP, _SHALLOW = 2048, 256
_SHALLOW_WIDTH = 48  # of the shallow map in the decoder of v3+: more would outweigh the pyramid's
_WIDTH = 256


def _trunk(backbone: Backbone, channels: int, dilated: tuple[bool, bool, bool], keep: dict[str, str]) -> nn.Module:
    from torchvision.models import resnet
    from torchvision.models._utils import IntermediateLayerGetter

    made = {"resnet50": resnet.resnet50, "resnet101": resnet.resnet101}[backbone]
    whole = made(weights=None, replace_stride_with_dilation=list(dilated))
    if channels != whole.conv1.in_channels:
        whole.conv1 = nn.Conv2d(channels, whole.conv1.out_channels, 7, 2, 3, bias=False)
    trunk: nn.Module = IntermediateLayerGetter(whole, keep)
    return trunk


class DeepLabV3(nn.Module):
    """Maps at stride 8, the pyramid of dilations 12, 24, 36, bilinear to the size of the images."""

    multiple = 8

    def __init__(self, channels: int, outputs: int, *, backbone: Backbone) -> None:
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        super().__init__()
        self.trunk = _trunk(backbone, channels, (False, True, True), {"layer4": "out"})
        self.head = DeepLabHead(_DEEP, outputs)
        self.class_parts = ("head.4.",)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        x: Tensor = self.head(self.trunk(images)["out"])
        return functional.interpolate(x, size=images.shape[2:], mode="bilinear", align_corners=False)


class DeepLabV3Plus(nn.Module):
    """Maps at stride 16, the pyramid of dilations 6, 12, 18, joined at stride 4 with the first stage's, two 3x3."""

    multiple = 16
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int, *, backbone: Backbone) -> None:
        from torchvision.models.segmentation.deeplabv3 import ASPP

        super().__init__()
        self.trunk = _trunk(backbone, channels, (False, False, True), {"layer1": "shallow", "layer4": "out"})
        self.pyramid = ASPP(_DEEP, [6, 12, 18], _WIDTH)
        self.shallow = NormConv(_SHALLOW, _SHALLOW_WIDTH)
        self.fuse = nn.Sequential(NormConv(_WIDTH + _SHALLOW_WIDTH, _WIDTH, 3), NormConv(_WIDTH, _WIDTH, 3))
        self.head = nn.Conv2d(_WIDTH, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        maps = self.trunk(images)
        shallow = self.shallow(maps["shallow"])
        x = self.pyramid(maps["out"])
        x = functional.interpolate(x, size=shallow.shape[2:], mode="bilinear", align_corners=False)
        x = self.head(self.fuse(torch.cat((x, shallow), 1)))
        return functional.interpolate(x, size=images.shape[2:], mode="bilinear", align_corners=False)


def build_deeplab(
    name: str,
    class_names: tuple[str, ...],
    *,
    plus: bool,
    imgsz: int | tuple[int, int] = 512,
    backbone: Backbone = "resnet50",
    channels: int = 3,
    loss: str = "ce+dice",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """DeepLab v3, or with `plus` v3+, on a ResNet; MissingExtraError without torchvision."""
    check_torchvision(name)

    def network(inputs: int, outputs: int) -> nn.Module:
        return (DeepLabV3Plus if plus else DeepLabV3)(inputs, outputs, backbone=backbone)

    made = Segmenter(name, class_names, network, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)
    made.arguments |= {"plus": plus, "backbone": backbone}
    return made
