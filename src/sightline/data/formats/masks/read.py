"""Semantic segmentation: a folder of images and a mask of class ids for each.

Recognised: `images/` beside `masks/` (and the usual other names, any folder with "mask" in its name), with or without
split folders below; `train/` beside `trainannot/` (CamVid); `train/images` with `train/masks`; `masks/<class>/` with a
mask of each class, whose folder names it; one folder in which a mask is named like its image plus a suffix
(`Image_01L.jpg`, `Image_01L_1stHO.png`). Anything else, class names, colours, ignored values and excluded images are
said in a `sightline.yaml` (see `sightline.data.description`).

Without given classes all masks are read: values 0 and 255, or 0 and 1, are background and foreground; other values
become `class_<value>`, and 255 among them is ignored, as the benchmarks do. Masks in RGB without a given palette become
classes named by colour where there are few (black is the background), which is reported. An image without a mask, or
with one of another size, is not part of the data set, and is reported.
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import mask_files
from sightline.data.class_masks import BACKGROUND_NAMES, overlapping_pixels, value_counts
from sightline.data.codes import finding
from sightline.data.formats.masks.grays import two_classes, without_shades
from sightline.data.formats.masks.pairs import (
    LAYOUTS,
    MaskOptions,
    MaskPairs,
    find_mask_pairs,
    is_id_image,
    mask_folders,
    pair_in_one_folder,
)
from sightline.data.formats.shared.image_tables import build_image_table
from sightline.data.layout import absolute, list_images, read_text, relative
from sightline.media import COLOUR_BASE, as_rgb8, colour_of_id, id_of_colour, read_header, read_image, read_mask

__all__ = ["LOOKED_FOR", "detect", "read", "with_masks"]

LOOKED_FOR = LAYOUTS
_NAMES_FILE = "_classes.csv"
_CLASS_LIMIT = 255  # class ids are uint8, and 255 is "ignore"
_TWO = {0: "background", 255: "foreground"}
_SAME = 0.6  # of the union of all: two people who drew the same thing agree better, classes lie in each other less
_COLOUR_LIMIT = 64  # more colours than this are no palette but the shades of a resized or compressed mask
_COLOURS = {"rgb", "rgba", "rgb16"}


def detect(path: Path) -> float | None:
    """How surely the path is a mask folder, 0..1, or None."""
    if not path.is_dir():
        return None
    for images, masks, _ in mask_folders(path, MaskOptions()):
        if list_images(images, recursive=True) and _looks_like_masks(masks):
            return 0.5
    pairs = pair_in_one_folder(path, None)
    if not pairs.masks or len(pairs.masks) * 2 < len(pairs.images):
        return None
    return 0.3 if is_id_image(next(iter(pairs.masks.values()))) else None


def read(path: Path, options: MaskOptions | None = None) -> Dataset:
    """The data set of a folder of images and masks. DataError when there are none."""
    path = absolute(path)
    options = options or MaskOptions()
    pairs = find_mask_pairs(path, options)
    root = pairs.root
    said = [key for key in ("classes", "palette", "threshold") if getattr(options, key) is not None]
    if pairs.class_folders and said:
        message = f"masks in a folder for each class have the folders' names as classes, got '{said[0]}'"
        raise DataError(message, where=str(root), do=f"Leave '{said[0]}' out, or rename the folders")
    if options.classes is None and options.palette is None and options.threshold is None:
        options = replace(options, classes=_named_beside(path))
    table, findings = build_image_table([(i, s) for i, s in pairs.images if i in pairs.masks], root)
    findings += pairs.findings()
    table, notes = with_masks(table, pairs)
    if pairs.class_folders:
        options = replace(options, classes=_named_by_folders(pairs.class_folders), palette=None, threshold=None)
    threshold, classes, ignore_values, class_notes = _classes(table, root, options)
    dataset = dataset_from_rows(
        table,
        pl.DataFrame(schema=OBJECTS_SCHEMA),
        classes,
        root=root,
        name=path.name,
        task="semantic",
        format="masks",
        findings=findings + notes + class_notes,
        ignore_values=ignore_values,
    )
    dataset = replace(dataset, mask_threshold=threshold)
    return replace(dataset, findings=(*dataset.findings, *_overlaps(dataset))) if pairs.class_folders else dataset


def _named_by_folders(folders: list[str]) -> dict[int, str]:
    """The classes of masks that are a file for each class: the background first, by its own name if it has a folder."""
    background = next((name for name in folders if name.lower() in BACKGROUND_NAMES), "background")
    return dict(enumerate([background, *(name for name in folders if name != background)]))


def _overlaps(dataset: Dataset) -> list[Finding]:
    """That masks of classes overlap, where a pixel has only one class; an unreadable one is named by the audit.

    DataError where they are so alike that they cannot be of different classes.
    """

    def count(path: str) -> tuple[int, int]:
        try:
            return overlapping_pixels(dataset.image_path(path), dataset)
        except DataError:
            return 0, 0

    paths = dataset.images["mask_path"].to_list()
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(paths, pool.map(count, paths), strict=True))
    covered, drawn = (sum(pair[i] for pair in found.values()) for i in (0, 1))
    if covered > _SAME * (drawn - covered):
        names = ", ".join(dataset.class_names[1:])
        message = f"masks in a folder for each class must be of different things, got nearly the same in {names}"
        raise DataError(message, where=str(dataset.root), do="Name the folder to use as `masks` in a sightline.yaml")
    overlapping = [path for path, (under, _) in found.items() if under]
    if not overlapping:
        return []
    message = (
        f"the masks of classes overlap in {len(overlapping)} images, by {covered} pixels, which go to the class that "
        "is smaller in its image"
    )
    return [finding("mask-overlap", message, path=overlapping[0], count=len(overlapping))]


def _named_beside(folder: Path) -> dict[int, str] | None:
    """The names of the values in Roboflow's `_classes.csv` (pixel value, class); None where there is none."""
    file = folder / _NAMES_FILE
    if not file.is_file():
        return None
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_text(file).splitlines())]
    names = {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdecimal() and row[1]}
    return names or None


