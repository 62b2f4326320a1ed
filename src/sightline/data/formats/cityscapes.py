"""Cityscapes: `gtFine/<split>/<city>/` beside `leftImg8bit/<split>/<city>/`.

Where there are `*_labelIds.png` (or `*_labelTrainIds.png`) the data set is semantic: the 19 classes the benchmark
evaluates, in the order of its train ids, and every other id ignored. Where there are outlines alone
(`*_polygons.json`) they are read as objects; a label that ends in "group" is a crowd of its class, and the labels the
benchmark leaves out ("ego vehicle", "out of roi", "rectification border") are ignored.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA, OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.data.codes import finding
from sightline.data.formats.masks.pairs import MaskPairs
from sightline.data.formats.masks.read import with_masks
from sightline.data.formats.shared.image_tables import build_image_table
from sightline.data.formats.shared.named import NamedObjects, open_named, read_json
from sightline.data.layout import absolute, list_files, list_images, relative, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

LOOKED_FOR = "Cityscapes `gtFine/<split>/<city>/*_labelIds.png` (or `*_polygons.json`) beside `leftImg8bit/`"
_IMAGES = "leftImg8bit"
_LABELS = ("gtFine", "gtCoarse")
_EVALUATED = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
"""The classes by train id (Cordts et al. 2016, table 1, and the benchmark's labels.py)."""
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_FIRST_THING = _EVALUATED.index("person")
_NEVER = frozenset({"ego vehicle", "out of roi", "rectification border", "license plate"})
_GROUP = "group"
_STEM = re.compile(r"(.+?)_(leftImg8bit|gtFine|gtCoarse)")
_KINDS: Mapping[str, tuple[int, ...]] = {"_labelIds.png": _LABEL_IDS, "_labelTrainIds.png": tuple(range(19))}


def detect(path: Path) -> float | None:
    """How surely the path is Cityscapes, 0..1, or None."""
    folder = _label_folder(path)
    if folder is None:
        return None
    is_labelled = any(f.name.endswith((*_KINDS, "_polygons.json")) for f in _label_files(folder))
    return 0.96 if is_labelled else None


def read(path: Path) -> Dataset:
    """The data set of such a folder. DataError when it is none."""
    path = absolute(path)
    folder = _label_folder(path)
    files = _label_files(folder) if folder is not None else []
    for ending, values in _KINDS.items():
        masks = {_stem(p): p for p in files if p.name.endswith(ending)}
        if masks:
            return _semantic(path, masks, values)
    return _outlined(path, {_stem(p): p for p in files if p.name.endswith("_polygons.json")})


def _label_folder(path: Path) -> Path | None:
    if not (path / _IMAGES).is_dir():
        return None
    return next((path / name for name in _LABELS if (path / name).is_dir()), None)


def _label_files(folder: Path) -> list[Path]:
    return list_files(folder, (".png", ".json"), recursive=True)


def _stem(file: Path) -> str:
    """What an image and its labels share: the split's folder and the name (`train/ulm_000000_000019`)."""
    name = _STEM.match(file.name)
    return f"{file.parent.parent.name}/{name[1] if name else file.stem}"


def _pictures(path: Path) -> dict[str, tuple[Path, str | None]]:
    """The images by stem, each with its split; `train_extra` is the part of train that has coarse labels."""
    found = {_stem(p): p for p in list_images(path / _IMAGES, recursive=True)}
    return {stem: (p, split_of(p.relative_to(path / _IMAGES).parts[0])) for stem, p in found.items()}


def _semantic(path: Path, masks: Mapping[str, Path], values: tuple[int, ...]) -> Dataset:
    pairs = MaskPairs(path)
    for stem, (image, split) in _pictures(path).items():
        pairs.images.append((image, split))
        if stem in masks:
            pairs.masks[image] = masks[stem]
    pairs.orphans = sorted(set(masks.values()) - set(pairs.masks.values()))
    table, findings = build_image_table([(i, s) for i, s in pairs.images if i in pairs.masks], path)
    table, notes = with_masks(table, pairs)
    classes = pl.DataFrame(
        {
            "class_id": range(len(_EVALUATED)),
            "name": _EVALUATED,
            "source_id": values,
            "thing": [i >= _FIRST_THING for i in range(len(_EVALUATED))],
        },
        schema={c: CLASSES_SCHEMA[c] for c in ("class_id", "name", "source_id", "thing")},
    )
    ignored = tuple(sorted({*range(34), 255} - set(values)))
    message = f"ids of classes the benchmark does not evaluate never count; {len(_EVALUATED)} classes are read"
    return dataset_from_rows(
        table,
        pl.DataFrame(schema=OBJECTS_SCHEMA),
        classes,
        root=path,
        name=path.name,
        task="semantic",
        format="cityscapes",
        findings=[*findings, *pairs.findings(), *notes, finding("mask-ignored-value", message)],
        ignore_values=ignored,
    )


def _outlined(path: Path, files: Mapping[str, Path]) -> Dataset:
    found = open_named(path, list(files.values()), LOOKED_FOR)
    left = dict(files)
    for stem, (picture, split) in _pictures(path).items():
        file = left.pop(stem, None)
        found.label_path = relative(file or picture, path)
        image, _ = found.picture(relative(picture, path), split=split)
        if file is None:
            found.report("label-missing-file", "the image has no annotation", None, image)
        else:
            _read_file(file, image, found)
    for file in left.values():
        found.label_path = relative(file, path)
        found.report("label-orphan", "the annotation has no image", None)
    return found.dataset(path, "cityscapes")


def _read_file(file: Path, image: str, found: NamedObjects) -> None:
    try:
        value = read_json(file)
    except DataError as error:
        found.report("label-malformed", error.what, None, image)
        return
    objects = value.get("objects") if isinstance(value, dict) else None
    if not isinstance(objects, list):
        found.report("label-malformed", f"the file must have a list of objects, got {objects!r:.30}", None, image)
        return
    for entry in objects:
        label = entry.get("label") if isinstance(entry, dict) else None
        points = entry.get("polygon") if isinstance(entry, dict) else None
        if not isinstance(label, str) or not isinstance(points, list):
            message = f"an object must have a label and a polygon, got {entry!r:.60}"
            found.report("label-malformed", message, None, image)
            continue
        ring: list[Any] = [v for pair in points for v in (pair if isinstance(pair, list) else [None])]
        name = label.removesuffix(_GROUP)
        crowd = name != label and name in _EVALUATED
        found.add(image, name if crowd else label, None, ring=ring, crowd=crowd, ignore=label in _NEVER)
