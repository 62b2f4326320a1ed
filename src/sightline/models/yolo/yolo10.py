"""YOLOv10 (n, s, m, b, l, x), the detector that needs no suppression.

Source: Wang et al., "YOLOv10: Real-Time End-to-End Object Detection" (2024), and the published configurations as facts:
layers, widths, repeats and parameter counts (with both heads). `fuse` makes one convolution of the re-parameterised
pairs and drops the head that only training needs.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import C2PSA, SPPF, C2f, RepConv
from sightline.models.yolo.plan import Make, Row, Scale, neck
from sightline.models.yolo.yolo8 import c2f

__all__ = ["CIB", "SIZES", "SCDown", "Size", "plan"]


class SCDown(nn.Sequential):
    """The new channels by a 1x1, then half the size by a depthwise 3x3: spatial and channel steps apart."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            ConvBnAct(in_channels, out_channels),
            ConvBnAct(out_channels, out_channels, 3, 2, groups=out_channels, act=False),
        )


class CIB(nn.Module):
    """Compact inverted block: depthwise 3x3 around 1x1s to twice the width and back, added to the input.

    With `large` the middle depthwise convolution is a 7x7 beside a 3x3, re-parameterised.
    """

    def __init__(self, channels: int, *, large: bool) -> None:
        super().__init__()
        wide = 2 * channels
        middle = RepConv(wide, wide, (7, 3), groups=wide) if large else ConvBnAct(wide, wide, 3, groups=wide)
        self.deep = nn.Sequential(
            ConvBnAct(channels, channels, 3, groups=channels),
            ConvBnAct(channels, wide),
            middle,
            ConvBnAct(wide, channels),
            ConvBnAct(channels, channels, 3, groups=channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.deep(x)
        return out


def c2f_cib(in_channels: int, out_channels: int, repeats: int, *, large: bool = False) -> C2f:
    """`C2f` around compact inverted blocks."""
    return C2f(in_channels, out_channels, [partial(CIB, large=large)] * repeats)


@dataclass(frozen=True, slots=True)
class Size:
    """A scale and the rows whose blocks are compact, those with a large kernel apart."""

    scale: Scale
    compact: frozenset[str] = frozenset()
    large: frozenset[str] = frozenset()


_BALANCED = frozenset({"stage5", "top4", "out4", "out5"})
SIZES = {
    "n": Size(Scale(1 / 3, 0.25, 1024), large=frozenset({"out5"})),
    "s": Size(Scale(1 / 3, 0.5, 1024), large=frozenset({"stage5", "out5"})),
    "m": Size(Scale(2 / 3, 0.75, 768), _BALANCED - {"top4"}),
    "b": Size(Scale(2 / 3, 1.0, 512), _BALANCED),
    "l": Size(Scale(1.0, 1.0, 512), _BALANCED),
    "x": Size(Scale(1.0, 1.25, 512), _BALANCED | {"stage4"}),
}


def plan(size: Size) -> tuple[Row, ...]:
    """The rows of one size. Compact blocks stand where the stages have little rank, which depends on the size."""
    scale = size.scale
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    few, many = scale.repeats(3), scale.repeats(6)
    down = partial(ConvBnAct, kernel=3, stride=2)

    def block(name: str, repeats: int, *, shortcut: bool = True) -> Make:
        if name in size.compact | size.large:
            return partial(c2f_cib, repeats=repeats, large=name in size.large)
        return partial(c2f, repeats=repeats, shortcut=shortcut)

    merges = tuple(block(name, few, shortcut=False) for name in ("top4", "out3", "out4", "out5"))
    return (
        Row("stem", down, c64),
        Row("down2", down, c128),
        Row("stage2", block("stage2", few), c128),
        Row("down3", down, c256),
        Row("stage3", block("stage3", many), c256),
        Row("down4", SCDown, c512),
        Row("stage4", block("stage4", many), c512),
        Row("down5", SCDown, c1024),
        Row("stage5", block("stage5", few), c1024),
        Row("pool5", SPPF, c1024),
        Row("attend5", partial(C2PSA, repeats=1), c1024),
        *neck("attend5", (c256, c512, c1024), (merges[0], merges[1], merges[2], merges[3]), (down, SCDown)),
    )
