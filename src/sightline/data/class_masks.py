"""Semantic masks as class ids: the pixel values (or colours) of a file, mapped through the data set's class table."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.media import COLOUR_BASE, colour_of_id, read_mask

__all__ = ["BACKGROUND_NAMES", "MASK_IGNORE", "class_ids", "mask_palette", "read_class_mask", "value_counts"]

MASK_IGNORE = 255
"""The class id of pixels that never count."""
BACKGROUND_NAMES = frozenset({"background", "bg", "_background_", "none", "void", "unlabelled", "unlabeled"})
"""What the class of pixels that show no object is called, in lower case."""


def read_class_mask(path: str | Path, dataset: Dataset, fill: int = MASK_IGNORE) -> NDArray[np.uint8]:
    """The mask file as (H, W) uint8 class ids; the data set's `ignore_values` become `fill`.

    Raises DataError for a pixel value that is neither a class's `source_id` nor ignored, naming the values.
    """
    palette = mask_palette(dataset, fill)
    values = read_mask(path, palette)
    if palette is not None and values.dtype == np.int32:
        return values.astype(np.uint8)  # colours have been mapped to class ids already
    ids, strange = class_ids(values, dataset, fill)
    if strange:
        raise DataError(
            f"mask values must be {sorted(_ids_by_value(dataset, fill))}, got also {strange[:10]}",
            where=str(path),
            do="Name the values under 'classes' or 'ignore_values' in the data description",
        )
    return ids


def class_ids(values: NDArray[Any], dataset: Dataset, fill: int = MASK_IGNORE) -> tuple[NDArray[np.uint8], list[int]]:
    """The values of a mask as (H, W) uint8 class ids, and the values that belong to no class, rising.

    Ignored values and those of no class become `fill`.
    """
    table = _ids_by_value(dataset, fill)
    found = list(value_counts(values))
    strange = [v for v in found if v not in table]
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        lookup = np.full(np.iinfo(values.dtype).max + 1, fill, dtype=np.uint8)
        known = [v for v in found if v in table]
        lookup[known] = [table[v] for v in known]
        return lookup[values], strange
    ids = np.array([table.get(v, fill) for v in found], dtype=np.uint8)
    return ids[np.searchsorted(np.array(found, dtype=np.int64), values)], strange


def mask_palette(dataset: Dataset, fill: int = MASK_IGNORE) -> dict[tuple[int, int, int], int] | None:
    """RGB colour → class id, for a data set whose masks are pictures of colours; else None."""
    table = _ids_by_value(dataset, fill)
    colours = {colour_of_id(v): i for v, i in table.items() if v >= COLOUR_BASE}
    return colours or None


def value_counts(values: NDArray[Any]) -> dict[int, int]:
    """How many pixels have each value that occurs, by rising value."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel())
        return {v: int(counts[v]) for v in np.flatnonzero(counts).tolist()}
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _ids_by_value(dataset: Dataset, fill: int) -> dict[int, int]:
    sources = dataset.classes["source_id"].to_list()
    table = {(i if source is None else int(source)): i for i, source in enumerate(sources)}
    return table | dict.fromkeys(dataset.ignore_values, fill)
