"""A YOLO as a table: rows of named blocks with what they read and how wide they are, and the scales of its sizes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LEVELS", "Make", "Row", "Scale", "add_rows", "neck", "run_rows"]

LEVELS = ("out3", "out4", "out5")
"""The rows every table ends in: what the head reads, at strides 8, 16 and 32."""
IMAGE_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """Multipliers of one size; `deep` uses the deeper inner block everywhere, not only at the coarse levels."""

    depth: float
    width: float
    max_channels: int
    deep: bool = False

    def channels(self, base: int) -> int:
        """Width of a layer whose base width is `base`, a multiple of 8."""
        return math.ceil(min(base, self.max_channels) * self.width / 8) * 8

    def repeats(self, base: int) -> int:
        """Repeats of a block whose base count is `base`, at least 1."""
        return max(round(base * self.depth), 1)


Make = Callable[[int, int], nn.Module]
"""Makes a block of so many input and output channels."""


@dataclass(frozen=True, slots=True)
class Row:
    """One block: `make(in_channels, channels)` reads the row above, or `sources` side by side; ^ before one doubles it.

    >>> Row("top4", C2f, 128, ("^pool5", "stage4"))
    """

    name: str
    make: Make
    channels: int
    sources: tuple[str, ...] = ()


def neck(
    deepest: str,
    widths: tuple[int, int, int],
    merges: tuple[Make, Make, Make, Make],
    downs: tuple[Make, Make],
    down_widths: tuple[int, int] | None = None,
) -> tuple[Row, ...]:
    """The two ways through the levels, down to stride 8 and up again: every table's last rows.

    `widths` are those of the levels, the finest first; `merges` join two levels (top4, out3, out4, out5), `downs` halve
    the size (up4, up5), to `down_widths` or to what they read. Source: Liu et al. 2018, path aggregation.
    """
    fine, middle, coarse = widths
    to_middle, to_coarse = down_widths or (fine, middle)
    return (
        Row("top4", merges[0], middle, (f"^{deepest}", "stage4")),
        Row("out3", merges[1], fine, ("^top4", "stage3")),
        Row("up4", downs[0], to_middle, ("out3",)),
        Row("out4", merges[2], middle, ("up4", "top4")),
        Row("up5", downs[1], to_coarse, ("out4",)),
        Row("out5", merges[3], coarse, ("up5", deepest)),
    )


def add_rows(network: nn.Module, rows: Sequence[Row]) -> None:
    """Build every row as a child of `network` under its name."""
    widths: dict[str, int] = {}
    above = IMAGE_CHANNELS
    for row in rows:
        given = sum(widths[source.removeprefix("^")] for source in row.sources) or above
        network.add_module(row.name, row.make(given, row.channels))
        widths[row.name] = above = row.channels


def run_rows(network: nn.Module, rows: Sequence[Row], images: Tensor) -> list[Tensor]:
    """The outputs of the rows `LEVELS` for images (B, 3, H, W), finest first."""
    outputs: dict[str, Tensor] = {}
    x = images
    for row in rows:
        if row.sources:
            parts = [_double(outputs[s[1:]]) if s.startswith("^") else outputs[s] for s in row.sources]
            x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        x = outputs[row.name] = network.get_submodule(row.name)(x)
    return [outputs[name] for name in LEVELS]


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
