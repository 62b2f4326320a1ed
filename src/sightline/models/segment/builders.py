"""The segmentation networks by name, each as a builder of the registry."""

from collections.abc import Callable
from functools import partial

from torch import nn

from sightline.models.segment.deeplab import build_deeplab
from sightline.models.segment.dff_unet import DFFUNet
from sightline.models.segment.enet import ENet
from sightline.models.segment.lite0_unet import Lite0UNet
from sightline.models.segment.litefusionnet import LiteFusionNet
from sightline.models.segment.resnet_unet import ResNetUNet
from sightline.models.segment.segmenter import ClassWeights, Segmenter
from sightline.models.segment.ulite import ULite
from sightline.models.segment.unet import build_unet
from sightline.models.segment.vgg import SegNet, build_fcn

__all__ = ["SEGMENTERS"]


def _build(
    network: Callable[[int, int], nn.Module],
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 256,
    channels: int = 3,
    loss: str = "ce+dice",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """A network whose shape is all fixed."""
    return Segmenter(name, class_names, network, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)


SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "unet": partial(build_unet, "unet"),
    "unet-small": partial(build_unet, "unet-small", base_width=16),
    "lite0-unet": partial(_build, Lite0UNet, "lite0-unet"),
    "dff-unet": partial(_build, DFFUNet, "dff-unet"),
    "litefusionnet": partial(_build, LiteFusionNet, "litefusionnet", imgsz=320),
    "ulite": partial(_build, ULite, "ulite"),
    "enet": partial(_build, ENet, "enet"),
    "segnet": partial(_build, SegNet, "segnet"),
    "fcn32s": partial(build_fcn, "fcn32s", stride=32),
    "fcn16s": partial(build_fcn, "fcn16s", stride=16),
    "fcn8s": partial(build_fcn, "fcn8s", stride=8),
    "deeplabv3": partial(build_deeplab, "deeplabv3", plus=False),
    "deeplabv3plus": partial(build_deeplab, "deeplabv3plus", plus=True),
    "resnet50-unet": partial(_build, ResNetUNet, "resnet50-unet", imgsz=512, channels=1),
}
