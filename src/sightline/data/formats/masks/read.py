"""Semantic segmentation: a folder of images and a mask of class ids for each.

Recognised: `images/` beside `masks/` (and the usual other names, any folder with "mask" in its name), with or without
split folders below; `train/` beside `trainannot/` (CamVid); `train/images` with `train/masks`; one folder in which a
mask is named like its image plus a suffix (`Image_01L.jpg`, `Image_01L_1stHO.png`). Anything else, class names,
colours, ignored values and excluded images are said in a `sightline.yaml` (see `sightline.data.description`).

Without given classes all masks are read: values 0 and 255, or 0 and 1, are background and foreground; other values
become `class_<value>`, and 255 among them is ignored, as the benchmarks do. Masks in RGB without a given palette become
classes named by colour where there are few (black is the background), which is reported. An image without a mask, or
with one of another size, is not part of the data set, and is reported.
"""

import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.class_masks import value_counts
from sightline.data.codes import finding
from sightline.data.formats.masks.grays import two_classes, without_shades
from sightline.data.formats.shared.image_tables import build_image_table
from sightline.data.layout import absolute, common_root, list_images, relative, split_of, subfolder
from sightline.media import COLOUR_BASE, as_rgb8, colour_of_id, id_of_colour, read_header, read_image, read_mask

__all__ = ["LOOKED_FOR", "MaskOptions", "MaskPairs", "detect", "find_mask_pairs", "read", "with_masks"]

LAYOUTS = "`images/` beside `masks/`, `train/` beside `trainannot/`, or images with masks named `<image>_<suffix>`"
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages", "PNGImages")
_MASK_FOLDERS = ("masks", "mask", "labels", "SegmentationClass", "annotations", "gt")
_ANNOTATION_ENDINGS = ("annot", "_annot", "_mask", "_masks", "_labels", "_gt")
_SUFFIX = re.compile(r"[_\-.].+")
_PREFIX = re.compile(r"[A-Za-z]+[_\-.]")


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
    threshold: int | None = None  # of two classes, the second begins at this value
    id_maps: bool = False  # the values number objects, not classes


@dataclass
class MaskPairs:
    """Images with split, the mask file of each that has one, and the masks that have no image."""

    root: Path
    images: list[tuple[Path, str | None]] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)
    orphans: list[Path] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)
    notes: list[Finding] = field(default_factory=list)

    def findings(self) -> list[Finding]:
        """Images without a mask, masks without an image, and several sets of masks."""
        root = self.root
        without = sorted(relative(i, root) for i, _ in self.images if i not in self.masks)
        findings = [*self.notes]
        findings += [finding("label-missing-file", "the image has no mask and is left out", path=p) for p in without]
        findings += [
            finding("label-orphan", "the mask has no image", path=relative(p, root)) for p in sorted(self.orphans)
        ]
        if len(self.suffixes) > 1:
            chosen, *others = sorted(self.suffixes, key=lambda s: (-self.suffixes[s], s))
            message = f"masks end in {', '.join(repr(s) for s in (chosen, *others))}; those in '{chosen}' are used"
            findings.append(finding("mask-several-sets", message, count=len(self.suffixes)))
        return findings


def find_mask_pairs(path: Path, options: MaskOptions) -> MaskPairs:
    """The images of a data set with their masks; DataError when no image has one."""
    folders = mask_folders(path, options)
    pairs = MaskPairs(common_root([path, *(f for i, m, _ in folders for f in (i, m))]))
    for images, masks, split in folders:
        if images == masks:
            pair_by_kind(pairs, images, split, options.mask_suffix)
            continue
        _pair_folders(pairs, images, masks, split, options.mask_suffix)
    if not folders:
        pairs = pair_in_one_folder(path, options.mask_suffix)
    if not pairs.masks and any(images == masks for images, masks, _ in folders):
        message = "a picture cannot be its own mask, and no file of one stem beside it is one"
        raise DataError(message, where=str(folders[0][0]), do="Name the folder of the masks, or their `mask_suffix`")
    if not pairs.masks:
        looked = ", ".join(f"{i} and {m}" for i, m, _ in folders) or LAYOUTS
        raise DataError(f"must hold images and masks of the same names, got none in {looked}", where=str(path))
    return pairs


def mask_folders(path: Path, options: MaskOptions) -> list[tuple[Path, Path, str | None]]:
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


def pair_in_one_folder(path: Path, suffix: str | None) -> MaskPairs:
    """The images of one folder with masks named like them plus a suffix, the commonest one where none is given."""
    pairs = MaskPairs(path)
    files = {p.stem: p for p in reversed(list_images(path))}
    suffix = suffix if suffix is not None else _common_suffix(pairs, list(files), list(files))
    if not suffix:
        pair_by_kind(pairs, path, None, None)
        return pairs
    named = {stem + s for stem in files for s in (*pairs.suffixes, suffix) if stem + s in files}
    for stem, image in sorted(files.items()):
        if stem in named:
            continue
        pairs.images.append((image, None))
        if stem + suffix in files:
            pairs.masks[image] = files[stem + suffix]
    return pairs


