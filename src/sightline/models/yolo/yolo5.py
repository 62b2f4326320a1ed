"""YOLOv5 (n, s, m, l, x), the detector of anchor boxes.

Source: Jocher, Ultralytics YOLOv5 v6 (2020 to 2022), the model's configuration as facts: layers, widths, repeats,
anchors and parameter counts.
"""

from functools import partial

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import C3, SPPF
from sightline.models.yolo.plan import Row, Scale

__all__ = ["SCALES", "plan"]

SCALES = {
    "n": Scale(1 / 3, 0.25, 1024),
    "s": Scale(1 / 3, 0.5, 1024),
    "m": Scale(2 / 3, 0.75, 1024),
    "l": Scale(1.0, 1.0, 1024),
    "x": Scale(4 / 3, 1.25, 1024),
}


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows of one size."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    few, more, most = (scale.repeats(base) for base in (3, 6, 9))
    down = partial(ConvBnAct, kernel=3, stride=2)
    neck = partial(C3, repeats=few, shortcut=False)
    return (
        Row("stem", partial(ConvBnAct, kernel=6, stride=2), c64),
        Row("down2", down, c128),
        Row("stage2", partial(C3, repeats=few), c128),
        Row("down3", down, c256),
        Row("stage3", partial(C3, repeats=more), c256),
        Row("down4", down, c512),
        Row("stage4", partial(C3, repeats=most), c512),
        Row("down5", down, c1024),
        Row("stage5", partial(C3, repeats=few), c1024),
        Row("pool5", SPPF, c1024),
        Row("side5", ConvBnAct, c512),
        Row("top4", neck, c512, ("^side5", "stage4")),
        Row("side4", ConvBnAct, c256),
        Row("out3", neck, c256, ("^side4", "stage3")),
        Row("up4", down, c256),
        Row("out4", neck, c512, ("up4", "side4")),
        Row("up5", down, c512),
        Row("out5", neck, c1024, ("up5", "side5")),
    )
