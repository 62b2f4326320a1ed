"""ResNet-50 as a trunk, and its bottleneck with dilation, from which DetNet's last stage is made.

Source: He et al., "Deep Residual Learning" (2016), the stride in the 3x3; Li et al., "DetNet" (2018).
"""

from torch import Tensor, nn
from torch.nn import functional

from sightline.models.fused_norm import Activation, norm_act

__all__ = ["RESNET50_CHANNELS", "DetNetBottleneck", "NormConv", "ResNetBottleneck", "resnet50_stages"]

RESNET50_CHANNELS = 2048
_EXPANSION = 4


class NormConv(nn.Module):
    """Convolution without bias, batch normalisation with torch's constants, ReLU or none."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        dilation: int = 1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        around = dilation * (kernel // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, around, dilation, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels)
        self.activation: Activation = activation
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H / stride, W / stride)."""
        return norm_act(self.conv(x), self.bn, self.activation)


class ResNetBottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times that; added to the input, which a 1x1 adapts where it has to."""

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out = _EXPANSION * width
        self.reduce, self.middle = NormConv(in_channels, width), NormConv(width, width, 3, stride)
        self.expand = NormConv(width, out, activation="none")
        adapts = stride > 1 or in_channels != out
        self.adapt: nn.Module = (
            NormConv(in_channels, out, stride=stride, activation="none") if adapts else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 4 * width, H / stride, W / stride)."""
        return functional.relu(self.adapt(x) + self.expand(self.middle(self.reduce(x))))


class DetNetBottleneck(nn.Module):
    """1x1, dilated 3x3, 1x1, all of one width; added to the input, through a 1x1 where `project`."""

    def __init__(self, in_channels: int, width: int, *, project: bool) -> None:
        super().__init__()
        self.reduce, self.middle = NormConv(in_channels, width), NormConv(width, width, 3, dilation=2)
        self.expand = NormConv(width, width, activation="none")
        self.adapt: nn.Module = NormConv(in_channels, width, activation="none") if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, width, H, W)."""
        return functional.relu(self.adapt(x) + self.expand(self.middle(self.reduce(x))))


def resnet50_stages(channels: int = 3) -> list[nn.Module]:
    """For images of `channels` the stem and the four stages, at strides 4, 4, 8, 16 and 32, 64 to 2048 channels."""
    stages: list[nn.Module] = [nn.Sequential(NormConv(channels, 64, 7, 2), nn.MaxPool2d(3, 2, 1))]
    channels = 64
    for width, repeats, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        parts = []
        for index in range(repeats):
            parts.append(ResNetBottleneck(channels, width, stride if index == 0 else 1))
            channels = _EXPANSION * width
        stages.append(nn.Sequential(*parts))
    return stages
