"""What a small copy of a picture tells: its luma thumbnail, brightness, contrast, sharpness, entropy and colours.

All of it is measured on a copy whose longer side is at most `COPY_SIDE` pixels, made by area averaging, so that
pictures of different resolution can be compared. The price: only blur that is visible at that size is seen.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.audit.scan.image_hash import THUMBNAIL, shrink, shrink_rows
from sightline.core.kernels import njit

__all__ = ["COPY_SIDE", "PictureStatistics", "blockiness", "measure_picture"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]
Planes: TypeAlias = npt.NDArray[np.float32]

COPY_SIDE = 160
"""Longer side in pixels of the copy on which everything is measured; an eighth of a 1280 × 720 picture."""

_BLOCK = 8


class PictureStatistics(NamedTuple):
    """Luma is 0.299 R + 0.587 G + 0.114 B (BT.601), 0..255."""

    brightness: float  # mean luma, 0..255
    contrast: float  # standard deviation of luma, 0..127.5
    sharpness: float  # variance of the four-neighbour Laplacian of luma
    entropy: float  # of the luma's 256-bin histogram, 0..8 bits
    red: float  # means, 0..255
    green: float
    blue: float
    colourfulness: float  # Hasler and Süsstrunk 2003; 0 gray, 15 slightly, 59 quite, 109 extremely colourful


def measure_picture(picture: npt.NDArray[Any]) -> tuple[Bytes, PictureStatistics]:
    """The luma thumbnail (32, 32) of a picture, RGB (H, W, 3) or gray (H, W), uint8, and its statistics."""
    planes = picture[..., None] if picture.ndim == 2 else picture
    thumbnail, values = _measure(np.ascontiguousarray(planes))
    return thumbnail, PictureStatistics(*values.tolist())


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _measure(picture: Bytes) -> tuple[Bytes, Floats]:
    small = _copy(picture)
    channels, height, width = small.shape
    red, green, blue = small[0], small[channels // 2], small[channels - 1]
    # Loops, not expressions of whole arrays: those take numba seconds to compile.
    luma = np.empty((height, width), dtype=np.float32)
    red_mean, green_mean, blue_mean, mean = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    for y in range(height):
        for x in range(width):
            r, g, b = red[y, x], green[y, x], blue[y, x]
            luma[y, x] = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            red_mean, green_mean, blue_mean, mean = red_mean + r, green_mean + g, blue_mean + b, mean + luma[y, x]
    pixels = height * width
    red_mean, green_mean, blue_mean, mean = red_mean / pixels, green_mean / pixels, blue_mean / pixels, mean / pixels
    first, second = red_mean - green_mean, 0.5 * (red_mean + green_mean) - blue_mean
    variance, opponent = np.float64(0), np.float64(0)
    counts = np.zeros(256)
    for y in range(height):
        for x in range(width):
            r, g, b = red[y, x], green[y, x], blue[y, x]
            variance += (luma[y, x] - mean) ** 2
            opponent += (r - g - first) ** 2 + (np.float32(0.5) * (r + g) - b - second) ** 2
        for x in range(width):
            counts[min(int(luma[y, x] + np.float32(0.5)), 255)] += 1
    out = np.empty(8)
    out[0], out[1] = mean, np.sqrt(variance / pixels)
    out[2], out[3] = _laplacian_variance(luma), _entropy(counts, pixels)
    out[4], out[5], out[6] = red_mean, green_mean, blue_mean
    out[7] = np.sqrt(opponent / pixels) + 0.3 * np.sqrt(first * first + second * second)
    coarse = shrink(luma, THUMBNAIL, THUMBNAIL)
    thumbnail = np.empty((THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    for y in range(THUMBNAIL):
        for x in range(THUMBNAIL):
            thumbnail[y, x] = np.uint8(coarse[y, x] + 0.5)
    return thumbnail, out


@njit(cache=True, nogil=True)
def _copy(picture: Bytes) -> Planes:
    """The planes (C, h, w) of a picture (H, W, C), its longer side at most `COPY_SIDE`."""
    height, width, channels = picture.shape
    scale = min(COPY_SIDE / max(height, width), 1.0)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    small = np.empty((channels, rows, columns), dtype=np.float32)
    flat = picture.reshape(height, width * channels)
    if rows == height and columns == width:
        for y in range(height):
            for i in range(width * channels):
                small[i % channels, y, i // channels] = flat[y, i]
        return small
    shrunk = shrink_rows(flat, rows)
    plane = np.empty((width, rows), dtype=np.float32)
    for channel in range(channels):
        _turn(shrunk, channel, channels, plane)
        _turn(shrink_rows(plane, columns), 0, 1, small[channel])
    return small


@njit(cache=True, nogil=True)
def _turn(values: Planes, first: int, step: int, out: Planes) -> None:
    """`out` becomes the transpose of every so manyth column. For slices numba compiles the texts of its errors too."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            out[y, x] = values[x, first + y * step]


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _laplacian_variance(luma: Planes) -> float:
    height, width = luma.shape
    total, squares = 0.0, 0.0
    for y in range(1, height - 1):
        row: Any = np.float32(0)
        row_squares: Any = np.float32(0)
        for x in range(1, width - 1):
            value = luma[y - 1, x] + luma[y + 1, x] + luma[y, x - 1] + luma[y, x + 1] - np.float32(4) * luma[y, x]
            row += value
            row_squares += value * value
        total += row
        squares += row_squares
    count = max(height - 2, 0) * max(width - 2, 0)
    return max(squares / count - (total / count) ** 2, 0.0) if count else 0.0


@njit(cache=True, nogil=True)
def _entropy(counts: Floats, pixels: int) -> float:
    bits = 0.0
    for i in range(len(counts)):
        if counts[i]:
            bits -= counts[i] / pixels * np.log2(counts[i] / pixels)
    return max(bits, 0.0)


def blockiness(luma: npt.NDArray[Any]) -> float:
    """How much stronger the steps across the borders of 8 × 8 blocks are than the other steps, at full resolution.

    1 without visible blocks, above about 1.5 with blocks that can be seen; the ratio of mean absolute differences of
    neighbouring pixels, after Wang, Sheikh and Bovik 2002. Pictures below 16 × 16 and flat ones give 1.
    """
    height, width = luma.shape
    if min(height, width) < 2 * _BLOCK:
        return 1.0
    on, off, on_count, off_count = _steps(np.ascontiguousarray(luma))
    return float((on / on_count) / (off / off_count)) if off > 0 else 1.0


@njit(cache=True, nogil=True)
def _steps(luma: npt.NDArray[Any]) -> tuple[float, float, int, int]:
    height, width = luma.shape
    on, off, on_count, off_count = 0.0, 0.0, 0, 0
    # Every eighth row and column of pixels is enough for a mean, and reads the borders in both directions.
    for y in range(_BLOCK // 2, height, _BLOCK):
        for x in range(1, width):
            step = abs(np.float64(luma[y, x]) - np.float64(luma[y, x - 1]))
            if x % _BLOCK == 0:
                on, on_count = on + step, on_count + 1
            else:
                off, off_count = off + step, off_count + 1
    for x in range(_BLOCK // 2, width, _BLOCK):
        for y in range(1, height):
            step = abs(np.float64(luma[y, x]) - np.float64(luma[y - 1, x]))
            if y % _BLOCK == 0:
                on, on_count = on + step, on_count + 1
            else:
                off, off_count = off + step, off_count + 1
    return on, off, on_count, off_count
