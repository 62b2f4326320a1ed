"""YOLOv8 (n, s, m, l, x).

Source: Jocher, Chaurasia and Qiu, Ultralytics YOLOv8 (2023), the model's configuration as facts: layers, widths,
repeats and parameter counts.
"""

from functools import partial

from torch import nn

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import SPPF, Bottleneck, C2f
from sightline.models.yolo.plan import Row, Scale, neck

__all__ = ["SCALES", "c2f", "plan"]

SCALES = {
    "n": Scale(1 / 3, 0.25, 1024),
    "s": Scale(1 / 3, 0.5, 1024),
    "m": Scale(2 / 3, 0.75, 768),
    "l": Scale(1.0, 1.0, 512),
    "x": Scale(1.0, 1.25, 512),
}


def c2f(in_channels: int, out_channels: int, repeats: int, *, shortcut: bool = True) -> nn.Module:
    """`C2f` around full-width bottlenecks."""
    return C2f(in_channels, out_channels, [partial(Bottleneck, expansion=1.0, shortcut=shortcut)] * repeats)


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows of one size."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    few, many = scale.repeats(3), scale.repeats(6)
    down = partial(ConvBnAct, kernel=3, stride=2)
    merge = partial(c2f, repeats=few, shortcut=False)
    return (
        Row("stem", down, c64),
        Row("down2", down, c128),
        Row("stage2", partial(c2f, repeats=few), c128),
        Row("down3", down, c256),
        Row("stage3", partial(c2f, repeats=many), c256),
        Row("down4", down, c512),
        Row("stage4", partial(c2f, repeats=many), c512),
        Row("down5", down, c1024),
        Row("stage5", partial(c2f, repeats=few), c1024),
        Row("pool5", SPPF, c1024),
        *neck("pool5", (c256, c512, c1024), (merge,) * 4, (down, down)),
    )
