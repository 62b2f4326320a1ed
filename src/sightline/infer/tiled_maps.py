"""Label maps of images larger than the network: in tiles at full resolution, joined so that no seam shows.

Two ways to join. Where what one output pixel depends on (its reach, measured on the network) leaves something of a
tile over, each tile gives its centre alone, which is what the network says of the whole image, bit by bit. Else tiles
overlap and are averaged with Hann windows. Outside of the image lies its mirror image, as in the original U-Net.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pydantic

from sightline.core.config import Config
from sightline.core.errors import ConfigError
from sightline.core.frames import SemanticMap
from sightline.infer.around import AroundPredictor
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.predictor import Given, Image, given_images
from sightline.ops.postprocess import likeliest
from sightline.ops.tiles import tile_boxes

__all__ = ["MapTiling", "TiledSegmenter", "measure_reach"]

FloatArray = npt.NDArray[np.float32]

_GRID = 32
"""Tiles begin at multiples of it: poolings fall on the same pixels in each, as deep as networks here halve."""
_TRIALS = 3
_FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "all": ((), (-1,), (-2,), (-2, -1)),
}


class MapTiling(Config):
    """How images are cut and joined; `tile_hw` None is the network's own size, at which nothing is resized.

    `overlap` is the least share of a tile that its neighbour sees too, for Hann windows. `join` "auto" takes centres
    where the network's reach allows it. `flips` averages what the network says of mirrored tiles too.
    """

    tile_hw: tuple[int, int] | None = None
    overlap: float = pydantic.Field(default=0.25, ge=0, le=0.9)
    join: Literal["auto", "centre", "hann"] = "auto"
    flips: Literal["none", "horizontal", "all"] = "none"

    @pydantic.model_validator(mode="after")
    def _sane(self) -> Self:
        if self.tile_hw is not None and min(self.tile_hw) < _GRID:
            raise ValueError(
                f"tile must have at least {_GRID} pixels a side, got {self.tile_hw[0]} x {self.tile_hw[1]}"
            )
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A tile with its upper left corner at (y, x), of which the rows and columns from `margin_yx` on count."""

    y: int
    x: int
    margin_yx: tuple[int, int]

    @property
    def first_row(self) -> int:
        return self.y + self.margin_yx[0]


