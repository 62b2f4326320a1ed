"""Semantic segmentation: a folder of images and a mask of class ids for each.

Recognised: `images/` beside `masks/` (and the usual other names, any folder with "mask" in its name), with or without
split folders below; `train/` beside `trainannot/` (CamVid); `train/images` with `train/masks`; one folder in which a
mask is named like its image plus a suffix (`Image_01L.jpg`, `Image_01L_1stHO.png`). Anything else, class names,
colours, ignored values and excluded images are said in a `sightline.yaml` (see `sightline.data.description`).

Without given classes all masks are read: values 0 and 255, or 0 and 1, are background and foreground; other values
become `class_<value>`, and 255 among them is ignored, as the benchmarks do. An image without a mask, or with one of
another size, is not part of the data set, and is reported.
"""

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.decode import id_of_colour, read_mask
from sightline.data.image_header import read_header
from sightline.data.image_table import build_image_table
from sightline.data.labels import value_counts
from sightline.data.layout import absolute, common_root, list_images, relative, split_of, subfolder

__all__ = ["LOOKED_FOR", "MaskOptions", "detect", "read"]

LOOKED_FOR = "`images/` beside `masks/`, `train/` beside `trainannot/`, or images with masks named `<image>_<suffix>`"
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "PNGImages")
_MASK_FOLDERS = ("masks", "mask", "labels", "SegmentationClass", "annotations", "gt")
_ANNOTATION_ENDINGS = ("annot", "_annot", "_mask", "_masks", "_labels", "_gt")
_SUFFIX = re.compile(r"[_\-.].+")
_CLASS_LIMIT = 255  # class ids are uint8, and 255 is "ignore"


@dataclass(frozen=True)
class MaskOptions:
    """What a data description says about masks; everything may be left out."""

    images: Path | None = None
    masks: Path | None = None
    parts: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)  # split → image and mask folder
    mask_suffix: str | None = None
    classes: Mapping[int, str] | None = None
    palette: Mapping[str, tuple[int, int, int]] | None = None
    ignore_values: tuple[int, ...] = ()


@dataclass
class _Pairs:
    """Images with split, and the mask file of each that has one."""

    images: list[tuple[Path, str | None]] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)
    orphans: list[Path] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)


def detect(path: Path) -> float | None:
    """How surely the path is a mask folder, 0..1, or None."""
    if not path.is_dir():
        return None
    for images, masks, _ in _folders(path, MaskOptions()):
        if list_images(images, recursive=True) and _looks_like_masks(masks):
            return 0.5
    pairs = _pair_in_one_folder(path, None)
    if not pairs.masks or len(pairs.masks) * 2 < len(pairs.images):
        return None
    return 0.3 if _is_id_image(next(iter(pairs.masks.values()))) else None


