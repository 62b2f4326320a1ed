"""YOLO12 (n, s, m, l, x), attention within areas of the coarse levels.

Source: Tian, Ye and Doermann, "YOLOv12: Attention-Centric Real-Time Object Detectors" (2025), in the form of its
authors' published weights ("turbo"): layers, widths, repeats and parameter counts as facts.
"""

from functools import partial

from torch import nn

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import A2C2f, AreaBlock, C3k, C3k2
from sightline.models.yolo.plan import Row, Scale, neck
from sightline.models.yolo.yolo11 import SCALES

__all__ = ["SCALES", "plan"]

_AREAS = 4  # at stride 16, where attention over all cells would cost the most


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows of one size. The two large ones are residual, with a narrower feed-forward."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    few, many = scale.repeats(2), scale.repeats(4)
    large = scale.depth == 1.0
    ratio = 1.5 if large else 2.0
    down = partial(ConvBnAct, kernel=3, stride=2)
    early = partial(C3k2, repeats=few, deep=scale.deep, expansion=0.25)
    late = partial(C3k2, repeats=few, deep=True)
    merge = partial(A2C2f, inner=[C3k] * few)

    def attending(areas: int) -> partial[A2C2f]:
        def pair(channels: int) -> nn.Module:
            return nn.Sequential(AreaBlock(channels, areas, ratio), AreaBlock(channels, areas, ratio))

        return partial(A2C2f, inner=[pair] * many, residual=large)

    return (
        Row("stem", down, c64),
        Row("down2", partial(down, groups=2), c128),
        Row("stage2", early, c256),
        Row("down3", partial(down, groups=4), c256),
        Row("stage3", early, c512),
        Row("down4", down, c512),
        Row("stage4", attending(_AREAS), c512),
        Row("down5", down, c1024),
        Row("stage5", attending(1), c1024),
        *neck("stage5", (c256, c512, c1024), (merge, merge, merge, late), (down, down)),
    )