class TiledSegmenter(AroundPredictor[NetworkPredictor]):
    """A predictor of label maps that hands another one the tiles of each image, and joins what it says of them.

    Memory beside the image and its map is that of one row of tiles. ConfigError for a model of boxes, and for
    centres where the network's reach leaves nothing of a tile.
    """

    def __init__(self, inner: NetworkPredictor, tiling: MapTiling | None = None, *, batch: int = 4) -> None:
        if inner.task != "semantic":
            raise ConfigError(
                f"tiles of maps must be given to a segmenter, got the task {inner.task}", where=inner.where
            )
        super().__init__(inner)
        self.tiling = tiling or MapTiling()
        self.batch = min(batch, inner.max_batch or batch)
        self.tile_hw = self.tiling.tile_hw or inner.preprocess.size_hw
        self.reach_hw = None if self.tiling.join == "hann" else self._reach()
        self.margin_hw = self._margin()

    @property
    def meta(self) -> dict[str, Any]:
        """As the model's, and how the images were cut and joined."""
        join = "hann" if self.margin_hw is None else "centre"
        how = self.tiling.model_dump() | {"tile_hw": list(self.tile_hw), "join": join}
        return {**self.inner.meta, "tiles": how | {"reach_hw": self.reach_hw, "margin_hw": self.margin_hw}}

    def __call__(self, images: Given | Sequence[Given]) -> list[SemanticMap]:
        """Label maps at image size, one for each image, in order."""
        return [SemanticMap(self._one(image), self.class_names) for image in given_images(images)]

    def _reach(self) -> tuple[int, int] | None:
        """The network's, in pixels of the image; None where it has no end within the network's input."""
        size_hw = self.inner.preprocess.size_hw
        reach = measure_reach(self.inner)
        if reach is None:
            return None
        return tuple(math.ceil(r * t / s) for r, t, s in zip(reach, self.tile_hw, size_hw, strict=True))  # type: ignore[return-value]

    def _margin(self) -> tuple[int, int] | None:
        """What of a tile is left out on each side, None where windows join tiles."""
        if self.tiling.join == "hann":
            return None
        margins = None
        if self.reach_hw is not None:
            margins = tuple(_GRID * math.ceil(reach / _GRID) for reach in self.reach_hw)
        # Elsewhere than on the grid poolings fall on other pixels, and at another size all is resized.
        exact = self.tile_hw == self.inner.preprocess.size_hw and not any(side % _GRID for side in self.tile_hw)
        if exact and margins and all(t - 2 * m >= _GRID for t, m in zip(self.tile_hw, margins, strict=True)):
            return margins[0], margins[1]
        if self.tiling.join == "centre" and not exact:
            raise ConfigError(
                f"tiles joined by their centres must have the network's own size, a multiple of {_GRID}, got "
                f"{self.tile_hw[0]} x {self.tile_hw[1]}",
                where=self.inner.where,
            )
        if self.tiling.join == "auto":
            return None
        reach = "all of its input" if self.reach_hw is None else f"{self.reach_hw[0]} x {self.reach_hw[1]} pixels"
        raise ConfigError(
            f"a tile must leave a centre beyond what a pixel depends on, got {reach} of a tile of "
            f"{self.tile_hw[0]} x {self.tile_hw[1]}",
            where=self.inner.where,
            do="join by Hann windows, or take larger tiles",
        )

    def _places(self, size_hw: tuple[int, int]) -> list[_Place]:
        if self.margin_hw is None:
            boxes = tile_boxes(size_hw, self.tile_hw, self.tiling.overlap)
            return [_Place(int(y), int(x), (0, 0)) for x, y, _, _ in boxes]
        margins, cores = self.margin_hw, [t - 2 * m for t, m in zip(self.tile_hw, self.margin_hw, strict=True)]
        rows, columns = (range(0, side, core) for side, core in zip(size_hw, cores, strict=True))
        return [_Place(y - margins[0], x - margins[1], margins) for y in rows for x in columns]

    def _one(self, image: Image) -> npt.NDArray[np.uint8]:
        size_hw = (image.shape[0], image.shape[1])
        places = self._places(size_hw)
        band = _Band(len(self.class_names), size_hw, self.tile_hw[0], self.inner.foreground_conf)
        window = _window(self.tile_hw, hann=self.margin_hw is None)
        for start in range(0, len(places), self.batch):
            several = places[start : start + self.batch]
            maps = self._probabilities([_mirrored(image, place, self.tile_hw) for place in several])
            for place, probabilities in zip(several, maps, strict=True):
                band.finish_until(place.first_row)
                band.add(probabilities, window, place)
        band.finish_until(size_hw[0])
        return band.class_ids

    def _probabilities(self, tiles: list[Image]) -> Iterator[FloatArray]:
        """(C, H, W) of each tile, at its size, the mean over flips."""
        flips = _FLIPS[self.tiling.flips]
        batch = self.inner.prepare(tiles)
        total: FloatArray | None = None
        for axes in flips:
            out = self.inner.run(np.ascontiguousarray(np.flip(batch.pixels, axes)))["probabilities"]
            back = np.flip(np.asarray(out, np.float32), axes)
            total = back if total is None else total + back
        assert total is not None
        mean = total if len(flips) == 1 else total / np.float32(len(flips))
        for probabilities, geometry in zip(mean, batch.geometries, strict=True):
            same = geometry.source_hw == geometry.target_hw
            yield probabilities if same else geometry.mask_to_image(probabilities, interpolation="linear")


