"""YOLOv3, the detector on Darknet-53.

Source: Redmon and Farhadi, "YOLOv3: An Incremental Improvement" (2018): layers and widths. Activations are SiLU and the
normalisation is that of our other tables, as in the later configuration whose count of parameters is held to here; the
paper's are leaky ReLUs.
"""

from functools import partial

from torch import nn

from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.blocks import Bottleneck
from sightline.models.yolo.plan import Row

__all__ = ["ROWS"]


def _residual(_in_channels: int, channels: int, repeats: int) -> nn.Sequential:
    """So many 1x1 to half the width and 3x3 back, each pair added to its input."""
    return nn.Sequential(*(Bottleneck(channels, 0.5, reduce_kernel=1) for _ in range(repeats)))


def _pairs(in_channels: int, out_channels: int, repeats: int = 1) -> nn.Sequential:
    """So many 1x1 to half the width and 3x3 back, without shortcuts."""
    parts: list[nn.Module] = []
    for given in (in_channels, *[out_channels] * (repeats - 1)):
        parts += [ConvBnAct(given, out_channels // 2), ConvBnAct(out_channels // 2, out_channels, 3)]
    return nn.Sequential(*parts)


_down, _wide = partial(ConvBnAct, kernel=3, stride=2), partial(ConvBnAct, kernel=3)
ROWS = (
    Row("stem", _wide, 32),
    Row("down1", _down, 64),
    Row("stage1", partial(_residual, repeats=1), 64),
    Row("down2", _down, 128),
    Row("stage2", partial(_residual, repeats=2), 128),
    Row("down3", _down, 256),
    Row("stage3", partial(_residual, repeats=8), 256),
    Row("down4", _down, 512),
    Row("stage4", partial(_residual, repeats=8), 512),
    Row("down5", _down, 1024),
    Row("stage5", partial(_residual, repeats=4), 1024),
    Row("deep5", partial(_pairs, repeats=2), 1024),
    Row("side5", ConvBnAct, 512),
    Row("out5", _wide, 1024),
    Row("to4", ConvBnAct, 256, ("side5",)),
    Row("deep4", partial(_pairs, repeats=2), 512, ("^to4", "stage4")),
    Row("side4", ConvBnAct, 256),
    Row("out4", _wide, 512),
    Row("to3", ConvBnAct, 128, ("side4",)),
    Row("out3", partial(_pairs, repeats=3), 256, ("^to3", "stage3")),
)
"""The one size there is."""
