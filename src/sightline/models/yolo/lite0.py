"""A detector on EfficientNet-Lite0: its trunk, which has ImageNet weights under a permissive licence, with the neck and
the head of YOLO11n.

Source: Tan and Le, "EfficientNet" (2019), and the Lite variants Google published in 2020, as facts: widths, kernels,
repeats, clipped ReLU in place of SiLU, no squeeze and excitation, padding as TensorFlow's SAME. Its parameters are
those of the published weights, tensor by tensor.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from sightline.models.blocks import YOLO_BN_EPS, ConvBnAct
from sightline.models.fused_norm import Activation, norm_act
from sightline.models.yolo.blocks import SPPF, C3k2
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.plan import Row, neck

__all__ = [
    "INPUT_MEAN",
    "INPUT_STD",
    "TRUNK",
    "TRUNK_ROWS",
    "ClippedConv",
    "InvertedBottleneck",
    "Lite0Detector",
    "plan",
]

INPUT_MEAN, INPUT_STD = 127 / 255, 128 / 255
"""What the trunk was trained with: (value - 127) / 128 of values up to 255."""
TRUNK_ROWS = ("stem", "stage1", "stage2", "stage3", "deep4", "stage4", "deep5", "stage5")
TRUNK = tuple(f"{row}." for row in TRUNK_ROWS)
"""What tensors of the trunk start with."""
_MOMENTUM = 0.01
_CEILING = 6.0
_EXPANSION = 6


class ClippedConv(nn.Module):
    """Convolution, batch normalisation and ReLU up to 6 (or none).

    With stride 2 the picture grows by less at its left and top than at its right and bottom, as TensorFlow's SAME does
    for even sizes, the only ones there are here.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False
    ) -> None:
        super().__init__()
        around = kernel - stride
        self.before, self.after = around // 2, around - around // 2
        groups = in_channels if depthwise else 1
        padding = self.before if stride == 1 else 0
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=YOLO_BN_EPS, momentum=_MOMENTUM)
        self.activation: Activation = "relu"
        self.clipped = True

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H / stride, W / stride)."""
        if self.conv.stride[0] > 1:
            x = functional.pad(x, (self.before, self.after, self.before, self.after))
        out = norm_act(self.conv(x), self.bn, self.activation)
        return out.clamp(max=_CEILING) if self.clipped else out


class InvertedBottleneck(nn.Module):
    """Widen, a depthwise convolution, narrow again without activation; added to the input where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ClippedConv(in_channels, hidden) if expansion > 1 else nn.Identity()
        self.depthwise = ClippedConv(hidden, hidden, kernel, stride, depthwise=True)
        self.project = ClippedConv(hidden, out_channels)
        self.project.activation, self.project.clipped = "none", False
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H / stride, W / stride)."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.shortcut else out


def _stage(
    in_channels: int, out_channels: int, *, repeats: int, kernel: int, stride: int = 1, expansion: int = _EXPANSION
) -> nn.Sequential:
    first = InvertedBottleneck(in_channels, out_channels, kernel, stride, expansion)
    others = (InvertedBottleneck(out_channels, out_channels, kernel, 1, expansion) for _ in range(repeats - 1))
    return nn.Sequential(first, *others)


class Lite0Detector(YoloDetector):
    """A detector of the rows of `plan`, fed as their trunk was trained."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        values = {"mean": (INPUT_MEAN,) * 3, "std": (INPUT_STD,) * 3}
        self.preprocess = self.preprocess.model_copy(update=values)
        self.trunk = ("lite0", TRUNK)


def plan(_: None = None) -> tuple[Row, ...]:
    """The rows; there is one size."""
    down = partial(ConvBnAct, kernel=3, stride=2)
    merge, late = partial(C3k2, repeats=1, deep=False), partial(C3k2, repeats=1, deep=True)
    return (
        Row("stem", partial(ClippedConv, kernel=3, stride=2), 32),
        Row("stage1", partial(_stage, repeats=1, kernel=3, expansion=1), 16),
        Row("stage2", partial(_stage, repeats=2, kernel=3, stride=2), 24),
        Row("stage3", partial(_stage, repeats=2, kernel=5, stride=2), 40),
        Row("deep4", partial(_stage, repeats=3, kernel=3, stride=2), 80),
        Row("stage4", partial(_stage, repeats=3, kernel=5), 112),
        Row("deep5", partial(_stage, repeats=4, kernel=5, stride=2), 192),
        Row("stage5", partial(_stage, repeats=1, kernel=3), 320),
        Row("pool5", SPPF, 256),
        *neck("pool5", (64, 128, 256), (merge, merge, merge, late), (down, down)),
    )
