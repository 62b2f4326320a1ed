"""Writing one mask file for each object: `<image>/images/<image>.png`, `<image>/masks/00000.png`, …"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import yaml

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_bytes_atomic, write_text_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.formats.instance_files.read import folder_of_class
from sightline.data.formats.shared.image_tables import has_masks
from sightline.data.formats.shared.shapes import object_rle
from sightline.data.formats.shared.writing import (
    check_splits,
    common_losses,
    counted_losses,
    encoded_png,
    images_with_objects,
    place_images,
    places_by_split,
)
from sightline.ops import rle

__all__ = ["write"]

Row: TypeAlias = dict[str, Any]
_BOX_SLACK = 1e-6
_LONGEST = 255  # bytes of a folder's name on most file systems
_LOSSES = {
    "loss-crowd": "{} crowd regions are left out",
    "loss-ignore": "{} ignored objects are left out",
    "loss-objects": "{} objects without a readable mask are left out",
    "loss-rounding": "the outlines of {} objects become pixels",
    "loss-boxes": "the boxes of {} objects become those of their masks",
}


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of instances with a mask file for each object; returns what this cannot hold, counted.

    Several classes become folders below each `masks/`; their names stand in a `sightline.yaml`. Without `copy_images`
    the images must lie at their places already. DataError for a data set without masks.
    """
    if dataset.task == "semantic" or (dataset.objects.height and not has_masks(dataset.objects)):
        kind = "semantic masks" if dataset.task == "semantic" else f"{dataset.objects.height} boxes without any mask"
        raise DataError(
            f"mask files of objects need masks of objects, got a data set of {kind}", where=str(dataset.root)
        )
    check_splits(dataset, "a folder of mask files")
    places = {path: PurePosixPath(place) for path, place in places_by_split(dataset.images).items()}
    samples = {path: place.with_suffix("") for path, place in places.items()}
    targets = {path: str(samples[path] / "images" / place.name) for path, place in places.items()}
    place_images(dataset, folder, targets, copy=copy_images, progress=progress)
    several = dataset.classes.height > 1
    names = [_folder_of_class(name) if several else "" for name in dataset.class_names]
    lost: Counter[str] = Counter()

    def write_sample(work: tuple[Row, list[Row]]) -> Counter[str]:
        image, rows = work
        target = folder / samples[image["path"]] / "masks"
        target.mkdir(parents=True, exist_ok=True)
        return _write_objects(rows, target, names, (image["height"], image["width"]))

    with ThreadPoolExecutor(2) as pool:
        for counts in pool.map(write_sample, images_with_objects(dataset)):
            lost += counts
    described = {"format": "instance-files", "name": dataset.name, "classes": list(dataset.class_names)}
    write_text_atomic(folder / "sightline.yaml", yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return [*counted_losses(lost, _LOSSES), *common_losses(dataset)]


def _folder_of_class(name: str) -> str:
    folder = folder_of_class(name)
    if not 0 < len(folder.encode()) <= _LONGEST:
        got = f"'{name:.40}…' of {len(folder.encode())}" if name else "one without a name"
        raise DataError(
            f"a class name must be one a folder can have (1 to {_LONGEST} bytes), got {got}", do="Rename it"
        )
    return folder


def _write_objects(rows: list[Row], target: Path, names: list[str], size_hw: tuple[int, int]) -> Counter[str]:
    lost: Counter[str] = Counter()
    for number, row in enumerate(rows):
        if row["crowd"] or row["ignore"]:
            lost["loss-crowd" if row["crowd"] else "loss-ignore"] += 1
            continue
        counts = object_rle(row, size_hw)
        if counts is None or not rle.area(counts):
            lost["loss-objects"] += 1
            continue
        pixels = rle.decode(counts, size_hw).astype(np.uint8) * np.uint8(255)
        write_bytes_atomic(target / names[row["class_id"]] / f"{number:05d}.png", encoded_png(pixels))
        _count_losses(row, counts, size_hw, lost)
    return +lost


def _count_losses(row: Row, counts: bytes, size_hw: tuple[int, int], lost: Counter[str]) -> None:
    box = np.array([row[k] for k in ("x1", "y1", "x2", "y2")])
    lost["loss-boxes"] += bool(np.abs(rle.to_box(counts, size_hw) - box).max() > _BOX_SLACK)
    lost["loss-rounding"] += row["polygon"] is not None and row["rle"] is None
