"""Large images in overlapping tiles: where they lie, and which of their detections are one object."""

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from sightline.core.kernels import njit
from sightline.ops.boxes import FloatArray
from sightline.ops.oriented import corners_over_smaller
from sightline.ops.suppression import ORIENTED, IntArray, checked_boxes

__all__ = ["keep_at_seams", "tile_boxes", "touches_inner_edge"]


def tile_boxes(size_hw: tuple[int, int], tile_hw: tuple[int, int], overlap: float) -> IntArray:
    """Tiles (T, 4) as x1, y1, x2, y2 that cover an image, neighbours sharing at least `overlap` of a tile (0 to < 1).

    They lie at equal distances, the last one ending where the image ends; where a tile is larger than the image it is
    cut to it. Row by row.

    >>> tile_boxes((100, 250), (100, 100), 0.2).tolist()
    [[0, 0, 100, 100], [75, 0, 175, 100], [150, 0, 250, 100]]
    """
    (ys, height), (xs, width) = (_starts(s, t, overlap) for s, t in zip(size_hw, tile_hw, strict=True))
    corners = [(x, y, x + width, y + height) for y in ys for x in xs]
    return np.array(corners, dtype=np.int64)


def _starts(length: int, tile: int, overlap: float) -> tuple[list[int], int]:
    if tile >= length:
        return [0], length
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return np.linspace(0, length - tile, count).round().astype(int).tolist(), tile


def touches_inner_edge(
    boxes_xyxy: FloatArray, tile_xyxy: IntArray, size_hw: tuple[int, int], margin: float = 1.0
) -> NDArray[np.bool_]:
    """Which boxes (N, 4) end within `margin` pixels of an edge of their tile that is none of the image: cut objects."""
    height, width = size_hw
    inner = np.array([tile_xyxy[0] > 0, tile_xyxy[1] > 0, tile_xyxy[2] < width, tile_xyxy[3] < height])
    near = np.abs(boxes_xyxy - tile_xyxy) <= margin
    touching: NDArray[np.bool_] = (near & inner).any(axis=1)
    return touching


def keep_at_seams(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    *,
    tiles: npt.ArrayLike,
    cut: npt.ArrayLike,
    threshold: float = 0.5,
) -> IntArray:
    """Indices (K,) of the detections that stay, by descending score, of boxes (N, 4), or corners (N, 4, 2) of oriented
    ones, in image pixels found in `tiles` (N,), each number a pass over a part of the image.

    Whole objects come before those that a tile's edge has `cut` (N,), the better scored before the worse; one that
    covers, or is covered by, more than `threshold` of the smaller of itself and a box that stays (intersection over
    smaller), of its class and of another tile, is the same object seen again. Within a tile nothing is suppressed.
    """
    boxes, score_array, classes = checked_boxes(boxes_xyxy, scores, class_ids)  # or corners of oriented boxes
    parts = np.asarray(cut, dtype=np.bool_).reshape(-1)
    order = np.lexsort((-score_array, parts, classes))
    tile_array = np.asarray(tiles, dtype=np.int64).reshape(-1)
    ordered = boxes[order]
    around = ordered if ordered.ndim < ORIENTED else np.concatenate([ordered.min(axis=1), ordered.max(axis=1)], axis=1)
    stays = _first_seen(ordered, around, classes[order], tile_array[order], float(threshold))
    kept = order[stays]
    return kept[np.lexsort((kept, -score_array[kept]))]


@njit(cache=True)
def _first_seen(
    boxes: FloatArray, around: FloatArray, classes: IntArray, tiles: IntArray, threshold: float
) -> npt.NDArray[np.bool_]:
    """Which boxes, with upright ones `around` them (N, 4), sorted by class and within it by what comes first, are none
    seen before."""
    stays = np.ones(len(boxes), dtype=np.bool_)
    first = 0
    while first < len(boxes):
        last = first + 1
        while last < len(boxes) and classes[last] == classes[first]:
            last += 1
        part = slice(first, last)
        _of_class(boxes[part], around[part], tiles[part], threshold, stays[part])
        first = last
    return stays


@njit(cache=True)
def _of_class(
    boxes: FloatArray, around: FloatArray, tiles: IntArray, threshold: float, stays: npt.NDArray[np.bool_]
) -> None:
    """As `_first_seen` of one class, in place. Looked at are the boxes whose left edge lies where one that meets this
    box can have it: in a large image few of the many.
    """
    from_left = np.argsort(around[:, 0], kind="mergesort")
    lefts = around[:, 0][from_left]
    widest = (around[:, 2] - around[:, 0]).max()
    for i in range(len(boxes)):
        if not stays[i]:
            continue
        k = np.searchsorted(lefts, around[i, 0] - widest)
        while k < len(boxes) and lefts[k] < around[i, 2]:
            j = from_left[k]
            if j > i and stays[j] and tiles[j] != tiles[i]:
                stays[j] = _over_smaller(boxes, i, j) <= threshold
            k += 1


@njit(cache=True)
def _over_smaller(boxes: FloatArray, i: int, j: int) -> float:
    if boxes.ndim == ORIENTED:
        return float(corners_over_smaller(boxes[i], boxes[j]))
    return _upright_over_smaller(boxes, i, j)


@njit(cache=True)
def _upright_over_smaller(boxes: FloatArray, i: int, j: int) -> float:
    width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
    height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    area_i = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
    area_j = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
    return float(width * height / min(area_i, area_j))
