"""Writing mask folders: `images/`, `masks/` (PNG, of the same names) and a `sightline.yaml` that names the values.

Semantic masks keep their values; colours become indexed PNG of the same colours. Objects are painted as the class they
are of: 0 is the background, classes count from 1, what is a crowd or ignored is painted as 255, which never counts.
"""

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_bytes_atomic, write_text_atomic
from sightline.core.findings import Finding
from sightline.core.frames import IGNORE_INDEX, mask_files
from sightline.core.process import Progress
from sightline.data.class_masks import examine_class_mask
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import has_masks
from sightline.data.formats.shared.shapes import foreground, object_rle, paint
from sightline.data.formats.shared.writing import (
    check_splits,
    common_losses,
    counted_losses,
    images_with_objects,
    place_images,
    places_by_split,
)
from sightline.media import COLOUR_BASE, colour_of_id, read_header, read_mask

__all__ = ["write"]

_DESCRIPTION = "sightline.yaml"
_MOST_CLASSES = IGNORE_INDEX - 1
_BACKGROUNDS = ("background", "no object", "void")
_DEEPEST = 1 << 16
Colour: TypeAlias = tuple[int, int, int]
Row: TypeAlias = dict[str, Any]
Mask: TypeAlias = npt.NDArray[np.uint8]


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set as mask folders below `folder`; returns what they cannot hold, counted.

    Semantic masks read back exactly. Of objects only their classes' pixels remain: larger objects are painted first,
    so that small ones stay visible. Without `copy_images` the images must lie in `folder/images/` already. DataError
    for a data set of boxes alone, or more classes than a mask can hold.
    """
    check_splits(dataset, "a mask folder")
    places = places_by_split(dataset.images)
    sources = _sources(dataset) if dataset.task == "semantic" else []
    slots = _slots(dataset) if dataset.task == "semantic" else {}
    if dataset.task != "semantic":
        _check_objects(dataset)
    place_images(
        dataset,
        folder,
        {path: f"images/{place}" for path, place in places.items()},
        copy=copy_images,
        progress=progress,
    )
    masks = {path: folder / "masks" / PurePosixPath(place).with_suffix(".png") for path, place in places.items()}
    if dataset.task == "semantic":
        losses = _write_semantic(dataset, {masks[path]: dataset.image_path(source) for path, source in sources}, slots)
    else:
        losses = _paint_objects(dataset, masks)
    write_text_atomic(folder / _DESCRIPTION, yaml.safe_dump(_described(dataset), sort_keys=False, allow_unicode=True))
    return [*losses, *common_losses(dataset)]


def _described(dataset: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = {"format": "masks", "name": dataset.name, "images": "images", "masks": "masks"}
    if dataset.task != "semantic":
        names = [_background(dataset.class_names), *dataset.class_names]
        return {**values, "classes": dict(enumerate(names)), "ignore_values": [IGNORE_INDEX]}
    if _is_coloured(dataset):
        colours = [list(colour_of_id(v)) for v in _values_of(dataset)]
        values["palette"] = dict(zip(dataset.class_names, colours, strict=True))
    else:
        values["classes"] = {_gray(v): n for v, n in zip(_values_of(dataset), dataset.class_names, strict=True)}
    if dataset.mask_threshold is not None:
        values["threshold"] = dataset.mask_threshold
    if dataset.ignore_values:
        values["ignore_values"] = [_gray(v) for v in dataset.ignore_values]
    return values


def _gray(value: int) -> int:
    return colour_of_id(value)[0] if value >= COLOUR_BASE else value


def _values_of(dataset: Dataset) -> list[int]:
    sources = dataset.classes["source_id"].to_list()
    return [i if source is None else int(source) for i, source in enumerate(sources)]


def _background(names: tuple[str, ...]) -> str:
    return next((n for n in _BACKGROUNDS if n not in names), "_".join((*_BACKGROUNDS, str(len(names)))))


def _write_semantic(dataset: Dataset, source_of: dict[Path, Path], slots: dict[Colour, int]) -> list[Finding]:
    """Masks of values: PNG files of ids as they are, everything else as PNG of the same ids or colours."""
    coloured = _is_coloured(dataset)
    with ThreadPoolExecutor(2) as pool:
        written = pool.map(lambda source: _png_of(source, slots, coloured, dataset), source_of.values())
        for data, target in zip(written, source_of, strict=True):
            write_bytes_atomic(target, data)
    things = int(dataset.classes["thing"].sum())
    message = f"that {things} classes are things and not stuff is left out"
    return [finding("loss-attributes", message, count=things)] if things else []


def _is_coloured(dataset: Dataset) -> bool:
    """Whether classes are given by colours that are not gray."""
    colours = [colour_of_id(v) for v in _values_of(dataset) if v >= COLOUR_BASE]
    return any(len(set(c)) > 1 for c in colours)


def _slots(dataset: Dataset) -> dict[Colour, int]:
    """The written value of each colour of a mask; empty where masks hold values. Gray colours become their gray."""
    values = [*_values_of(dataset), *(v for v in dataset.ignore_values if v >= COLOUR_BASE)]
    colours = [colour_of_id(v) for v in values if v >= COLOUR_BASE]
    if not 0 < len(colours) < len(values):
        grays = [c[0] for c in colours]
        return dict(zip(colours, range(len(colours)) if _is_coloured(dataset) else grays, strict=True))
    raise DataError("the classes of masks must be given by values or by colours, got both", where=str(dataset.root))


def _sources(dataset: Dataset) -> list[tuple[str, str]]:
    rows = dataset.images.select("path", "mask_path").rows()
    lacking = [path for path, mask in rows if mask is None]
    if lacking:
        raise DataError(
            f"every image must have a mask to be written as masks, got {len(lacking)} without, {lacking[0]} the first",
            where=str(dataset.root),
            do="Exclude them in a sightline.yaml, or give the masks",
        )
    return rows


def _png_of(source: Path, slots: dict[Colour, int], coloured: bool, dataset: Dataset) -> bytes:
    if mask_files(source) != [source]:  # a file for each class
        return _png(Image.fromarray(examine_class_mask(source, dataset).ids))
    header = read_header(source)
    kept = {"gray", "gray16", "palette"} if coloured or not slots else {"gray", "gray16"}
    if header.kind == "png" and header.channels in kept and header.orientation == 1 and not header.alpha:
        return source.read_bytes()
    values = read_mask(source, slots or None)
    if values.max(initial=0) >= _DEEPEST or values.min(initial=0) < 0 or len(slots) > 256:
        raise DataError(f"masks must hold values 0..{_DEEPEST - 1} or at most 256 colours to be written, got others")
    if not coloured:
        return _png(Image.fromarray(values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)))
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette([channel for colour in slots for channel in colour])
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _check_objects(dataset: Dataset) -> None:
    if dataset.objects.height and not has_masks(dataset.objects):
        raise DataError(
            f"mask folders need masks, got a data set of {dataset.objects.height} boxes without any",
            where=str(dataset.root),
            do="Choose a format of boxes",
        )
    if dataset.classes.height > _MOST_CLASSES:
        raise DataError(
            f"masks can hold {_MOST_CLASSES} classes, got {dataset.classes.height}", where=str(dataset.root)
        )


def _paint_objects(dataset: Dataset, masks: dict[str, Path]) -> list[Finding]:
    lost: Counter[str] = Counter()

    def paint(work: tuple[Row, list[Row]]) -> tuple[Path, bytes, Counter[str]]:
        image, rows = work
        canvas, counts = _painted(rows, (image["height"], image["width"]))
        return masks[image["path"]], _png(Image.fromarray(canvas)), counts

    with ThreadPoolExecutor(2) as pool:
        for file, data, counts in pool.map(paint, images_with_objects(dataset)):
            write_bytes_atomic(file, data)
            lost += counts
    sentences = {
        "loss-instances": "{} objects become pixels of their class",
        "loss-overlap": "{} pixels of overlapping objects go to the smaller one",
        "loss-boxes": "{} objects without a mask are painted as ignored boxes",
    }
    return counted_losses(lost, sentences)


def _painted(rows: list[Row], size_hw: tuple[int, int]) -> tuple[Mask, Counter[str]]:
    """Class ids + 1 of one image's objects over the background 0, and what is lost."""
    lost: Counter[str] = Counter()
    drawn: list[tuple[bool, int, int, npt.NDArray[np.int64]]] = []  # counts, pixels, value, places down the columns
    for row in rows:
        counts = object_rle(row, size_hw)
        hidden = row["crowd"] or row["ignore"]
        if counts is None:
            lost["loss-boxes"] += not hidden
            places = _box_places(row, size_hw)
        else:
            places = foreground(counts, size_hw)
        hidden = hidden or counts is None
        drawn.append((not hidden, len(places), IGNORE_INDEX if hidden else row["class_id"] + 1, places))
    lost["loss-instances"] = len(drawn)
    # Regions that never count lie at the bottom, then the objects from large to small.
    drawn.sort(key=lambda d: (d[0], -d[1]))
    canvas, covered = paint([(value, places) for _, _, value, places in drawn], size_hw)
    lost["loss-overlap"] = sum(n for n, (counted, *_) in zip(covered, drawn, strict=True) if counted)
    return canvas, +lost


def _box_places(row: Row, size_hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    height, width = size_hw
    x1, y1 = (max(int(np.floor(row[k])), 0) for k in ("x1", "y1"))
    x2, y2 = min(int(np.ceil(row["x2"])), width), min(int(np.ceil(row["y2"])), height)
    columns, rows = np.arange(x1, max(x2, x1)), np.arange(y1, max(y2, y1))
    return (columns[:, None] * height + rows[None, :]).ravel()