def with_masks(table: pl.DataFrame, pairs: MaskPairs) -> tuple[pl.DataFrame, list[Finding]]:
    """The images table with `mask_path`, less the images whose mask cannot be used."""
    findings, root = [], pairs.root
    mask_of = {relative(image, root): mask for image, mask in pairs.masks.items()}
    paths: list[str | None] = []
    for name, width, height in table.select("path", "width", "height").iter_rows():
        path = relative(mask_of[name], root)
        paths.append(None)
        try:
            mask_hw = read_header(next(iter(mask_files(mask_of[name])), mask_of[name])).size_hw
        except DataError as error:
            findings.append(
                finding("mask-unreadable", f"{error.what}; its image is left out", path=path, facts={"image": name})
            )
            continue
        if mask_hw != (height, width):
            message = (
                f"the mask has {mask_hw[1]} × {mask_hw[0]} pixels, its image {width} × {height}; both are left out"
            )
            findings.append(finding("mask-size-mismatch", message, path=path, facts={"image": name}))
            continue
        paths[-1] = path
    table = table.with_columns(pl.Series("mask_path", paths, dtype=pl.String)).filter(pl.col("mask_path").is_not_null())
    return table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("image_id")), findings


def _classes(
    table: pl.DataFrame, root: Path, options: MaskOptions
) -> tuple[int | None, pl.DataFrame, tuple[int, ...], list[Finding]]:
    notes: list[Finding] = []
    ignored, threshold = options.ignore_values, options.threshold
    if threshold is not None:
        names = dict(sorted((options.classes or _TWO).items()))
    elif options.palette is not None:
        names = {id_of_colour(colour): name for name, colour in options.palette.items()}
    elif options.classes is not None:
        names = dict(options.classes)
    else:
        use = _values_in_use(table["mask_path"].to_list(), root)
        threshold, notes = two_classes(use.pixels, use.lossy) if not use.coloured and not ignored else (None, [])
        names, found, class_notes = (_TWO, (), []) if threshold else _name_values(use.values - set(ignored))
        ignored, notes = (*ignored, *found), use.notes + notes + class_notes
    if len(names) > _CLASS_LIMIT:
        raise DataError(
            f"masks must hold at most {_CLASS_LIMIT} classes, got {len(names)} values",
            where=str(root),
            do="If the values number single objects, this is instance segmentation; export it as COCO",
        )
    columns = {"class_id": range(len(names)), "name": list(names.values()), "source_id": list(names)}
    schema = {"class_id": pl.Int32, "name": pl.String, "source_id": pl.Int64}
    return threshold, pl.DataFrame(columns, schema=schema).with_columns(thing=pl.lit(False)), ignored, notes


