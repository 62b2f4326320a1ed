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
    size_hw, (target_h, target_w) = geometry.source_hw, geometry.target_hw
    (scale_x, scale_y), (offset_x, offset_y) = geometry.scale_xy, geometry.offset_xy
    for own, box in zip(coefficients.astype(np.float32), boxes_xyxy.tolist(), strict=True):
        left, top, right, bottom = _touched(box, size_hw)
        columns, columns_share = _between(left, right, scale_x, float(offset_x), maps.shape[2], 0.0, float(target_w))
        rows, rows_share = _between(top, bottom, scale_y, float(offset_y), maps.shape[1], 0.0, float(target_h))
        above = _above_half(own, maps, columns[0], columns[-1], rows[0], rows[-1])
        yield MaskCrop(left, top, _sample(above, columns - columns[0], columns_share, rows - rows[0], rows_share))


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
    grids = np.ascontiguousarray(probabilities, np.float32) - np.float32(0.5)
    (scale_x, scale_y), (offset_x, offset_y) = geometry.scale_xy, geometry.offset_xy
    for above, span, box in zip(grids, network_xyxy.tolist(), boxes_xyxy.tolist(), strict=True):
        left, top, right, bottom = _touched(box, geometry.source_hw)
        x1, y1, x2, y2 = map(float, span)
        columns, columns_share = _between(left, right, scale_x, float(offset_x), above.shape[1], x1, x2)
        rows, rows_share = _between(top, bottom, scale_y, float(offset_y), above.shape[0], y1, y2)
        yield MaskCrop(left, top, _sample(above, columns, columns_share, rows, rows_share))


def _touched(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels, at least one, that a box inside an image of that size touches: left, top, right, bottom."""
    (x1, y1, x2, y2), (height, width) = box_xyxy, size_hw
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return left, top, max(left + 1, min(width, int(np.ceil(x2)))), max(top + 1, min(height, int(np.ceil(y2))))


@njit(cache=True)
def _between(
    start: int, stop: int, scale: float, offset: float, cells: int, low: float, high: float
) -> tuple[Ints, Floats]:
    """For the middles of the image's pixels `start` to `stop`: the last of the cells, which divide the network's pixels
    from `low` to `high`, whose middle is not behind it, and how far on the way to the next it lies; at the edges the
    outermost cell goes on.
    """
    first, share = np.empty(stop - start, dtype=np.int64), np.empty(stop - start, dtype=np.float32)
    for i in range(stop - start):
        at_network = (start + i + 0.5) * scale + offset
        in_cells = min(max((at_network - low) * cells / max(high - low, 1e-6) - 0.5, 0.0), cells - 1.0)
        first[i] = int(in_cells)
        share[i] = np.float32(in_cells - first[i])
    return first, share


@njit(cache=True)
def _above_half(own: Floats, maps: Floats, left: int, right: int, top: int, bottom: int) -> Floats:
    """By how much the object's probability is above one half, in the cells `left` to `right` and `top` to `bottom` and
    in the next where there is. The half is left out, or rounding to its last digit would decide small logits.
    """
    right, bottom = min(right + 2, maps.shape[2]), min(bottom + 2, maps.shape[1])
    values = np.zeros((bottom - top, right - left), dtype=np.float32)
    for m in range(len(own)):
        for i in range(bottom - top):
            for j in range(right - left):
                values[i, j] += own[m] * maps[m, top + i, left + j]
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] = np.float32(0.5) * np.tanh(np.float32(0.5) * values[i, j])
    return values


@njit(cache=True)
def _sample(values: Floats, columns: Ints, columns_share: Floats, rows: Ints, rows_share: Floats) -> NDArray[np.bool_]:
    last_row, last_column = values.shape[0] - 1, values.shape[1] - 1
    inside = np.empty((len(rows), len(columns)), dtype=np.bool_)
    for i in range(len(rows)):
        above, below, down = rows[i], min(rows[i] + 1, last_row), rows_share[i]
        for j in range(len(columns)):
            before, behind, along = columns[j], min(columns[j] + 1, last_column), columns_share[j]
            upper = values[above, before] * (1 - along) + values[above, behind] * along
            lower = values[below, before] * (1 - along) + values[below, behind] * along
            inside[i, j] = upper * (1 - down) + lower * down >= 0
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
