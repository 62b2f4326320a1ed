"""YOLO11 (n, s, m, l, x).

Source: Jocher and Qiu, Ultralytics YOLO11 (2024), the model's configuration as facts: layers, widths, repeats and
parameter counts.
"""

from functools import partial

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import C2PSA, SPPF, C3k2
from sightline.models.yolo.plan import Row, Scale, neck

__all__ = ["SCALES", "plan"]

SCALES = {
    "n": Scale(0.5, 0.25, 1024),
    "s": Scale(0.5, 0.5, 1024),
    "m": Scale(0.5, 1.0, 512, deep=True),
    "l": Scale(1.0, 1.0, 512, deep=True),
    "x": Scale(1.0, 1.5, 512, deep=True),
}


def plan(scale: Scale) -> tuple[Row, ...]:
    """The rows of one size."""
    c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
    repeats = scale.repeats(2)
    down = partial(ConvBnAct, kernel=3, stride=2)
    early = partial(C3k2, repeats=repeats, deep=scale.deep, expansion=0.25)
    middle = partial(C3k2, repeats=repeats, deep=scale.deep)
    late = partial(C3k2, repeats=repeats, deep=True)
    return (
        Row("stem", down, c64),
        Row("down2", down, c128),
        Row("stage2", early, c256),
        Row("down3", down, c256),
        Row("stage3", early, c512),
        Row("down4", down, c512),
        Row("stage4", late, c512),
        Row("down5", down, c1024),
        Row("stage5", late, c1024),
        Row("pool5", SPPF, c1024),
        Row("attend5", partial(C2PSA, repeats=repeats), c1024),
        *neck("attend5", (c256, c512, c1024), (middle, middle, middle, late), (down, down)),
    )
