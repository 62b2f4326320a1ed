"""Every picture that lies in a data set's folders: read, or named in a finding with why it is not."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath

from sightline.core.dataset import Dataset
from sightline.core.errors import InputError
from sightline.core.findings import Finding
from sightline.core.frames import mask_files, picture_file
from sightline.data.codes import finding
from sightline.data.layout import JUNK_FOLDERS, KIND_FOLDERS, absolute, common_root
from sightline.media import IMAGE_SUFFIXES

__all__ = ["account_for_pictures"]

_NOT_DECODED = {
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".nii", ".nii.gz"), "NIfTI"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"), "camera raw"),
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".ico": "an icon",
    ".tga": "TGA",
    ".exr": "OpenEXR",
    ".hdr": "Radiance HDR",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".jxl": "JPEG XL",
    ".mha": "MetaImage",
    ".fits": "FITS",
}
"""What pictures may come as and is not decoded. An array, an icon or a volume is one only beside pictures that are."""
_EXTRAS = ("HEIC", "DICOM")
_ONLY_BESIDE = frozenset({".npy", ".npz", ".ico", ".svg", ".raw", ".hdr"})
_LOSSY = frozenset({".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".jp2"})  # masks are seldom stored so
_LABEL_FOLDERS = frozenset(
    {"mask", "masks", "segmentation", "segmentations", "segmentationclass", "segmentationobject", "panoptic", "gt"}
    | {"annot", "annots", "annotation", "annotations", "label", "labels", "groundtruth", "trainannot", "valannot"}
    | {"testannot", "stuffthingmaps", "gtfine", "gtcoarse"}
)
_FARTHEST = 3  # folders between a data set's own and its pictures, for one that a file describes
_NAMED = 5  # examples in a message


def account_for_pictures(dataset: Dataset, place: Path, detect: Callable[[Path], str | None]) -> Dataset:
    """`dataset` with `left_out`: the pictures below `place`, or beside its images, that are not read, all in findings.

    Files that cannot be decoded count as pictures where they have a picture's suffix. A label whose picture is one of
    these is no orphan. Masks and other pictures of labels are none. What operating systems leave is said once, and so
    is a folder that `detect` takes for a data set of another format.
    """
    place = absolute(place)
    held = _places(dataset)
    masks = dataset.images["mask_path"].drop_nulls().to_list()
    labels = {str(file) for p in masks for file in mask_files(dataset.root / p)}
    labels |= {str(dataset.root / p) for p in dataset.objects["label_path"].cast(str).drop_nulls().unique().to_list()}
    found, junk = _walk(_scope(dataset, place, held))
    beside = {_folder(p) for p in held}
    holders = {_folder(p) for p in labels if PurePosixPath(p).suffix.lower() in IMAGE_SUFFIXES} - beside
    rest = sorted(
        p
        for p in found - held - labels
        if not _is_label_picture(p, place, holders) and (_suffix(p) not in _ONLY_BESIDE or _folder(p) in beside)
    )
    if dataset.task == "semantic":
        rest = _without_other_masks(rest, held)
    if dataset.format == "coco-panoptic":  # maps are named like their images
        stems = {Path(p).stem for p in held}
        rest = [p for p in rest if _suffix(p) in _LOSSY or Path(p).stem not in stems]
    paths = [_relative(p, dataset.root) for p in rest]
    kept, good = _without_false_orphans(dataset.findings, paths)
    others = _other_sets(dataset, rest, place, beside, detect)
    notes = [*_notes(dataset, paths, kept, good, others), *_junk_note(junk, dataset.root)]
    return replace(dataset, findings=(*kept, *notes), left_out=tuple(paths))


def _places(dataset: Dataset) -> set[str]:
    """The files of the images. Of most the root and the path need only be joined: pathlib takes seconds for 100,000."""
    root = str(dataset.root)
    if os.sep != "/":
        return {str(picture_file(dataset.root / p)) for p in dataset.images["path"]}
    return {
        str(picture_file(dataset.root / p)) if "#" in p or "//" in p or "./" in p or p[:1] == "/" else f"{root}/{p}"
        for p in dataset.images["path"]
    }


def _scope(dataset: Dataset, place: Path, held: Iterable[str]) -> list[Path]:
    """The folders that are the data set's: the one it was read from, and those of its images."""
    folders = sorted({Path(folder) for folder in {_folder(p) for p in held}})
    if place.is_dir():
        return [place, *(f for f in folders if place not in (f, *f.parents))]
    if not folders:
        return []
    if place.suffix.lower() == ".json":
        return folders
    root = common_root([*folders, place.parent])
    if any(len(f.relative_to(root).parts) > _FARTHEST for f in folders):
        return folders  # far apart: what lies between them is not this data set's
    return [root] if root != Path(root.anchor) else folders


