"""One mask file for each object, as in the 2018 Data Science Bowl; and maps of object ids, as in Penn-Fudan.

Recognised: folders `<name>/images/` with one image and `<name>/masks/` with a mask for each of its objects, at any
depth, below split folders or not. Masks in a folder of their own below `masks/` are of the class that folder names;
others are of the one class a `sightline.yaml` gives, else of "object". Non-zero pixels are the object.

A `sightline.yaml` with `instances: true` says that folders of images and masks (see `masks`) hold id maps: every
value but 0 and `ignore_values` is an object of the one class in `classes`.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.masks.pairs import MaskOptions, find_mask_pairs
from sightline.data.formats.masks.read import with_masks
from sightline.data.formats.shared.image_tables import build_dataset, build_image_table, class_table
from sightline.data.formats.shared.shapes import split_ids
from sightline.data.layout import absolute, list_images, relative, split_of
from sightline.media import as_rgb8, read_header, read_image, read_mask
from sightline.ops import rle

__all__ = ["LOOKED_FOR", "class_of_folder", "detect", "folder_of_class", "read"]

LOOKED_FOR = "folders `<name>/images/` with one image and `<name>/masks/` with a mask file for each object"
DEFAULT_CLASS = "object"
_LOOKED_AT = 20  # folders that are looked into to recognise the format
_DEEPEST = 6
_WORKERS = 2
_UNSAFE = '%/\\:*?"<>|'
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass
class _Part:
    """The objects of one image, as columns to be, and what was met in their masks."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def detect(path: Path) -> float | None:
    """How surely the path holds a mask file for each object, 0..1, or None."""
    if not path.is_dir() or _is_sample(path):
        return None
    below = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))[:_LOOKED_AT]
    if len(below) == 1 and not _is_sample(below[0]):
        return None  # a folder around the data set, whose name is not its only split
    samples = [next(iter([p] if _is_sample(p) else _samples(p, limit=1)), None) for p in below]
    sure = [s for s in samples if s is not None and len(list_images(s / "images")) == 1 and not _is_pair(s)]
    return 0.8 if sure and len(sure) * 2 > len(below) else None


def read(path: Path, options: MaskOptions | None = None) -> Dataset:
    """The data set of a folder with a mask file for each object, or of id maps; DataError when it is neither."""
    path = absolute(path)
    options = options or MaskOptions()
    images, findings, parts, root = _read_maps(path, options) if options.id_maps else _read_files(path)
    findings = findings + [f for part in parts for f in part.findings]
    rows = [row for part in parts for row in part.rows]
    names, notes = _class_names(rows, options)
    findings += notes
    slots = {name: i for i, name in enumerate(names)}
    rows = [row for row in rows if row["class"] in slots]
    columns = ("image_id", "x1", "y1", "x2", "y2", "area", "ignore", "rle")
    table = pl.DataFrame(
        {key: [row[key] for row in rows] for key in columns}, schema={key: OBJECTS_SCHEMA[key] for key in columns}
    ).with_columns(
        class_id=pl.Series([slots[row["class"]] for row in rows], dtype=pl.Int32),
        crowd=pl.lit(False),
        label_path=pl.Series([row["path"] for row in rows], dtype=pl.Categorical),
    )
    return build_dataset(
        path, "instance-files", images, table, class_table(names), findings, root=root, task="instance"
    )


def folder_of_class(name: str) -> str:
    """The folder that stands for a class: its name, characters that a folder cannot have as %XX."""
    text = "".join(f"%{ord(c):02X}" if c in _UNSAFE or ord(c) < 32 else c for c in name)
    return f"%2E{text[1:]}" if text.startswith(".") else text


def class_of_folder(folder: str) -> str:
    """The class a folder stands for: what `folder_of_class` was given.

    >>> class_of_folder(folder_of_class("a/b: 100%"))
    'a/b: 100%'
    """
    head, *rest = folder.split("%")
    return head + "".join(_decoded(part) for part in rest)


def _decoded(part: str) -> str:
    try:
        return chr(int(part[:2], 16)) + part[2:]
    except ValueError:
        return f"%{part}"


