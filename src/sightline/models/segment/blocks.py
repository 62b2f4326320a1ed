"""Blocks that several light segmentation networks are made of."""

import torch
from torch import Tensor, nn

from sightline.models.fused_norm import Activation, norm_act

__all__ = ["ChannelGate", "DepthwiseConv"]

_GATE_RATIO = 4
_LEAST_GATE = 4


class DepthwiseConv(nn.Module):
    """A 3x3 for each channel, batch normalisation, ReLU or none."""

    def __init__(self, channels: int, *, dilation: int = 1, activation: Activation = "relu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, channels, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(channels)
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the same shape."""
        return norm_act(self.conv(x), self.bn, self.activation)


class ChannelGate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): each channel times 0..1, of the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(_LEAST_GATE, channels // _GATE_RATIO)
        self.squeeze, self.excite = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the same shape."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
