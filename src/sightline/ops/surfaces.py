"""Borders of masks, exact distances between them, and how far from a class's edge a pixel lies.

A pixel of a mask is its border where one of its four neighbours is not of the mask, or where the image ends. Neighbours
that do not count make no border: nobody knows what lies there. Distances are between pixel centres, in pixels, from
squares that are whole numbers: exact.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit

__all__ = ["SurfaceDistances", "border_of", "boundary_band", "distances_between", "squared_distances"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@njit(cache=True)
def border_of(mask: BoolArray, counted: BoolArray) -> BoolArray:
    """(H, W): which pixels of the mask are its border."""
    height, width = mask.shape
    beyond = counted & ~mask
    border = np.zeros((height, width), dtype=np.bool_)
    for y in range(height):
        for x in range(width):
            at_end = y == 0 or x == 0 or y == height - 1 or x == width - 1
            if not mask[y, x] or at_end:
                border[y, x] = mask[y, x]
                continue
            border[y, x] = beyond[y - 1, x] or beyond[y + 1, x] or beyond[y, x - 1] or beyond[y, x + 1]
    return border


@njit(cache=True)
def _along_columns(points: BoolArray) -> IntArray:
    """How many rows away the nearest point of the same column is; more than any distance where there is none."""
    height, width = points.shape
    far = height + width
    rows = np.empty((height, width), dtype=np.int64)
    for x in range(width):
        rows[0, x] = 0 if points[0, x] else far
    for y in range(1, height):
        for x in range(width):
            rows[y, x] = 0 if points[y, x] else rows[y - 1, x] + 1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            rows[y, x] = min(rows[y, x], rows[y + 1, x] + 1)
    return rows


@njit(cache=True)
def _is_hidden(rows: IntArray, at: int, apex: int, other: int) -> bool:
    """Whether at `at`, where the parabola of `apex` begins to be the lowest, that of `other` is lower."""
    return bool((at - apex) ** 2 + rows[apex] ** 2 > (at - other) ** 2 + rows[other] ** 2)


@njit(cache=True)
def squared_distances(points: BoolArray) -> IntArray:
    """(H, W): squared distance of each pixel to the nearest of `points`; meaningless where there is none.

    In two passes (Meijster et al. 2000): along columns, then the lower envelope of the parabolas of each row.
    """
    height, width = points.shape
    rows = _along_columns(points)
    out = np.empty((height, width), dtype=np.int64)
    starts, apexes = np.empty(width, dtype=np.int64), np.empty(width, dtype=np.int64)
    for y in range(height):
        own = rows[y]
        count = 0
        starts[0], apexes[0] = 0, 0
        for u in range(1, width):
            while count >= 0 and _is_hidden(own, starts[count], apexes[count], u):
                count -= 1
            if count < 0:
                count, apexes[0], starts[0] = 0, u, 0
                continue
            i = apexes[count]
            after = 1 + (u * u - i * i + own[u] ** 2 - own[i] ** 2) // (2 * (u - i))
            if after < width:
                count += 1
                apexes[count], starts[count] = u, after
        for x in range(width - 1, -1, -1):
            out[y, x] = (x - apexes[count]) ** 2 + own[apexes[count]] ** 2
            if x == starts[count]:
                count -= 1
    return out


@dataclass(frozen=True, slots=True, eq=False)
class SurfaceDistances:
    """Of each border pixel of one mask how far the nearest border pixel of the other is, pixels; both ways."""

    to_truth: FloatArray
    to_prediction: FloatArray

    @property
    def is_defined(self) -> bool:
        """Whether both masks have a border: distances to nothing are none."""
        return len(self.to_truth) > 0 and len(self.to_prediction) > 0


def distances_between(found: BoolArray, right: BoolArray) -> SurfaceDistances:
    """The distances between two borders (H, W); both empty where one is."""
    both = found | right
    if not found.any() or not right.any():
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    # The nearest pixel of either lies within the box around both.
    ys, xs = np.flatnonzero(both.any(axis=1)), np.flatnonzero(both.any(axis=0))
    box = slice(int(ys[0]), int(ys[-1]) + 1), slice(int(xs[0]), int(xs[-1]) + 1)
    found, right = np.ascontiguousarray(found[box]), np.ascontiguousarray(right[box])
    return SurfaceDistances(np.sqrt(squared_distances(right)[found]), np.sqrt(squared_distances(found)[right]))


@njit(cache=True)
def _class_edges(class_ids: npt.NDArray[np.int32], counted: BoolArray) -> BoolArray:
    height, width = class_ids.shape
    edges = np.zeros((height, width), dtype=np.bool_)
    for y in range(height):
        for x in range(width):
            if not counted[y, x]:
                continue
            if x + 1 < width and counted[y, x + 1] and class_ids[y, x + 1] != class_ids[y, x]:
                edges[y, x] = edges[y, x + 1] = True
            if y + 1 < height and counted[y + 1, x] and class_ids[y + 1, x] != class_ids[y, x]:
                edges[y, x] = edges[y + 1, x] = True
    return edges


def boundary_band(class_ids: npt.NDArray[np.int32], counted: BoolArray, pixels: int) -> BoolArray:
    """(H, W): the counted pixels within `pixels` of an edge between classes; 1 are those with a neighbour across it."""
    edges = _class_edges(class_ids, counted)
    if not edges.any():
        return edges
    return (squared_distances(edges) <= (pixels - 1) ** 2) & counted
