"""From what networks give of masks to masks of objects, at the image's resolution and one object at a time.

What is held of an object are the pixels of its box: never a stack of objects times pixels of the image.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.core.kernels import njit
from sightline.core.preprocess import Geometry
from sightline.ops.runs import pack

__all__ = ["MaskCrop", "box_masks", "crop_counts", "crop_runs", "instance_masks", "object_masks"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_INSIDE = 0.5  # of an object's probability at a pixel


class MaskCrop(NamedTuple):
    """The part of an object's mask that its box may hold; it has no pixel elsewhere."""

    left: int
    top: int
    pixels: NDArray[np.bool_]  # (h, w), at least one pixel


def object_masks(
    of_masks: Sequence[NDArray[np.floating]],
    network_xyxy: NDArray[np.floating],
    boxes_xyxy: NDArray[np.floating],
    geometry: Geometry,
) -> Iterator[MaskCrop]:
    """The masks of K detections of one image in either form that networks give them, see `Model.decode`.

    `of_masks` are the K detections' coefficients and the prototypes, or their masks within their boxes alone, which are
    `network_xyxy` (K, 4) in network pixels; `boxes_xyxy` (K, 4) are the detections in image pixels.
    """
    if len(of_masks) == 1:
        return box_masks(of_masks[0], network_xyxy, boxes_xyxy, geometry)
    coefficients, prototypes = of_masks
    return instance_masks(coefficients, prototypes, boxes_xyxy, geometry)


def instance_masks(
    coefficients: NDArray[np.floating],
    prototypes: NDArray[np.floating],
    boxes_xyxy: NDArray[np.floating],
    geometry: Geometry,
) -> Iterator[MaskCrop]:
    """The masks of K detections of one image, in order, made when they are asked for.

    `coefficients` (K, M) and `prototypes` (M, h, w) are the network's, over its whole input; `boxes_xyxy` (K, 4) are in
    image pixels and inside the image. The probability of a cell is the sigmoid of the coefficients times the
    prototypes; between the middles of cells it is linear, and a pixel that the box touches belongs to the object where
    it is at least one half at its middle.

    Source: Bolya et al., YOLACT (2019).
    """
    maps = np.ascontiguousarray(prototypes, np.float32)
    whole = (0.0, 0.0, *map(float, geometry.target_hw[::-1]))
    for own, box in zip(coefficients.astype(np.float32), boxes_xyxy.tolist(), strict=True):
        left, top, right, bottom = _touched(box, geometry.source_hw)
        columns, columns_share = _between((left, right), whole[::2], geometry, 0, maps.shape[2])
        rows, rows_share = _between((top, bottom), whole[1::2], geometry, 1, maps.shape[1])
        x, y = int(columns[0]), int(rows[0])
        around = maps[:, y : int(rows[-1]) + 2, x : int(columns[-1]) + 2]
        logits = np.tensordot(own, around, 1)
        likely = 1.0 / (1.0 + np.exp(-logits.clip(-80, 80)))  # beyond, float32 has no larger number for exp
        yield MaskCrop(left, top, _sample(likely, columns - x, columns_share, rows - y, rows_share, _INSIDE))


def box_masks(
    probabilities: NDArray[np.floating],
    network_xyxy: NDArray[np.floating],
    boxes_xyxy: NDArray[np.floating],
    geometry: Geometry,
) -> Iterator[MaskCrop]:
    """As `instance_masks`, from probabilities (K, h, w) on a grid of cells that spans each one's box in the network's
    pixels, `network_xyxy` (K, 4), of which `boxes_xyxy` (K, 4) is what lies inside the image.

    Source: He et al., Mask R-CNN (2017).
    """
    grids = np.ascontiguousarray(probabilities, np.float32)
    for likely, span, box in zip(grids, network_xyxy.tolist(), boxes_xyxy.tolist(), strict=True):
        left, top, right, bottom = _touched(box, geometry.source_hw)
        columns, columns_share = _between((left, right), span[::2], geometry, 0, likely.shape[1])
        rows, rows_share = _between((top, bottom), span[1::2], geometry, 1, likely.shape[0])
        yield MaskCrop(left, top, _sample(likely, columns, columns_share, rows, rows_share, _INSIDE))


def _touched(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels, at least one, that a box inside an image of that size touches: left, top, right, bottom."""
    (x1, y1, x2, y2), (height, width) = box_xyxy, size_hw
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return left, top, max(left + 1, min(width, int(np.ceil(x2)))), max(top + 1, min(height, int(np.ceil(y2))))


def _between(
    pixels: tuple[int, int], span: Sequence[float], geometry: Geometry, axis: int, cells: int
) -> tuple[Ints, Floats]:
    """For the middles of the image's pixels from one to another: the last of the cells, which divide a span of the
    network's pixels, whose middle is not behind it, and how far on the way to the next it lies; at the edges the
    outermost cell goes on.
    """
    at_network = (np.arange(*pixels) + 0.5) * geometry.scale_xy[axis] + geometry.offset_xy[axis]
    in_cells = (at_network - span[0]) * cells / (span[1] - span[0]) - 0.5
    in_cells = in_cells.clip(0, cells - 1)
    first = in_cells.astype(np.int64)
    return first, (in_cells - first).astype(np.float32)


@njit(cache=True)
def _sample(
    values: Floats, columns: Ints, columns_share: Floats, rows: Ints, rows_share: Floats, least: float
) -> NDArray[np.bool_]:
    last_row, last_column = values.shape[0] - 1, values.shape[1] - 1
    inside = np.empty((len(rows), len(columns)), dtype=np.bool_)
    for i in range(len(rows)):
        above, below, down = rows[i], min(rows[i] + 1, last_row), rows_share[i]
        for j in range(len(columns)):
            before, behind, along = columns[j], min(columns[j] + 1, last_column), columns_share[j]
            upper = values[above, before] * (1 - along) + values[above, behind] * along
            lower = values[below, before] * (1 - along) + values[below, behind] * along
            inside[i, j] = upper * (1 - down) + lower * down >= least
    return inside


def crop_runs(crop: MaskCrop, size_hw: tuple[int, int]) -> Ints:
    """Run lengths, column by column and background first, of the mask in an image of that size."""
    return _runs(np.ascontiguousarray(crop.pixels), crop.left, crop.top, *size_hw)


def crop_counts(crop: MaskCrop, size_hw: tuple[int, int]) -> bytes:
    """As `sightline.ops.rle.encode` gives of the whole mask."""
    return pack(crop_runs(crop, size_hw)).tobytes()


@njit(cache=True)
def _runs(pixels: NDArray[np.bool_], left: int, top: int, height: int, width: int) -> Ints:
    rows = pixels.shape[0]
    runs = np.empty(2 * pixels.size + 1, dtype=np.int64)
    count, end = 0, 0  # of the last run of the object
    for k in range(pixels.size):
        i, j = k % rows, k // rows
        if pixels[i, j]:
            place = (left + j) * height + top + i
            if place > end or count == 0:
                runs[count], runs[count + 1] = place - end, 0
                count += 2
            runs[count - 1] += 1
            end = place + 1
    if end < height * width or count == 0:
        runs[count] = height * width - end
        count += 1
    return runs[:count].copy()
