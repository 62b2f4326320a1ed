"""Which mask belongs to which image: folders side by side, suffixes, prefixes, and files of one stem in one folder."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import EACH_CLASS
from sightline.data.codes import finding
from sightline.data.layout import common_root, list_images, relative, split_of, subfolder
from sightline.media import read_header

__all__ = [
    "LAYOUTS",
    "MaskOptions",
    "MaskPairs",
    "find_mask_pairs",
    "is_id_image",
    "mask_folders",
    "pair_in_one_folder",
]

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
    class_folders: list[str] = field(default_factory=list)  # of masks that are a file for each class

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
        if _pair_by_class(pairs, masks, split, image_of, mask_of):
            return
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


def _pair_by_class(
    pairs: MaskPairs, masks: Path, split: str | None, image_of: dict[str, Path], mask_of: dict[str, Path]
) -> bool:
    """Whether the masks lie in a folder for each class, named like their images there; pairs them so."""
    of_class: dict[str, dict[str, Path]] = {}
    for key, mask in mask_of.items():
        folder, _, rest = key.partition("/")
        if rest in image_of:
            of_class.setdefault(rest, {})[folder] = mask
    folders = {folder for found in of_class.values() for folder in found}
    if len(folders) < 2 or all(split_of(folder) for folder in folders):
        return False
    used = set()
    for key, image in image_of.items():
        pairs.images.append((image, split or split_of(key.split("/")[0] if "/" in key else "")))
        found = of_class.get(key, {})
        if found:
            names = Counter(mask.relative_to(masks / folder) for folder, mask in found.items())
            name = max(names, key=lambda name: (names[name], name))
            pairs.masks[image] = masks / EACH_CLASS / name
            used |= {masks / folder / name for folder in found}
    pairs.class_folders = sorted({*pairs.class_folders, *folders})
    pairs.orphans += [mask for mask in mask_of.values() if mask not in used]
    return True


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
