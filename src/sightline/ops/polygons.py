"""Polygons drawn as run lengths exactly as COCO's reference implementation draws them."""

import numpy as np
import numpy.typing as npt
from numba import njit

from sightline.ops.boxes import FloatArray

IntArray = npt.NDArray[np.int64]

MAX_COORDINATE = 1_000_000
"""Largest coordinate, in pixels, of either sign: the outline is walked in fifths of a pixel, so time grows with it."""

_STEPS = 5.0


@njit(cache=True)
def polygon_runs(ring_xy: FloatArray, height: int, width: int) -> IntArray:
    """Run lengths, background first, of the inside of one ring (2·P,) `x0, y0, x1, y1, …` in pixels."""
    places = np.sort(_crossings(ring_xy, height, width))
    runs = np.empty(len(places) + 1, dtype=np.int64)
    # The mask flips at every crossing: two crossings at one place cancel, one behind the last pixel does nothing.
    count, start, i = 0, 0, 0
    while i < len(places) and places[i] < height * width:
        if i + 1 < len(places) and places[i + 1] == places[i]:
            i += 2
            continue
        runs[count] = places[i] - start
        count, start, i = count + 1, int(places[i]), i + 1
    runs[count] = height * width - start
    return runs[: count + 1].copy()


@njit(cache=True)
def _crossings(flat: FloatArray, height: int, width: int) -> IntArray:
    """Positions, counted down the columns, at which the outline passes the middle of a pixel column."""
    points = len(flat) // 2
    # Truncation towards zero, also below zero, is the reference's rounding and must be kept to stay bit-identical.
    xs, ys = np.empty(points, dtype=np.int64), np.empty(points, dtype=np.int64)
    for i in range(points):
        xs[i], ys[i] = np.int64(_STEPS * flat[2 * i] + 0.5), np.int64(_STEPS * flat[2 * i + 1] + 0.5)
    # A segment crosses each column at most once, the joint to the next one once more; columns are five steps apart.
    room = 0
    for i in range(points):
        room += 2 + min(abs(xs[(i + 1) % points] - xs[i]) // 5 + 1, width)
    out = np.empty(room, dtype=np.int64)
    size = 0
    last_x, last_y = 0, 0
    for i in range(points):
        j = (i + 1) % points
        dx, dy = abs(xs[j] - xs[i]), abs(ys[j] - ys[i])
        steps = max(dx, dy)
        flip = xs[i] > xs[j] if dx >= dy else ys[i] > ys[j]
        first, last = (j, i) if flip else (i, j)
        for step in range(steps + 1):
            t = steps - step if flip else step
            x, y = _point(int(xs[first]), int(ys[first]), int(xs[last]), int(ys[last]), dx >= dy, t)
            if i + step == 0:
                last_x = x  # the first point has none before it to cross from
            place = _crossing(last_x, last_y, x, y, height, width)
            if place >= 0:
                out[size] = place
                size += 1
            last_x, last_y = x, y
    return out[:size].copy()


@njit(cache=True)
def _point(x1: int, y1: int, x2: int, y2: int, flat: bool, t: int) -> tuple[int, int]:
    """The point `t` steps along a segment, walked along x where it is `flat` and along y where it is steep."""
    if flat:
        slope = (y2 - y1) / (x2 - x1) if x2 != x1 else 0.0
        return x1 + t, int(y1 + slope * t + 0.5)
    slope = (x2 - x1) / (y2 - y1)
    return int(x1 + slope * t + 0.5), y1 + t


@njit(cache=True)
def _crossing(last_x: int, last_y: int, x: int, y: int, height: int, width: int) -> int:
    """Position of the crossing between two neighbouring outline points, -1 where it is in no column's middle."""
    if x == last_x:
        return -1
    fine = x if x < last_x else x - 1
    column = (fine + 0.5) / _STEPS - 0.5
    if np.floor(column) != column or column < 0.0 or column > width - 1:
        return -1
    row = np.ceil(min(max((min(y, last_y) + 0.5) / _STEPS - 0.5, 0.0), float(height)))
    return int(column) * height + int(row)
