"""Networks on VGG-16 (Simonyan and Zisserman 2015), with batch normalisation: FCN and SegNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.errors import ConfigError
from sightline.models.resnet import NormConv
from sightline.models.segment.segmenter import ClassWeights, Segmenter
from sightline.models.segment.upsampling import PoolWithPlaces, bilinear_kernel, unpool

__all__ = ["FCN", "SegNet", "build_fcn"]

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of 3x3 convolutions of each stage; each ends in pooling."""
_FULLY_CONNECTED = 7
_MAX_WIDTH = 4096


def _stages(channels: int) -> nn.ModuleList:
    stages = nn.ModuleList()
    for width, count in _STAGES:
        inputs = (channels, *[width] * (count - 1))
        stages.append(nn.Sequential(*(NormConv(before, width, 3) for before in inputs)))
        channels = width
    return stages


class FCN(nn.Module):
    """Fully convolutional network (Shelhamer, Long, Darrell 2017): scores at stride 32, made larger and summed.

    `stride` 32 uses the last scores alone, 16 and 8 add those of the fourth and the third pooling on the way. The
    enlarging convolutions start bilinear; the last is not learnt. VGG's fully connected layers are convolutions of
    `fc_width`. The input is padded at each convolution, not by 100 pixels at once.
    """

    multiple = 32

    def __init__(self, channels: int, outputs: int, *, stride: int, fc_width: int) -> None:
        super().__init__()
        self.stages = _stages(channels)
        self.connected = nn.Sequential(
            NormConv(_STAGES[-1][0], fc_width, _FULLY_CONNECTED), nn.Dropout2d(), NormConv(fc_width, fc_width),
            nn.Dropout2d(),
        )  # fmt: skip
        self.score = nn.Conv2d(fc_width, outputs, 1)
        from_stages = {32: (), 16: (3,), 8: (3, 2)}[stride]
        self.from_stages: tuple[int, ...] = from_stages
        self.skips = nn.ModuleList(nn.Conv2d(_STAGES[number][0], outputs, 1) for number in from_stages)
        self.ups = nn.ModuleList(_bilinear(outputs, 2) for _ in from_stages)
        self.last = _bilinear(outputs, stride, apart=True).requires_grad_(False)
        self.class_parts = ("score.", "skips.", "ups.", "last.")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        pooled: list[Tensor] = []
        x = images
        for stage in self.stages:
            x = functional.max_pool2d(stage(x), 2)
            pooled.append(x)
        x = self.score(self.connected(x))
        for up, skip, number in zip(self.ups, self.skips, self.from_stages, strict=True):
            x = up(x) + skip(pooled[number])
        logits: Tensor = self.last(x)
        return logits


def _bilinear(channels: int, factor: int, *, apart: bool = False) -> nn.ConvTranspose2d:
    """Starts as bilinear upsampling; with `apart` each channel has a kernel of its own alone."""
    groups = channels if apart else 1
    up = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, groups=groups, bias=False)
    with torch.no_grad():
        up.weight.copy_(bilinear_kernel(1, factor).expand_as(up.weight) if apart else bilinear_kernel(channels, factor))
    return up


def build_fcn(
    name: str,
    class_names: tuple[str, ...],
    *,
    stride: int,
    imgsz: int | tuple[int, int] = 256,
    fc_width: int = 4096,
    channels: int = 3,
    loss: str = "ce+dice",
    class_weights: ClassWeights = (),
) -> Segmenter:
    """An FCN of `stride` 32, 16 or 8; `fc_width` is that of VGG's two fully connected layers."""
    if stride not in (32, 16, 8):
        raise ConfigError(f"stride must be 32, 16 or 8, got {stride}")
    if not 1 <= fc_width <= _MAX_WIDTH:
        raise ConfigError(f"fc_width must be 1..{_MAX_WIDTH}, got {fc_width}")

    def network(inputs: int, outputs: int) -> FCN:
        return FCN(inputs, outputs, stride=stride, fc_width=fc_width)

    made = Segmenter(name, class_names, network, imgsz=imgsz, channels=channels, loss=loss, class_weights=class_weights)
    made.arguments |= {"stride": stride, "fc_width": fc_width}
    return made


class SegNet(nn.Module):
    """SegNet (Badrinarayanan et al. 2017): the way back mirrors the encoder and unpools where it pooled.

    (B, channels, H, W) -> logits (B, outputs, H, W), H and W multiples of 32.
    """

    multiple = 32
    class_parts = ("head.",)

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.stages = _stages(channels)
        self.pool = PoolWithPlaces()
        self.back = nn.ModuleList()
        widths = [width for width, _ in _STAGES]
        for number in reversed(range(len(_STAGES))):
            width, count = _STAGES[number]
            after = widths[number - 1] if number else width
            convs = [NormConv(width, width, 3) for _ in range(count - 1)]
            if number:
                convs.append(NormConv(width, after, 3))
            self.back.append(nn.Sequential(*convs))
        self.head = nn.Conv2d(widths[0], outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the size of the images."""
        places: list[Tensor] = []
        x = images
        for stage in self.stages:
            x, where = self.pool(stage(x))
            places.append(where)
        for stage, where in zip(self.back, reversed(places), strict=True):
            x = stage(unpool(x, where))
        logits: Tensor = self.head(x)
        return logits
