"""Writing COCO panoptic: `annotations/panoptic_<split>.json` and a PNG of segment ids per image beside it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_bytes_atomic
from sightline.core.findings import Finding
from sightline.core.process import Progress
from sightline.data.codes import finding
from sightline.data.formats.coco.write import categories_of, extents, images_by_split, split_losses
from sightline.data.formats.coco_panoptic.read import ID_WEIGHTS
from sightline.data.formats.shared.image_tables import has_masks
from sightline.data.formats.shared.shapes import foreground, object_rle, split_ids
from sightline.data.formats.shared.writing import common_losses, copied_name, copy_files, encoded_png
from sightline.data.layout import split_of
from sightline.ops import rle

__all__ = ["write"]

_WORKERS = 2
_MAX_ID = (1 << 24) - 1
_LOSSES = {
    "loss-objects": "{} objects without a mask, or wholly hidden by smaller ones, are left out",
    "loss-crowd": "{} crowd regions without a mask, or wholly hidden, are left out",
    "loss-ignore": "{} ignored objects are left out: their pixels belong to no segment",
    "loss-overlap": "{} pixels of overlapping objects go to the smaller one",
    "loss-boxes": "the boxes of {} partly hidden objects become those of what is seen",
    "loss-rounding": "the outlines of {} objects become pixels",
    "loss-ids": "{} segments are numbered anew in their image",
}

Row: TypeAlias = dict[str, Any]


@dataclass
class _Painted:
    """The map of one image, its segments, and what was lost."""

    ids: npt.NDArray[np.int32]  # (H, W)
    segments: list[Row] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of masks as COCO panoptic below `folder`; returns what it cannot hold, counted.

    Every pixel belongs to one segment: where objects overlap, to the smaller one. Ignored objects are left out, which
    makes their pixels nobody's, as the format means it. DataError for a data set without masks of objects.
    """
    if dataset.task == "semantic" or (dataset.objects.height and not has_masks(dataset.objects)):
        got = "semantic masks" if dataset.task == "semantic" else "boxes only"
        raise DataError(f"COCO panoptic needs masks of objects, got {got}", do="Write a format that holds these")
    if copy_images:
        copy_files(((dataset.image_path(p), folder / copied_name(p)) for p in dataset.images["path"]), progress)
    lost: Counter[str] = Counter()
    for split, images in images_by_split(dataset.images):
        file = folder / "annotations" / ("panoptic.json" if split is None else f"panoptic_{split}.json")
        lost += _write_part(dataset, images, file, copy_images)
    losses = [finding(code, text.format(lost[code]), count=lost[code]) for code, text in _LOSSES.items() if lost[code]]
    return losses + common_losses(dataset) + split_losses(dataset, lambda split: split_of(f"panoptic_{split}"))


def _write_part(dataset: Dataset, images: pl.DataFrame, file: Path, copy_images: bool) -> Counter[str]:
    """Write the JSON of some images and the maps beside it; returns the losses."""
    objects = dataset.objects.join(images.select("image_id"), on="image_id", how="semi")
    objects_of = objects.partition_by("image_id", as_dict=True)
    number_anew = not dataset.objects["object_id"].is_between(1, _MAX_ID).all()
    paths = [copied_name(p) if copy_images else p for p in images["path"]]
    names = _map_names(paths)
    rows = list(images.iter_rows(named=True))

    def paint(work: tuple[Row, str]) -> _Painted:
        image, name = work
        painted = _paint(image, objects_of.get((image["image_id"],)), number_anew)
        write_bytes_atomic(file.with_suffix("") / name, _png(painted.ids))
        return painted

    categories = [
        c | {"isthing": int(thing)} for c, thing in zip(categories_of(dataset), dataset.classes["thing"], strict=True)
    ]
    lost: Counter[str] = Counter()
    annotations = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        work = zip(rows, names, strict=True)
        for image, name, painted in zip(rows, names, pool.map(paint, work), strict=True):
            segments = [s | {"category_id": categories[s["category_id"]]["id"]} for s in painted.segments]
            annotations.append({"image_id": image["image_id"], "file_name": name, "segments_info": segments})
            lost += painted.lost
    listed = [
        {"id": row["image_id"], "file_name": path, "width": row["width"], "height": row["height"]}
        for row, path in zip(rows, paths, strict=True)
    ]
    document = {"images": listed, "annotations": annotations, "categories": categories}
    write_bytes_atomic(file, msgspec.json.encode(document) + b"\n")
    return lost


def _paint(image: Row, objects: pl.DataFrame | None, number_anew: bool) -> _Painted:
    """The map of an image: larger objects first, so that smaller ones stay whole."""
    size_hw = (image["height"], image["width"])
    flat = np.zeros(size_hw[0] * size_hw[1], dtype=np.int32)  # down the columns, as run lengths count
    lost: Counter[str] = Counter()
    masks: list[tuple[Row, bytes, int]] = []
    for row in objects.iter_rows(named=True) if objects is not None else ():
        counts = object_rle(row, size_hw)
        if row["ignore"] and not row["crowd"]:
            lost["loss-ignore"] += 1
        elif counts is None:
            lost["loss-crowd" if row["crowd"] else "loss-objects"] += 1
        else:
            masks.append((row, counts, rle.area(counts)))
    masks.sort(key=lambda mask: (-mask[2], mask[0]["object_id"]))
    numbers = [i + 1 if number_anew else int(row["object_id"]) for i, (row, _, _) in enumerate(masks)]
    for number, (_, counts, _) in zip(numbers, masks, strict=True):
        places = foreground(counts, size_hw)
        lost["loss-overlap"] += int(np.count_nonzero(flat[places]))
        flat[places] = number
    ids = flat.reshape((size_hw[1], size_hw[0])).T
    seen = split_ids(ids)
    segments = []
    for number, (row, counts, area) in zip(numbers, masks, strict=True):
        visible = seen.get(number)
        if visible is None:
            lost["loss-crowd" if row["crowd"] else "loss-objects"] += 1
            continue
        segments.append(_segment(row, number, None if visible == counts else visible, size_hw))
        lost["loss-boxes"] += rle.area(visible) < area
        lost["loss-rounding"] += row["polygon"] is not None
        lost["loss-ids"] += number_anew
    return _Painted(ids, segments, lost)


def _segment(row: Row, number: int, visible: bytes | None, size_hw: tuple[int, int]) -> Row:
    """The entry of a segment, its category the class id still; `visible` is what is seen of it where that is less."""
    x1, y1, x2, y2 = row["x1"], row["y1"], row["x2"], row["y2"]
    area = row["area"]
    if visible is not None:
        x1, y1, x2, y2 = rle.to_box(visible, size_hw).tolist()
        area = float(rle.area(visible))
    return {
        "id": number,
        "category_id": row["class_id"],
        "bbox": [x1, y1, *extents(np.array([x1, y1]), np.array([x2, y2])).tolist()],
        "area": area,
        "iscrowd": int(row["crowd"]),
    }


def _png(ids: npt.NDArray[np.int32]) -> bytes:
    channels = [(ids // weight % 256).astype(np.uint8) for weight in reversed(ID_WEIGHTS)]  # OpenCV begins with blue
    return encoded_png(np.stack(channels, axis=2))


def _map_names(paths: list[str]) -> list[str]:
    """PNG names for images: the bare stem where that is one image's alone, else the whole path."""
    stems = Counter(PurePosixPath(p).stem for p in paths)
    return [f"{PurePosixPath(p).stem}.png" if stems[PurePosixPath(p).stem] == 1 else f"{p}.png" for p in paths]
