"""Semantic masks as class ids: the one way from a mask file to classes, for audit, training, evaluation and drawing.

The pixel values (or colours) of a file are mapped through the data set's class table; what is to be ignored becomes
`IGNORE_INDEX`. A mask may also be several files, one in the folder of each class (`masks/*/a.png`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import EACH_CLASS, IGNORE_INDEX, mask_files
from sightline.media import COLOUR_BASE, colour_of_id, read_image, read_mask

__all__ = ["BACKGROUND_NAMES", "ClassMask", "examine_class_mask", "mask_values", "overlapping_pixels"]
__all__ += ["read_class_mask", "value_counts"]

BACKGROUND_NAMES = frozenset({"background", "bg", "_background_", "none", "void", "unlabelled", "unlabeled"})
"""What the class of pixels that show no object is called, in lower case."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassMask:
    """One mask file: `ids` (H, W) uint8 class ids, `IGNORE_INDEX` for ignored values and for those of no class.

    With the data set's `mask_threshold` every value is of one of two classes. `values` (H, W) are the numbers in the
    file, None where it holds colours; `strange` the values of no class, rising.
    """

    ids: NDArray[np.uint8]
    values: NDArray[Any] | None
    strange: tuple[int, ...]


def read_class_mask(path: str | Path, dataset: Dataset, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The mask file as (H, W) uint8 class ids; the data set's `ignore_values` become `IGNORE_INDEX`.

    Raises DataError for a pixel value that is neither a class's `source_id` nor ignored, naming the values, and for a
    mask of another size than `size_hw` where that is given.
    """
    mask = examine_class_mask(path, dataset)
    if size_hw is not None and mask.ids.shape != size_hw:
        raise DataError(f"the mask must have the size {size_hw} of its image, got {mask.ids.shape}", where=str(path))
    if mask.strange:
        raise DataError(
            f"mask values must be a class or ignored ({', '.join(map(str, sorted(mask_values(dataset))))}), "
            f"got {', '.join(map(str, mask.strange[:10]))}",
            where=str(path),
            do="Name the values under 'classes' or 'ignore_values' in the data description",
        )
    return mask.ids


def examine_class_mask(path: str | Path, dataset: Dataset) -> ClassMask:
    """The mask file as class ids, whatever values it holds.

    Raises DataError for a file that cannot be read and for a data set of more than 255 classes, PaletteError for a
    colour that belongs to no class.
    """
    table = mask_values(dataset)
    if EACH_CLASS in Path(path).parts and not Path(path).is_file():
        return ClassMask(_stacked(Path(path), dataset), None, ())
    colours = {colour_of_id(value): class_id for value, class_id in table.items() if value >= COLOUR_BASE}
    values = read_mask(path, colours or None)
    if dataset.mask_threshold is not None:
        return ClassMask((values >= dataset.mask_threshold).astype(np.uint8), values, ())
    if colours and values.dtype == np.int32:
        return ClassMask(values.astype(np.uint8), None, ())  # colours have been mapped to class ids already
    found = list(value_counts(values))
    strange = tuple(value for value in found if value not in table)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        lookup = np.full(np.iinfo(values.dtype).max + 1, IGNORE_INDEX, dtype=np.uint8)
        known = [value for value in found if value in table]
        lookup[known] = [table[value] for value in known]
        return ClassMask(lookup[values], values, strange)
    ids = np.array([table.get(value, IGNORE_INDEX) for value in found], dtype=np.uint8)
    return ClassMask(ids[np.searchsorted(np.array(found, dtype=np.int64), values)], values, strange)


def overlapping_pixels(path: Path, dataset: Dataset) -> tuple[int, int]:
    """Of a mask in the folders of its classes: how many pixels lie under another class's, and how many are drawn."""
    drawn = [int(where.sum()) for _, where in _layers(path, dataset)]
    return sum(drawn) - int((_stacked(path, dataset) > 0).sum()), sum(drawn)


def _stacked(path: Path, dataset: Dataset) -> NDArray[np.uint8]:
    """The class ids of a mask in several files, one for each class; of two at one pixel the smaller one is on top."""
    layers = _layers(path, dataset)
    ids = np.zeros(layers[0][1].shape, dtype=np.uint8)
    for class_id, where in sorted(layers, key=lambda layer: -int(layer[1].sum())):
        ids[where] = class_id
    return ids


_FEW_VALUES = 8  # soft edges have many more
_LOSSY = frozenset({".jpg", ".jpeg", ".jfif", ".webp"})


def _layers(path: Path, dataset: Dataset) -> list[tuple[int, NDArray[np.bool_]]]:
    """Each class with its pixels (H, W): what is brighter than half of the file's brightest, be it 1, 255 or JPEG.

    DataError for a file of a few values, such as 0, 1 and 255: half of the brightest would leave out what counts.
    """
    folder = path.parts.index(EACH_CLASS)
    slots = {name: i for i, name in enumerate(dataset.class_names)}
    layers: list[tuple[int, NDArray[np.bool_]]] = []
    for file in mask_files(path):
        pixels = read_image(file)
        flat = pixels.max(axis=2) if pixels.ndim == 3 else pixels
        if layers and layers[0][1].shape != flat.shape:
            got = f"{layers[0][1].shape}, {flat.shape}"
            raise DataError(f"the masks of one image must be of one size, got {got}", where=str(file))
        class_id = slots.get(file.parts[folder], 0)
        values = np.unique(flat)
        if 2 < len(values) <= _FEW_VALUES and file.suffix.lower() not in _LOSSY:
            shown = ", ".join(map(str, values.tolist()))
            do = "Save it with 0 and 1, or 0 and 255"
            raise DataError(
                f"a mask in the folder of a class must have two values, got {shown}", where=str(file), do=do
            )
        where = np.asarray(flat > flat.max() // 2)
        layers.append((class_id, where if class_id else np.zeros_like(where)))  # the background is what no class has
    if not layers:
        raise DataError("a mask must exist in the folder of a class, got none", where=str(path))
    return layers


def mask_values(dataset: Dataset) -> dict[int, int]:
    """The class id, or `IGNORE_INDEX`, of each value (or colour, from `COLOUR_BASE` on) that masks may hold."""
    if len(dataset.classes) > IGNORE_INDEX:
        raise DataError(f"a data set with masks must have at most {IGNORE_INDEX} classes, got {len(dataset.classes)}")
    sources = dataset.classes["source_id"].to_list()
    table = {(i if source is None else int(source)): i for i, source in enumerate(sources)}
    return table | dict.fromkeys(dataset.ignore_values, IGNORE_INDEX)


def value_counts(values: NDArray[Any]) -> dict[int, int]:
    """How many pixels have each value that occurs, by rising value."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel())
        return {v: int(counts[v]) for v in np.flatnonzero(counts).tolist()}
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
