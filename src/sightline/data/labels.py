"""Semantic masks as class ids: the pixel values (or colours) of a file, mapped through the data set's class table."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data.decode import COLOUR_BASE, colour_of_id, read_mask

__all__ = ["MASK_IGNORE", "mask_palette", "read_class_mask", "unexpected_values", "value_counts"]

MASK_IGNORE = 255
"""The class id of pixels that never count."""


def read_class_mask(path: str | Path, dataset: Dataset, fill: int = MASK_IGNORE) -> NDArray[np.uint8]:
    """The mask file as (H, W) uint8 class ids; the data set's `ignore_values` become `fill`.

    Raises DataError for a pixel value that is neither a class's `source_id` nor ignored, naming the values.
    """
    palette = mask_palette(dataset, fill)
    values = read_mask(path, palette)
    if palette is not None and values.dtype == np.int32:
        return values.astype(np.uint8)  # colours have been mapped to class ids already
    strange = unexpected_values(values, dataset)
    if strange:
        raise DataError(
            f"mask values must be {sorted(_ids_by_value(dataset, fill))}, got also {strange[:10]}",
            where=str(path),
            do="Name the values under 'classes' or 'ignore_values' in the data description",
        )
    table = _ids_by_value(dataset, fill)
    lookup = np.zeros(max(table, default=0) + 1, dtype=np.uint8)
    lookup[list(table)] = list(table.values())
    return lookup[values]


def mask_palette(dataset: Dataset, fill: int = MASK_IGNORE) -> dict[tuple[int, int, int], int] | None:
    """RGB colour → class id, for a data set whose masks are pictures of colours; else None."""
    table = _ids_by_value(dataset, fill)
    colours = {colour_of_id(v): i for v, i in table.items() if v >= COLOUR_BASE}
    return colours or None


def unexpected_values(values: NDArray[Any], dataset: Dataset) -> list[int]:
    """The values of a mask that belong to no class and are not ignored, rising."""
    known = _ids_by_value(dataset, MASK_IGNORE)
    return [v for v in value_counts(values) if v not in known]


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
