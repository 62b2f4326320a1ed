"""Outlines of masks along the edges of their pixels: drawn again as polygons they give exactly the same mask."""

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit
from sightline.ops import rle

__all__ = ["code_outlines", "largest_ring", "mask_outlines", "signed_area"]

FloatArray = npt.NDArray[np.float64]
# Directions right, down, left, up as steps in x and y; a right turn adds one.
_DX = np.array([1, 0, -1, 0], dtype=np.int64)
_DY = np.array([0, 1, 0, -1], dtype=np.int64)


def mask_outlines(mask: npt.ArrayLike) -> tuple[list[FloatArray], list[FloatArray]]:
    """Outer rings and holes of a mask (H, W), each (P, 2) corners x, y in pixels.

    The corners are those of pixels (0..W, 0..H), so a ring's area is the number of pixels in it. Pixels that touch at
    a corner belong together. A hole lies in the outer ring around it; there is one outer ring for each part.
    """
    padded = np.pad(np.asarray(mask) != 0, 1)
    corners, ends = _trace(padded)
    rings = [ring.astype(np.float64) for ring in np.split(corners, ends[:-1])] if len(ends) else []
    outer = [ring for ring in rings if signed_area(ring) > 0]
    return outer, [ring for ring in rings if signed_area(ring) < 0]


def code_outlines(counts: bytes, size_hw: tuple[int, int]) -> tuple[list[FloatArray], int]:
    """The outer rings of a run-length code, in pixels of the whole mask, and how many holes it has."""
    x1, y1, x2, y2 = (int(v) for v in rle.to_box(counts, size_hw))
    outer, holes = mask_outlines(rle.decode(counts, size_hw)[y1:y2, x1:x2])
    return [ring + np.array([x1, y1]) for ring in outer], len(holes)


def largest_ring(rings: list[FloatArray]) -> FloatArray | None:
    """The ring (P, 2) with the greatest area, for files that hold one outline of an object; None of none."""
    return max(rings, key=lambda ring: abs(signed_area(ring)), default=None)


def signed_area(ring: FloatArray) -> float:
    """The area in square pixels inside a ring (P, 2) of corners x, y; below 0 where it runs anticlockwise on screen."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


@njit(cache=True)
def _trace(padded: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners of all rings (N, 2), clockwise around the foreground, and where each ring ends; the mask has a margin."""
    height, width = padded.shape
    room, rings = 0, 0
    for y in range(1, height):
        for x in range(1, width):
            room += (padded[y, x] != padded[y - 1, x]) + (padded[y, x] != padded[y, x - 1])
            rings += padded[y, x] and not padded[y - 1, x]
    corners = np.empty((room, 2), dtype=np.int64)
    ends = np.empty(rings, dtype=np.int64)
    seen = np.zeros(padded.shape, dtype=np.bool_)  # upper edges of pixels, walked to the right
    count, found = 0, 0
    for y in range(1, height):
        for x in range(1, width):
            if padded[y, x] and not padded[y - 1, x] and not seen[y, x]:
                count = _walk(padded, seen, y, x, corners, count)
                ends[found] = count
                found += 1
    return corners[:count], ends[:found]


@njit(cache=True)
def _walk(
    padded: npt.NDArray[np.bool_],
    seen: npt.NDArray[np.bool_],
    top: int,
    left: int,
    corners: npt.NDArray[np.int64],
    count: int,
) -> int:
    """Follow the ring that starts with the upper edge of a pixel; the number of corners there are then."""
    y, x, direction = top, left, 0
    while True:
        if direction == 0:
            if seen[y, x]:
                return count
            seen[y, x] = True
        y, x = y + _DY[direction], x + _DX[direction]
        # Left first: pixels that touch at a corner stay in one ring.
        turned = direction
        for turn in (3, 0, 1):
            turned = (direction + turn) % 4
            if _is_edge(padded, y, x, turned):
                break
        if turned != direction:
            corners[count, 0], corners[count, 1] = x - 1, y - 1
            count += 1
            direction = turned


@njit(cache=True)
def _is_edge(padded: npt.NDArray[np.bool_], y: int, x: int, direction: int) -> bool:
    """Whether an edge leaves the corner above left of pixel (y, x) with foreground on its right, none on its left."""
    if direction == 0:
        return padded[y, x] and not padded[y - 1, x]
    if direction == 1:
        return padded[y, x - 1] and not padded[y, x]
    if direction == 2:
        return padded[y - 1, x - 1] and not padded[y, x - 1]
    return padded[y - 1, x] and not padded[y - 1, x - 1]
