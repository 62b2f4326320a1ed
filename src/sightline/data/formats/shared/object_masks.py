"""Masks of single objects: of a row of the objects table, of a map of ids, of a crop, and as pixels of an image."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.ops import rle

__all__ = ["crop_of_rle", "foreground", "object_rle", "paint", "rle_of_crop", "split_ids"]

Ints: TypeAlias = npt.NDArray[np.int64]


def object_rle(row: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes | None:
    """Compressed run lengths of an object's `rle` or `polygon`; None where it has neither or they are unreadable."""
    try:
        if row["rle"] is not None:
            rle.counts_to_runs(row["rle"], size_hw)
            return bytes(row["rle"])
        rings = [ring for ring in row["polygon"] or () if len(ring) >= 6]
        return rle.from_polygons(rings, size_hw) if rings else None
    except DataError:
        return None


def foreground(counts: bytes, size_hw: tuple[int, int]) -> Ints:
    """The foreground's pixels (N,), counted down the columns."""
    runs = rle.counts_to_runs(counts, size_hw)
    ends = np.cumsum(runs)
    lengths = runs[1::2]
    starts = ends[0::2][: len(lengths)]
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + inside, dtype=np.int64)


def paint(layers: Iterable[tuple[int, Ints]], size_hw: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """A picture (H, W) of values and their places (counted down the columns) over 0, the later over the earlier; and
    how many painted pixels each layer has covered.
    """
    flat = np.zeros(size_hw[0] * size_hw[1], dtype=np.uint8)
    covered = []
    for value, places in layers:
        covered.append(int(np.count_nonzero(flat[places])))
        flat[places] = value
    return np.ascontiguousarray(flat.reshape(size_hw[::-1]).T), covered


def split_ids(ids: npt.NDArray[Any]) -> dict[int, bytes]:
    """The mask of each id of a map (H, W) as compressed run lengths, by rising id; one pass whatever their number."""
    flat = ids.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]).astype(np.int64)
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    found, first = np.unique(values[order], return_index=True)
    parts = np.split(order, first[1:])
    size_hw = (ids.shape[0], ids.shape[1])
    return {int(v): _counts(starts[p], ends[p], size_hw) for v, p in zip(found.tolist(), parts, strict=True)}


def _counts(starts: Ints, ends: Ints, size_hw: tuple[int, int]) -> bytes:
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [size_hw[0] * size_hw[1]]])
    runs = np.diff(edges)
    return rle.runs_to_counts(runs[:-1] if runs[-1] == 0 else runs, size_hw)


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
