"""Tileable noise: the grain, blotches and leaves of every synthetic surface.

Tiles are drawn once per process from fixed seeds, so they belong to the renderer's version and not to a scene; a scene
only picks where in a tile it looks.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.kernels import FloatImage, add_scaled, ramp

__all__ = [
    "BLOTCHES",
    "CLOUDS",
    "GRAIN",
    "ROUGH",
    "FloatImage",
    "floats",
    "linear_from_srgb",
    "noise",
    "smoothstep",
    "srgb_from_linear",
    "texture",
]

TILE_SIZE: Final = 1024

GRAIN: Final = (0.0, 101)  # (spectral exponent, seed): white
ROUGH: Final = (0.7, 102)
CLOUDS: Final = (1.5, 103)
BLOTCHES: Final = (2.2, 104)


def floats(values: npt.ArrayLike) -> FloatImage:
    """Return the values as a float32 array, the same array where it is one already."""
    return np.asarray(values, dtype=np.float32)


@lru_cache(maxsize=8)
def noise_tile(kind: tuple[float, int]) -> FloatImage:
    """Return a periodic (1024, 1024) field of zero mean and unit deviation, amplitude falling as frequency^-exponent.

    Spectral synthesis: white noise filtered in the Fourier domain, hence periodic without seams. Read-only.
    """
    exponent, seed = kind
    white = np.random.default_rng(seed).standard_normal((TILE_SIZE, TILE_SIZE))
    fy = np.fft.fftfreq(TILE_SIZE)[:, None] * TILE_SIZE
    fx = np.fft.rfftfreq(TILE_SIZE)[None, :] * TILE_SIZE
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(white) * radius**-exponent
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(TILE_SIZE, TILE_SIZE))
    tile = floats(field / field.std())
    tile.setflags(write=False)
    return tile


def noise(kind: tuple[float, int], size_hw: tuple[int, int], rng: np.random.Generator, zoom: float = 1.0) -> FloatImage:
    """Return a random window of a noise tile, contiguous (H, W), zero mean and unit deviation over the tile.

    `zoom` above 1 magnifies: features become that many times larger. Windows larger than the tile repeat it.
    """
    source_hw = (max(2, int(np.ceil(size_hw[0] / zoom))), max(2, int(np.ceil(size_hw[1] / zoom))))
    window = np.ascontiguousarray(_window(kind, source_hw, rng))
    if source_hw == size_hw:
        return window
    return floats(cv2.resize(window, size_hw[::-1], interpolation=cv2.INTER_CUBIC))


def _window(kind: tuple[float, int], size_hw: tuple[int, int], rng: np.random.Generator) -> FloatImage:
    """Return a random part of a tile, mirrored half of the time; a view where it fits into the tile."""
    height, width = size_hw
    tile = noise_tile(kind)
    top, left = (int(rng.integers(max(1, TILE_SIZE - n + 1))) for n in size_hw)
    if max(size_hw) <= TILE_SIZE:
        window = tile[top : top + height, left : left + width]
    else:
        rows, columns = np.arange(top, top + height) % TILE_SIZE, np.arange(left, left + width) % TILE_SIZE
        window = tile[rows][:, columns]
    return window[:, ::-1] if rng.integers(0, 2) else window


def texture(
    size_hw: tuple[int, int], amounts: Mapping[tuple[float, int], float], rng: np.random.Generator, floor: float = 0.3
) -> FloatImage:
    """Return a factor (H, W) around 1: one plus each kind of noise times its amount, not below `floor`."""
    total = np.ones(size_hw, dtype=np.float32)
    for kind, amount in amounts.items():
        add_scaled(total, _window(kind, size_hw, rng), np.float32(amount))
    return np.maximum(total, np.float32(floor), out=total)


def smoothstep(low: float, high: float, values: FloatImage) -> FloatImage:
    """Return 0 below `low`, 1 above `high` and a cubic ramp between, same shape as `values` (H, W)."""
    return ramp(values, np.float32(low), np.float32(high))


_SRGB_TO_LINEAR: Final = np.where(
    np.arange(256) <= 10,
    np.arange(256) / 255.0 / 12.92,
    ((np.arange(256) / 255.0 + 0.055) / 1.055) ** 2.4,
).astype(np.float32)


def linear_from_srgb(colours: npt.ArrayLike) -> FloatImage:
    """Return linear reflectance in 0..1 of 8-bit sRGB values (IEC 61966-2-1), same shape."""
    linear: FloatImage = _SRGB_TO_LINEAR[np.asarray(colours, dtype=np.uint8)]
    return linear


def srgb_from_linear(linear: npt.NDArray[np.floating]) -> FloatImage:
    """Return sRGB-encoded values in 0..1 of linear values in 0..1 (IEC 61966-2-1)."""
    curve = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curve).astype(np.float32)