def pair_by_kind(pairs: MaskPairs, folder: Path, split: str | None, suffix: str | None) -> None:
    """Pair the files of one stem (but for `suffix`) in one folder: the one that can be a mask is that of the other."""
    by_stem: dict[str, list[Path]] = {}
    for file in list_images(folder):
        by_stem.setdefault(file.stem.removesuffix(suffix or ""), []).append(file)
    for files in by_stem.values():
        masks = [f for f in files if (f.stem.endswith(suffix) if suffix else len(files) > 1 and is_id_image(f))]
        images = [f for f in files if f not in masks]
        pairs.images += [(image, split) for image in images]
        if len(images) == len(masks) == 1:
            pairs.masks[images[0]] = masks[0]


def is_id_image(file: Path) -> bool:
    """Whether a file can be a mask: one channel, and not compressed with loss."""
    try:
        header = read_header(file)
    except DataError:
        return False
    return header.channels in {"gray", "gray16", "palette"} and header.kind != "jpeg"


def _beside(path: Path) -> tuple[Path, Path] | None:
    images = subfolder(path, _IMAGE_FOLDERS)
    masks = _mask_folder(path, images)
    return (images, masks) if images is not None and masks is not None else None


def _mask_folder(path: Path, images: Path | None) -> Path | None:
    named = [p.name for p in sorted(path.iterdir()) if p.is_dir() and "mask" in p.name.lower() and p != images]
    return subfolder(path, (*_MASK_FOLDERS, *named))


def _pair_folders(pairs: MaskPairs, images: Path, masks: Path, split: str | None, suffix: str | None) -> None:
    image_of, mask_of = _by_key(pairs, images), _by_key(pairs, masks)
    if suffix is None and not set(image_of) & set(mask_of):
        suffix = _common_suffix(pairs, list(image_of), list(mask_of))
        if suffix is None:
            image_of, mask_of = _without_prefix(image_of), _without_prefix(mask_of)
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


def _by_key(pairs: MaskPairs, folder: Path) -> dict[str, Path]:
    """The images of a folder and below by their path without suffix; of two with one such path the first counts."""
    found: dict[str, Path] = {}
    for file in list_images(folder, recursive=True):
        other = found.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
        if other != file:
            message = f"'{other.name}' has the same stem and is used"
            pairs.notes.append(finding("image-same-stem", message, path=relative(file, pairs.root)))
    return found


def _without_prefix(files: dict[str, Path]) -> dict[str, Path]:
    """The files by key without the word that begins all their names (`img_0`, `img_1`); as they are where none does."""
    words = {m[0] if (m := _PREFIX.match(file.name)) else "" for file in files.values()}
    if len(words) != 1 or words == {""}:
        return files
    word = words.pop()
    cut = {f"{key.rpartition('/')[0]}/{key.rpartition('/')[2][len(word) :]}": file for key, file in files.items()}
    return {key.removeprefix("/"): file for key, file in cut.items()}


def _common_suffix(pairs: MaskPairs, image_keys: list[str], mask_keys: list[str]) -> str | None:
    """The suffix most masks carry behind their image's name; the alphabetically first of equally common ones."""
    known = set(image_keys)
    for key in mask_keys:
        cut = next((i for i in range(len(key) - 1, 0, -1) if key[:i] in known and _SUFFIX.fullmatch(key[i:])), None)
        if cut is not None:
            pairs.suffixes[key[cut:]] += 1
    return min(pairs.suffixes, key=lambda s: (-pairs.suffixes[s], s), default=None)


LOOKED_FOR = LAYOUTS
_CLASS_LIMIT = 255  # class ids are uint8, and 255 is "ignore"
_TWO = {0: "background", 255: "foreground"}
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
    table, findings = build_image_table([(i, s) for i, s in pairs.images if i in pairs.masks], root)
    findings += pairs.findings()
    table, notes = with_masks(table, pairs)
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
    return replace(dataset, mask_threshold=threshold)


def with_masks(table: pl.DataFrame, pairs: MaskPairs) -> tuple[pl.DataFrame, list[Finding]]:
    """The images table with `mask_path`, less the images whose mask cannot be used."""
    findings, root = [], pairs.root
    mask_of = {relative(image, root): mask for image, mask in pairs.masks.items()}
    paths: list[str | None] = []
    for name, width, height in table.select("path", "width", "height").iter_rows():
        path = relative(mask_of[name], root)
        paths.append(None)
        try:
            mask_hw = read_header(mask_of[name]).size_hw
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