def _walk(folders: Iterable[Path]) -> tuple[set[str], dict[str, int]]:
    """The picture files in folders and below, and how many files lie in each folder of an operating system."""
    found: set[str] = set()
    junk: dict[str, int] = {}
    seen: set[str] = set()
    for top in folders:
        for parent, below, names in os.walk(top, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            for name in JUNK_FOLDERS.intersection(below):
                junk[f"{parent}{os.sep}{name}"] = sum(len(files) for _, _, files in os.walk(f"{parent}{os.sep}{name}"))
            below[:] = [name for name in below if not name.startswith(".") and name not in JUNK_FOLDERS]
            found |= {f"{parent}{os.sep}{n}" for n in names if not n.startswith(".") and _is_picture(n)}
    return found, junk


def _is_picture(name: str) -> bool:
    suffix = _suffix(name)
    return suffix in IMAGE_SUFFIXES or suffix in _NOT_DECODED


def _folder(path: str) -> str:
    return path.rpartition(os.sep)[0]


def _suffix(path: str) -> str:
    lower = path.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else PurePath(lower).suffix


def _is_label_picture(path: str, place: Path, holders: set[str]) -> bool:
    """Whether a picture holds labels: it lies where masks in use do, or where the folder's name says so."""
    if _folder(path) in holders:
        return True
    if _suffix(path) in _LOSSY:
        return False
    parts = Path(path).parts[len(place.parts) : -1] if Path(path).is_relative_to(place) else Path(path).parts[-3:-1]
    return any(part.lower() in _LABEL_FOLDERS for part in parts)


def _without_other_masks(rest: list[str], held: Iterable[str]) -> list[str]:
    """The pictures that are no further set of masks, which are named like an image and a suffix."""
    stems = {p.removesuffix(PurePath(p).suffix) for p in held}
    return [p for p in rest if not any(p[: m.start()] in stems for m in re.finditer(r"[_\-.]", p))]


def _relative(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _key(path: str) -> str:
    """What a picture and its label share: the path without suffix and without the folders of their kind."""
    pure = PurePosixPath(path)
    stem = pure.name[: -len(_suffix(pure.name))] if _suffix(pure.name) else pure.name
    return "/".join([p.lower() for p in pure.parts[:-1] if p.lower() not in KIND_FOLDERS] + [stem])


def _without_false_orphans(findings: Iterable[Finding], paths: list[str]) -> tuple[list[Finding], set[str]]:
    """The findings without orphans whose picture is there and merely not read; and these pictures."""
    by_key = {_key(p): p for p in paths}
    by_key |= {f"{_key(p)}.nii": p for p in paths if p.lower().endswith(".nii.gz")}  # one suffix taken off, not two
    kept, good = [], set()
    for f in findings:
        picture = by_key.get(_key(f.path)) if f.code == "label-orphan" and f.path is not None else None
        if picture is None:
            kept.append(f)
        else:
            good.add(picture)
    return kept, good


def _other_sets(
    dataset: Dataset, rest: list[str], place: Path, beside: set[str], detect: Callable[[Path], str | None]
) -> dict[str, str]:
    """What data set of another format each unread picture belongs to: the topmost folder without an image of ours."""
    known: dict[Path, str | None] = {}
    found: dict[str, str] = {}
    for path in rest:
        above = [p for p in reversed(Path(path).parents) if place in p.parents]
        for folder in above:
            if folder not in known:
                ours = any(b == str(folder) or b.startswith(f"{folder}{os.sep}") for b in beside)
                known[folder] = None if ours else _format_of(folder, detect)
            name = known[folder]
            if name is not None and name != dataset.format:
                found[_relative(path, dataset.root)] = f"{_relative(str(folder), dataset.root)} ({name})"
                break
    return found


def _format_of(folder: Path, detect: Callable[[Path], str | None]) -> str | None:
    try:
        return detect(folder)
    except InputError:  # a description that cannot be read is no business of the set beside it
        return None


def _notes(
    dataset: Dataset, paths: list[str], findings: list[Finding], good: set[str], others: dict[str, str]
) -> Iterator[Finding]:
    """One finding for each picture that cannot be decoded, one for each folder of others that nothing names yet."""
    named = {f.path for f in findings} | {f.facts.get("image") for f in findings}
    named |= {path for f in findings if f.facts.get("read") is False for path in f.facts["images"]}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    of_others: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        suffix = _suffix(path)
        kind = None if suffix in IMAGE_SUFFIXES else _NOT_DECODED.get(suffix)
        if path in named:
            continue
        if kind is not None:
            label = "; its label is good" if path in good else ""
            extra = f", or install sightline[{kind.lower()}]" if kind in _EXTRAS else ""
            message = f"the file is {kind}, which is not decoded: convert it to PNG or JPEG{extra}{label}"
            yield finding("image-unreadable", message, path=path)
            continue
        if path in others:
            of_others[others[path]].append(path)
            continue
        code = "split-unlisted" if path in good and dataset.splits else "image-unlisted"
        groups[code, PurePosixPath(path).parent.as_posix()].append(path)
    for name, group in sorted(of_others.items()):
        message = f"{len(group)} pictures are those of another data set, {name}"
        yield finding("layout-other-set", message, path=group[0], count=len(group), facts={"images": group})
    for (code, folder), group in sorted(groups.items()):
        labelled = sum(path in good for path in group)
        labels = f"; {labelled} of them have labels, which are good" if labelled else ""
        one = len(group) == 1
        shown = ", ".join(PurePosixPath(p).name for p in group[:_NAMED]) + (", …" if len(group) > _NAMED else "")
        where = "in no split" if code == "split-unlisted" else "named by no list, label file or split"
        message = (
            f"{len(group)} picture{'' if one else 's'} in {folder}/ {'is' if one else 'are'} not read, being {where}"
        )
        yield finding(
            code, f"{message}: {shown}{labels}", path=group[0], count=len(group), facts={"images": group, "read": False}
        )


def _junk_note(junk: dict[str, int], root: Path) -> list[Finding]:
    if not junk:
        return []
    names = ", ".join(sorted(f"{_relative(p, root)}/" for p in junk))
    count = sum(junk.values())
    return [finding("layout-junk", f"{names} with {count} files of an operating system is left out", count=count)]
