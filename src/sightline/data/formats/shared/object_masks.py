"""Masks of single objects: of a row of the objects table, of a map of ids, and as pixels of an image."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.ops import rle

__all__ = ["foreground", "object_rle", "paint", "split_ids"]

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
