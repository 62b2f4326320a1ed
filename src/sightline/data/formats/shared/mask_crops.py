"""Masks that are given as a crop with its place in the image, and run lengths of the whole image."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.ops import rle

__all__ = ["crop_of_rle", "rle_of_crop"]

Mask: TypeAlias = npt.NDArray[np.bool_]


def rle_of_crop(crop: npt.NDArray[Any], left: int, top: int, size_hw: tuple[int, int]) -> bytes:
    """Compressed counts, at image size, of a mask crop (h, w) whose upper left pixel is at (`left`, `top`).

    DataError when the crop reaches outside the image.
    """
    height, width = size_hw
    bottom, right = top + crop.shape[0], left + crop.shape[1]
    if left < 0 or top < 0 or right > width or bottom > height:
        raise DataError(
            f"a mask must lie inside its image of {width} × {height} pixels, got {left}..{right} × {top}..{bottom}"
        )
    # Only the crop's columns are looked at: the ones beside them are background, which lengthens the outer runs.
    strip = np.zeros((height, crop.shape[1]), dtype=np.bool_)
    strip[top:bottom] = crop != 0
    runs = rle.counts_to_runs(rle.encode(strip), strip.shape).tolist() or [0]
    runs[0] += left * height
    rest = (width - right) * height
    if len(runs) % 2 == 1:
        runs[-1] += rest
    elif rest:
        runs.append(rest)
    return rle.runs_to_counts(np.array(runs, dtype=np.int64), size_hw)


def crop_of_rle(counts: bytes, size_hw: tuple[int, int]) -> tuple[Mask, int, int] | None:
    """The tight crop (h, w) of a mask with its left and top; None for a mask without a pixel."""
    x1, y1, x2, y2 = (int(v) for v in rle.to_box(counts, size_hw))
    if x2 <= x1 or y2 <= y1:
        return None
    return rle.decode(counts, size_hw)[y1:y2, x1:x2], x1, y1
