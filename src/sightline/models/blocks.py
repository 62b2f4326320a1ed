"""Building blocks that more than one network is made of, and how they are fused."""

import copy
from collections.abc import Iterator
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from sightline.models.fused_norm import Activation, norm_act

ModuleT = TypeVar("ModuleT", bound=nn.Module)

YOLO_BN_EPS = 1e-3
YOLO_BN_MOMENTUM = 0.03


class ConvBnAct(nn.Module):
    """Convolution without bias, batch normalisation, SiLU (or none): (B, C, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (dilation * ((sides[0] - 1) // 2), dilation * ((sides[1] - 1) // 2))
        self.conv = nn.Conv2d(in_channels, out_channels, sides, stride, around, dilation, groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=YOLO_BN_EPS, momentum=YOLO_BN_MOMENTUM)
        self.activation: Activation = "silu" if act else "none"

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return norm_act(self.conv(x), self.bn, self.activation)


class DoubleConv(nn.Module):
    """Twice 3x3 convolution, batch normalisation, ReLU: the U-Net block. Height and width are kept."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        x = norm_act(self.conv1(x), self.bn1, "relu")
        return norm_act(self.conv2(x), self.bn2, "relu")


def _fold(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
    """Make `conv` equal `bn(conv(x))` in evaluation mode (weights folded in float64)."""
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("bn must keep running statistics to be folded into a convolution")
    gain = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    shift = bn.bias.double() - bn.running_mean.double() * gain
    if conv.bias is not None:
        shift = shift + conv.bias.double() * gain
    weight = conv.weight.double() * gain.reshape(-1, 1, 1, 1)
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)


@runtime_checkable
class Simplifiable(Protocol):
    """A module with a smaller form in inference: branches that add up to one, or that only training reads."""

    @property
    def spare(self) -> nn.Module | None:
        """The part that inference does without; None once simplified."""
        ...

    def simplify(self) -> None:
        """Take that form for good, once the normalisations inside are folded."""
        ...


_CONV_BN_NAMES = (
    *(("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),  # ours and torchvision's ResNet
    *(("conv", "norm"), ("convolution", "normalization")),  # transformers
    ("0", "1"),  # in a row
)


def fuse(model: ModuleT) -> ModuleT:
    """A copy in evaluation mode with batch normalisations folded into their convolutions and what is `Simplifiable` so.

    Same outputs up to rounding, fewer operations; for inference and export only (`save_weights` refuses it).
    """
    fused = copy.deepcopy(model).eval()
    for module, names, (conv, bn) in list(_pairs(fused)):
        _fold(conv, bn)
        setattr(module, names[1], nn.Identity())
    for module in list(fused.modules()):
        if isinstance(module, Simplifiable):
            module.simplify()
    return fused


def count_fused_parameters(model: nn.Module) -> int:
    """How many parameters `fuse` would leave: no spare parts, and a bias in place of each normalisation's two."""
    parts = [module.spare for module in model.modules() if isinstance(module, Simplifiable)]
    spare = {id(p) for part in parts if part is not None for p in part.parameters()}
    count = sum(p.numel() for p in model.parameters() if id(p) not in spare)
    for _, _, (conv, bn) in _pairs(model):
        if id(conv.weight) not in spare:
            count += (bn.num_features if conv.bias is None else 0) - sum(p.numel() for p in bn.parameters())
    return count


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, str], tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """Modules with a convolution and its normalisation, the names of both in the module, and both."""
    for module in model.modules():
        for names in _CONV_BN_NAMES[:-1] if not isinstance(module, nn.Sequential) else _CONV_BN_NAMES:
            conv, bn = (getattr(module, name, None) for name in names)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d):
                yield module, names, (conv, bn)