def _is_sample(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _is_pair(sample: Path) -> bool:
    """Whether the folder rather holds one image and its one mask of classes, of the same name."""
    images, masks = list_images(sample / "images"), list_images(sample / "masks")
    return len(masks) == 1 and [m.stem for m in masks] == [i.stem for i in images]


def _samples(path: Path, *, limit: int | None = None) -> list[Path]:
    """The folders of samples below a folder, sorted; no more than `limit`."""
    found: list[Path] = []
    for parent, folders, _ in os.walk(path, followlinks=True):
        here = Path(parent)
        if here != path and "images" in folders and "masks" in folders:
            found.append(here)
            folders.clear()
        if len(found) == limit:
            break
        deep = len(here.relative_to(path).parts) >= _DEEPEST
        folders[:] = [] if deep else sorted(f for f in folders if not f.startswith("."))
    return sorted(found)


def _read_files(path: Path) -> tuple[pl.DataFrame, list[Finding], list[_Part], Path]:
    samples = _samples(path) if path.is_dir() else []
    findings: list[Finding] = []
    image_of: dict[Path, Path] = {}
    for sample in samples:
        images = list_images(sample / "images")
        where = relative(sample, path)
        if not images:
            count = len(list_images(sample / "masks", recursive=True))
            findings.append(finding("label-orphan", f"{count} masks have no image", path=where, count=max(count, 1)))
            continue
        image_of[images[0]] = sample
        for other in images[1:]:
            message = f"a folder must hold one image; '{images[0].name}' is used and this one left out"
            findings.append(finding("image-same-stem", message, path=relative(other, path)))
    if not image_of:
        raise DataError(f"must hold {LOOKED_FOR}, got none", where=str(path))
    folders = {image: sample.relative_to(path).parts for image, sample in image_of.items()}
    splits = [(image, split_of(parts[0]) if len(parts) > 1 else None) for image, parts in folders.items()]
    table, notes = build_image_table(splits, path)
    jobs = [
        (image_id, image_of[path / name], (height, width))
        for image_id, name, height, width in table.select("image_id", "path", "height", "width").iter_rows()
    ]
    with ThreadPoolExecutor(_WORKERS) as pool:
        read = list(pool.map(lambda job: _read_sample(job[0], job[1], job[2], path), jobs))
    return table, findings + notes, read, path


def _read_sample(image_id: int, sample: Path, size_hw: tuple[int, int], root: Path) -> _Part:
    part = _Part()
    files = list_images(sample / "masks", recursive=True)
    covered = np.zeros(size_hw, dtype=np.bool_)
    overlap = 0
    if not files:
        where = relative(sample / "masks", root)
        part.findings.append(finding("label-empty-file", "no object", path=where, image_id=image_id))
    for file in files:
        name = relative(file, root)
        folder = file.parent.relative_to(sample / "masks").as_posix()
        mask = _read_object(file, name, image_id, size_hw, part.findings)
        if mask is None:
            continue
        overlap += int(np.count_nonzero(covered & mask))
        covered |= mask
        counts = rle.encode(mask)
        part.rows.append(_row(image_id, name, None if folder == "." else class_of_folder(folder), counts, size_hw))
    if overlap:
        message = f"{overlap} pixels belong to several masks"
        where = relative(sample / "masks", root)
        part.findings.append(finding("mask-overlap", message, path=where, image_id=image_id, count=overlap))
    return part


def _read_object(
    file: Path, name: str, image_id: int, size_hw: tuple[int, int], findings: list[Finding]
) -> Mask | None:
    """The mask of one file; None, and a finding, where there is no object to be had from it."""
    try:
        header = read_header(file)
        gray = header.channels not in {"rgb", "rgba", "rgb16"}
        values = read_mask(file) if gray else as_rgb8(read_image(file)).max(axis=2)
    except DataError as error:
        findings.append(finding("mask-unreadable", error.what, path=name, image_id=image_id))
        return None
    if values.shape != size_hw:
        height, width = values.shape
        message = f"the mask has {width} × {height} pixels, its image {size_hw[1]} × {size_hw[0]}; it is left out"
        findings.append(finding("mask-size-mismatch", message, path=name, image_id=image_id))
        return None
    top = values.max()
    if top <= 0:
        message = "the mask of an object has no pixel; it is left out"
        findings.append(finding("mask-missing-segment", message, path=name, image_id=image_id))
        return None
    mask: Mask = values == top
    between = np.count_nonzero(values) - np.count_nonzero(mask)
    if between:
        message = f"{between} pixels are neither 0 nor {top}; half of {top} and more is taken for the object"
        findings.append(finding("mask-unexpected-value", message, path=name, image_id=image_id, count=int(between)))
        mask = values >= top / 2
    return mask


def _read_maps(path: Path, options: MaskOptions) -> tuple[pl.DataFrame, list[Finding], list[_Part], Path]:
    pairs = find_mask_pairs(path, options)
    root = pairs.root
    table, findings = build_image_table([(i, s) for i, s in pairs.images if i in pairs.masks], root)
    findings += pairs.findings()
    table, notes = with_masks(table, pairs)
    jobs = table.select("image_id", "mask_path", "height", "width").rows()
    hidden = {0, *options.ignore_values}

    def read_map(job: tuple[int, str, int, int]) -> _Part:
        image_id, name, height, width = job
        try:
            ids = split_ids(read_mask(root / name))
        except DataError as error:
            return _Part(findings=[finding("mask-unreadable", error.what, path=name, image_id=image_id)])
        rows = [_row(image_id, name, None, counts, (height, width)) for v, counts in ids.items() if v not in hidden]
        empty = [] if rows else [finding("label-empty-file", "no object", path=name, image_id=image_id)]
        return _Part(rows, empty)

    with ThreadPoolExecutor(_WORKERS) as pool:
        parts = list(pool.map(read_map, jobs))
    return table.drop("mask_path"), findings + notes, parts, root


def _row(image_id: int, path: str, class_name: str | None, counts: bytes, size_hw: tuple[int, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = rle.to_box(counts, size_hw).tolist()
    box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "area": float(rle.area(counts))}
    return {"image_id": image_id, "path": path, "class": class_name, "rle": counts, "ignore": False, **box}


def _class_names(rows: Iterable[dict[str, Any]], options: MaskOptions) -> tuple[list[str], list[Finding]]:
    """The class names; rows without a class get the only one there is, rows of an undeclared class a finding."""
    given = None if options.classes is None else list(options.classes.values())
    default = given[0] if given and len(given) == 1 else DEFAULT_CLASS
    notes = []
    for row in rows:
        row["class"] = row["class"] or default
        if given is not None and row["class"] not in given:
            message = f"class '{row['class']}' is not declared; the object is left out"
            notes.append(finding("label-unknown-class", message, path=row["path"], image_id=row["image_id"]))
    return given if given is not None else sorted({row["class"] for row in rows}) or [DEFAULT_CLASS], notes