def _name_values(values: set[int]) -> tuple[dict[int, str], tuple[int, ...], list[Finding]]:
    """Class names by pixel value, the values that are ignored, and findings."""
    colours = {v: colour_of_id(v) for v in values if v >= COLOUR_BASE}
    if any(len(set(c)) > 1 for c in colours.values()):
        return _name_colours(values, colours)
    gray = {v: colours[v][0] if v in colours else v for v in values}  # gray values, some of them stored as RGB
    if set(gray.values()) <= {0, 255} or set(gray.values()) <= {0, 1}:
        names = {v: "foreground" if g else "background" for v, g in gray.items()}
        lacking = {0, 1} - {min(g, 1) for g in gray.values()}
        base = COLOUR_BASE if colours else 0
        names |= {base: "background"} if 0 in lacking else {}
        names |= {id_of_colour((1, 1, 1)) if colours else 1: "foreground"} if 1 in lacking else {}
        return dict(sorted(names.items())), (), []
    notes: list[Finding] = []
    ignored = tuple(v for v, g in gray.items() if g == 255)
    if ignored:
        notes.append(finding("mask-ignored-value", "pixels of value 255 are taken for unlabelled and never count"))
    names = {v: f"class_{gray[v]}" for v in sorted(values - set(ignored))}
    message = f"the mask values {sorted(gray[v] for v in names)[:12]} have no names; they are numbered"
    notes.append(finding("class-names-missing", message, count=len(names)))
    return names, ignored, notes


def _name_colours(
    values: set[int], colours: dict[int, tuple[int, int, int]]
) -> tuple[dict[int, str], tuple[int, ...], list[Finding]]:
    """Classes named by their colour; black is the background, a single other colour the foreground."""
    if len(colours) > _COLOUR_LIMIT:
        raise DataError(
            f"RGB masks must have at most {_COLOUR_LIMIT} colours to be read without a palette, got {len(colours)}",
            do="Give `palette` (class: [r, g, b]) in a sightline.yaml, or export the masks without smoothing",
        )
    names = {v: f"class_{v}" for v in sorted(values - set(colours))}
    names |= {v: "background" if not any(c) else f"colour_{bytes(c).hex()}" for v, c in sorted(colours.items())}
    if len(names) == 2 and "background" in names.values():
        names = {v: "background" if name == "background" else "foreground" for v, name in names.items()}
    listed = ", ".join(f"{name} = {list(colours[v])}" for v, name in list(names.items())[:12] if v in colours)
    message = f"the masks are RGB pictures without a palette; their {len(colours)} colours are the classes: {listed}"
    return names, (), [finding("class-names-missing", message, count=len(names))]


class _Use(NamedTuple):
    """What the masks hold: how many pixels of each value by path, or which colours; which files lose detail."""

    pixels: dict[str, dict[int, int]]
    coloured: bool
    lossy: frozenset[str]
    notes: list[Finding]

    @property
    def values(self) -> set[int]:
        """All values in use; of a resized binary mask the two it had."""
        return set().union(*(counts if self.coloured else without_shades(counts) for counts in self.pixels.values()))


def _values_in_use(paths: list[str], root: Path) -> _Use:
    """The pixel values of the masks; of masks in RGB the colours, of all masks then.

    An unreadable mask is left to the audit and the loader, which name it too.
    """
    headers = {path: read_header(root / path) for path in paths}
    coloured = any(header.channels in _COLOURS for header in headers.values())

    def values(path: str) -> dict[int, int] | Finding:
        try:
            if coloured and headers[path].channels in {*_COLOURS, "palette"}:
                return _colours_in_use(root / path)
            return value_counts(read_mask(root / path))
        except DataError as error:
            return finding("mask-unreadable", error.what, path=path)

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(paths, pool.map(values, paths), strict=True))
    return _Use(
        {path: found for path, found in results.items() if isinstance(found, dict)},
        coloured,
        frozenset(path for path, header in headers.items() if header.kind == "jpeg"),
        [found for found in results.values() if isinstance(found, Finding)],
    )


def _colours_in_use(file: Path) -> dict[int, int]:
    picture = as_rgb8(read_image(file)).astype(np.int64)
    return value_counts(COLOUR_BASE + (picture @ np.array([1 << 16, 1 << 8, 1])))


def _looks_like_masks(folder: Path) -> bool:
    first = next(iter(list_images(folder, recursive=True)), None)
    return first is not None and first.suffix.lower() not in {".jpg", ".jpeg"}