class _Band:
    """Weighted sums over the rows that tiles still add to; rows above are decided and let go."""

    def __init__(self, classes: int, size_hw: tuple[int, int], height: int, foreground_conf: float | None) -> None:
        self.class_ids = np.empty(size_hw, np.uint8)
        self._sums = np.zeros((classes, height, size_hw[1]), np.float32)
        self._weights = np.zeros((height, size_hw[1]), np.float32)
        self._top, self._conf = 0, foreground_conf

    def add(self, probabilities: FloatArray, window: FloatArray, place: _Place) -> None:
        """Add the part of a tile (C, H, W) that lies within the image and counts."""
        (height, width), (down, right) = window.shape, place.margin_yx
        y1, x1 = max(place.y + down, 0), max(place.x + right, 0)
        y2 = min(place.y + height - down, self.class_ids.shape[0])
        x2 = min(place.x + width - right, self.class_ids.shape[1])
        part = slice(y1 - place.y, y2 - place.y), slice(x1 - place.x, x2 - place.x)
        here = slice(y1 - self._top, y2 - self._top), slice(x1, x2)
        self._sums[:, here[0], here[1]] += probabilities[:, part[0], part[1]] * window[part]
        self._weights[here] += window[part]

    def finish_until(self, row: int) -> None:
        """Decide the rows above `row`."""
        count = row - self._top
        if count <= 0:
            return
        known = self._sums[:, :count] / self._weights[:count]
        self.class_ids[self._top : row] = likeliest(known, self._conf)
        for array in (self._sums, self._weights):
            rest = array[..., count:, :].copy()
            array[..., : rest.shape[-2], :] = rest
            array[..., rest.shape[-2] :, :] = 0
        self._top = row


def _window(tile_hw: tuple[int, int], *, hann: bool) -> FloatArray:
    """(H, W): ones, or a Hann window that is above zero at its ends too."""
    if not hann:
        return np.ones(tile_hw, np.float32)
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in tile_hw)
    return np.outer(rows, columns).astype(np.float32)


def _mirrored(image: Image, place: _Place, tile_hw: tuple[int, int]) -> Image:
    """The tile of an image, whose mirror image lies around it."""
    rows, columns = (
        _reflected(np.arange(start, start + side), length)
        for start, side, length in zip((place.y, place.x), tile_hw, image.shape[:2], strict=True)
    )
    tile: Image = image[rows[:, None], columns[None]]
    return tile


def _reflected(index: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Indices beyond 0..length-1 thrown back at the ends, which are not repeated."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    reflected: npt.NDArray[np.int64] = np.where(folded < length, folded, period - folded)
    return reflected


def measure_reach(predictor: NetworkPredictor) -> tuple[int, int] | None:
    """How many pixels (down, right) an output may depend on beyond its own place; None where that reaches the edges.

    Measured: a block in the middle of noise is changed, and the outputs that differ in any bit are looked at. The block
    is as large and lies as the network's coarsest cells, so that all their pixels are tried.
    """
    height, width = predictor.preprocess.size_hw
    top, left = _GRID * (height // _GRID // 2), _GRID * (width // _GRID // 2)
    bottom, right = min(top + _GRID, height), min(left + _GRID, width)
    random = np.random.default_rng(0)
    reach = [0, 0]
    for _ in range(_TRIALS):
        shape = (1, predictor.preprocess.channel_count, height, width)
        before = random.standard_normal(shape).astype(np.float32)
        after = before.copy()
        after[..., top:bottom, left:right] = random.standard_normal(after[..., top:bottom, left:right].shape) * 3
        outputs = [predictor.run(pixels)["probabilities"] for pixels in (before, after)]
        differs = (outputs[0] != outputs[1]).any(axis=(0, 1))
        ys, xs = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        if not len(ys):
            continue
        if ys[0] == 0 or xs[0] == 0 or ys[-1] == height - 1 or xs[-1] == width - 1:
            return None
        reach = [max(reach[0], top - ys[0], ys[-1] + 1 - bottom), max(reach[1], left - xs[0], xs[-1] + 1 - right)]
    return int(reach[0]), int(reach[1])
