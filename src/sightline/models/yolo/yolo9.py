"""YOLOv9 (t, s, m, c) without its auxiliary branch, which only training would read.

Source: Wang, Yeh and Liao, "YOLOv9: Learning What You Want to Learn Using Programmable Gradient Information" (2024),
and published configurations as facts: layers, widths, repeats and parameter counts. `fuse` makes one convolution of
every re-parameterised pair.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import RepConv
from sightline.models.yolo.plan import Make, Row, neck

__all__ = ["ELAN", "SIZES", "SPPELAN", "AConv", "ADown", "RepBottleneck", "RepCSP", "Widths", "plan"]


class RepBottleneck(nn.Module):
    """A re-parameterised and a plain 3x3, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = RepConv(channels, channels), ConvBnAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.second(self.first(x))
        return out


class RepCSP(nn.Module):
    """Half of the width through `repeats` re-parameterised bottlenecks, half straight, joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int, repeats: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.deep_in, self.straight = ConvBnAct(in_channels, hidden), ConvBnAct(in_channels, hidden)
        self.deep = nn.Sequential(*(RepBottleneck(hidden) for _ in range(repeats)))
        self.join = ConvBnAct(2 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        out: Tensor = self.join(torch.cat((self.deep(self.deep_in(x)), self.straight(x)), 1))
        return out


class ELAN(nn.Module):
    """Split `inner` channels in two, two `stage`s in a row on one half, all four parts joined by a 1x1 (GELAN)."""

    def __init__(self, in_channels: int, out_channels: int, inner: int, stage: Make) -> None:
        super().__init__()
        self.split = ConvBnAct(in_channels, inner)
        self.first, self.second = (stage(inner // 2, inner // 2) for _ in range(2))
        self.join = ConvBnAct(2 * inner, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        both: Tensor = self.split(x)
        first = self.first(both.chunk(2, 1)[1])
        out: Tensor = self.join(torch.cat((both, first, self.second(first)), 1))
        return out


def rep_stage(in_channels: int, out_channels: int, repeats: int) -> nn.Sequential:
    """`RepCSP`, then a 3x3."""
    return nn.Sequential(RepCSP(in_channels, out_channels, repeats), ConvBnAct(out_channels, out_channels, 3))


class AConv(nn.Module):
    """Average over 2x2 cells at stride 1, then a 3x3 of stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = ConvBnAct(in_channels, out_channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H/2, W/2)."""
        out: Tensor = self.down(functional.avg_pool2d(x, 2, 1))
        return out


class ADown(nn.Module):
    """Average over 2x2 cells; half of the channels by a 3x3 of stride 2, half by a max-pool and a 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = ConvBnAct(in_channels // 2, out_channels // 2, 3, 2)
        self.pooled = ConvBnAct(in_channels // 2, out_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H/2, W/2)."""
        a, b = functional.avg_pool2d(x, 2, 1).chunk(2, 1)
        return torch.cat((self.down(a), self.pooled(functional.max_pool2d(b, 3, 2, 1))), 1)


class SPPELAN(nn.Module):
    """Pyramid pooling: a 1x1 to half of the output's width, three chained 5x5 max-pools, all joined by a 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.reduce = ConvBnAct(in_channels, hidden)
        self.join = ConvBnAct(4 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W)."""
        stages: list[Tensor] = [self.reduce(x)]
        for _ in range(3):
            stages.append(functional.max_pool2d(stages[-1], 5, 1, 2))
        out: Tensor = self.join(torch.cat(stages, 1))
        return out


@dataclass(frozen=True, slots=True)
class Widths:
    """One size: channels of the stem, what the four stages split and give, of what goes up the neck again."""

    stem: tuple[int, int]
    inner: tuple[int, int, int, int]
    stages: tuple[int, int, int, int]
    up: tuple[int, int]
    repeats: int = 1
    make_down: Make = AConv
    plain_first: bool = False


def _tiny(unit: int) -> Widths:
    """t and s are one table at two widths; their first stage has no bottlenecks."""
    widths = (2 * unit, 4 * unit, 6 * unit, 8 * unit)
    return Widths((unit, 2 * unit), widths, widths, (3 * unit, 4 * unit), repeats=3, plain_first=True)


SIZES = {
    "t": _tiny(16),
    "s": _tiny(32),
    "m": Widths((32, 64), (128, 240, 360, 480), (128, 240, 360, 480), (184, 240)),
    "c": Widths((64, 128), (128, 256, 512, 512), (256, 512, 512, 512), (256, 512), make_down=ADown),
}


def plan(size: Widths) -> tuple[Row, ...]:
    """The rows of one size."""
    stem, down = partial(ConvBnAct, kernel=3, stride=2), size.make_down
    rep = partial(rep_stage, repeats=size.repeats)
    first = partial(ConvBnAct, kernel=3) if size.plain_first else rep

    def elan(inner: int, stage: Make = rep) -> Make:
        return partial(ELAN, inner=inner, stage=stage)

    c4, c8, c16, c32 = size.inner
    return (
        Row("stem", stem, size.stem[0]),
        Row("down2", stem, size.stem[1]),
        Row("stage2", elan(c4, first), size.stages[0]),
        Row("down3", down, c8),
        Row("stage3", elan(c8), size.stages[1]),
        Row("down4", down, c16),
        Row("stage4", elan(c16), size.stages[2]),
        Row("down5", down, c32),
        Row("stage5", elan(c32), size.stages[3]),
        Row("pool5", SPPELAN, size.stages[3]),
        *neck("pool5", (c8, c16, c32), (elan(c16), elan(c8), elan(c16), elan(c32)), (down, down), size.up),
    )