def read(path: Path, options: MaskOptions | None = None) -> Dataset:
    """The data set of a folder of images and masks. DataError when there are none."""
    path = absolute(path)
    options = options or MaskOptions()
    folders = _folders(path, options)
    pairs = _Pairs()
    for images, masks, split in folders:
        _pair_folders(pairs, images, masks, split, options.mask_suffix)
    if not folders:
        pairs = _pair_in_one_folder(path, options.mask_suffix)
    if not pairs.masks:
        looked = ", ".join(f"{i} and {m}" for i, m, _ in folders) or LOOKED_FOR
        raise DataError(f"must hold images and masks of the same names, got none in {looked}", where=str(path))
    root = common_root([path, *(f for i, m, _ in folders for f in (i, m))])
    table, findings = build_image_table([(i, s) for i, s in pairs.images if i in pairs.masks], root)
    findings += _pair_findings(pairs, root)
    table, notes = _with_masks(table, pairs, root)
    classes, ignore_values, class_notes = _classes(table, root, options)
    return dataset_from_rows(
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


def _folders(path: Path, options: MaskOptions) -> list[tuple[Path, Path, str | None]]:
    """Image folder, mask folder and split of each part of the data set."""
    if options.parts:
        return [(images, masks, split) for split, (images, masks) in options.parts.items()]
    if options.images is not None or options.masks is not None:
        images = options.images or subfolder(path, _IMAGE_FOLDERS)
        masks = options.masks or _mask_folder(path, images)
        if images is None or masks is None or not images.is_dir() or not masks.is_dir():
            missing = "images" if images is None or not images.is_dir() else "masks"
            given = options.images if missing == "images" else options.masks
            raise DataError(f"'{missing}' must be a folder, got {given or 'none of the usual names'}", where=str(path))
        return [(images, masks, None)]
    below = sorted(p for p in path.iterdir() if p.is_dir())
    names = {p.name: p for p in below}
    camvid = [
        (p, names[p.name + ending], split_of(p.name))
        for p in below
        for ending in _ANNOTATION_ENDINGS
        if p.name + ending in names
    ]
    if camvid:
        return camvid
    beside = _beside(path)
    if beside is not None:
        return [(*beside, None)]
    parts = [(p, _beside(p)) for p in below if split_of(p.name)]
    return [(*pair, split_of(p.name)) for p, pair in parts if pair is not None]


def _beside(path: Path) -> tuple[Path, Path] | None:
    images = subfolder(path, _IMAGE_FOLDERS)
    masks = _mask_folder(path, images)
    return (images, masks) if images is not None and masks is not None else None


def _mask_folder(path: Path, images: Path | None) -> Path | None:
    named = [p.name for p in sorted(path.iterdir()) if p.is_dir() and "mask" in p.name.lower() and p != images]
    return subfolder(path, (*_MASK_FOLDERS, *named))


def _pair_folders(pairs: _Pairs, images: Path, masks: Path, split: str | None, suffix: str | None) -> None:
    image_of = {p.relative_to(images).with_suffix("").as_posix(): p for p in list_images(images, recursive=True)}
    mask_of = {p.relative_to(masks).with_suffix("").as_posix(): p for p in list_images(masks, recursive=True)}
    if suffix is None and not set(image_of) & set(mask_of):
        suffix = _common_suffix(pairs, list(image_of), list(mask_of))
    used = set()
    for key, image in image_of.items():
        first = key.split("/")[0] if "/" in key else ""
        pairs.images.append((image, split or split_of(first)))
        mask = mask_of.get(key + (suffix or ""))
        if mask is not None:
            pairs.masks[image] = mask
            used.add(mask)
    known = {key + s for key in image_of for s in pairs.suffixes}
    pairs.orphans += [p for key, p in mask_of.items() if p not in used and key not in known]


def _pair_in_one_folder(path: Path, suffix: str | None) -> _Pairs:
    pairs = _Pairs()
    files = {p.stem: p for p in reversed(list_images(path))}
    suffix = suffix if suffix is not None else _common_suffix(pairs, list(files), list(files))
    if not suffix:
        return pairs
    named = {stem + s for stem in files for s in (*pairs.suffixes, suffix) if stem + s in files}
    for stem, image in sorted(files.items()):
        if stem in named:
            continue
        pairs.images.append((image, None))
        if stem + suffix in files:
            pairs.masks[image] = files[stem + suffix]
    return pairs


def _common_suffix(pairs: _Pairs, image_keys: list[str], mask_keys: list[str]) -> str | None:
    """The suffix most masks carry behind their image's name; the alphabetically first of equally common ones."""
    known = set(image_keys)
    for key in mask_keys:
        cut = next((i for i in range(len(key) - 1, 0, -1) if key[:i] in known and _SUFFIX.fullmatch(key[i:])), None)
        if cut is not None:
            pairs.suffixes[key[cut:]] += 1
    return min(pairs.suffixes, key=lambda s: (-pairs.suffixes[s], s), default=None)


def _pair_findings(pairs: _Pairs, root: Path) -> list[Finding]:
    without = sorted(relative(i, root) for i, _ in pairs.images if i not in pairs.masks)
    findings = [finding("label-missing-file", "the image has no mask and is left out", path=p) for p in without]
    findings += [
        finding("label-orphan", "the mask has no image", path=relative(p, root)) for p in sorted(pairs.orphans)
    ]
    if len(pairs.suffixes) > 1:
        chosen, *others = sorted(pairs.suffixes, key=lambda s: (-pairs.suffixes[s], s))
        message = f"masks end in {', '.join(repr(s) for s in (chosen, *others))}; those in '{chosen}' are used"
        findings.append(finding("mask-several-sets", message, count=len(pairs.suffixes)))
    return findings


def _with_masks(table: pl.DataFrame, pairs: _Pairs, root: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The images table with `mask_path`, less the images whose mask cannot be used."""
    findings = []
    mask_of = {relative(image, root): mask for image, mask in pairs.masks.items()}
    paths: list[str | None] = []
    for name, width, height in table.select("path", "width", "height").iter_rows():
        path = relative(mask_of[name], root)
        paths.append(None)
        try:
            mask_hw = read_header(mask_of[name]).size_hw
        except DataError as error:
            findings.append(finding("mask-unreadable", f"{error.what}; its image is left out", path=path))
            continue
        if mask_hw != (height, width):
            message = (
                f"the mask has {mask_hw[1]} × {mask_hw[0]} pixels, its image {width} × {height}; both are left out"
            )
            findings.append(finding("mask-size-mismatch", message, path=path))
            continue
        paths[-1] = path
    table = table.with_columns(pl.Series("mask_path", paths, dtype=pl.String)).filter(pl.col("mask_path").is_not_null())
    return table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("image_id")), findings


def _classes(
    table: pl.DataFrame, root: Path, options: MaskOptions
) -> tuple[pl.DataFrame, tuple[int, ...], list[Finding]]:
    notes: list[Finding] = []
    ignored = options.ignore_values
    if options.palette is not None:
        names = {id_of_colour(colour): name for name, colour in options.palette.items()}
    elif options.classes is not None:
        names = dict(options.classes)
    else:
        values, notes = _values_in_use(table["mask_path"].to_list(), root)
        names, found, class_notes = _name_values(values - set(ignored))
        ignored, notes = (*ignored, *found), notes + class_notes
    if len(names) > _CLASS_LIMIT:
        raise DataError(
            f"masks must hold at most {_CLASS_LIMIT} classes, got {len(names)} values",
            where=str(root),
            do="If the values number single objects, this is instance segmentation; export it as COCO",
        )
    columns = {"class_id": range(len(names)), "name": list(names.values()), "source_id": list(names)}
    schema = {"class_id": pl.Int32, "name": pl.String, "source_id": pl.Int64}
    return pl.DataFrame(columns, schema=schema).with_columns(thing=pl.lit(False)), ignored, notes


def _name_values(values: set[int]) -> tuple[dict[int, str], tuple[int, ...], list[Finding]]:
    """Class names by pixel value, the values that are ignored, and findings."""
    if values <= {0, 255} or values <= {0, 1}:
        foreground = 255 if 255 in values else 1
        return {0: "background", foreground: "foreground"}, (), []
    notes: list[Finding] = []
    ignored: tuple[int, ...] = ()
    if 255 in values:
        ignored = (255,)
        notes.append(finding("mask-ignored-value", "pixels of value 255 are taken for unlabelled and never count"))
    names = {v: f"class_{v}" for v in sorted(values - {255})}
    message = f"the mask values {sorted(names)[:12]} have no names; they are numbered"
    notes.append(finding("class-names-missing", message, count=len(names)))
    return names, ignored, notes


def _values_in_use(paths: list[str], root: Path) -> tuple[set[int], list[Finding]]:
    """All pixel values of the masks. An unreadable mask is left to the audit and the loader, which name it too."""

    def values(path: str) -> set[int] | Finding:
        try:
            mask = read_mask(root / path)
        except DataError as error:
            if "RGB colours" in error.what:
                raise
            return finding("mask-unreadable", error.what, path=path)
        return set(value_counts(mask))

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(values, paths))
    used = [r for r in results if isinstance(r, set)]
    return set().union(*used), [r for r in results if isinstance(r, Finding)]


def _looks_like_masks(folder: Path) -> bool:
    first = next(iter(list_images(folder, recursive=True)), None)
    return first is not None and first.suffix.lower() not in {".jpg", ".jpeg"}


def _is_id_image(file: Path) -> bool:
    try:
        header = read_header(file)
    except DataError:
        return False
    return header.channels in {"gray", "gray16", "palette"} and header.kind != "jpeg"
