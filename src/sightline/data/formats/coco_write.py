"""Writing COCO instances: `annotations/instances_<split>.json`, images at their own relative paths."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import write_json_atomic
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.image_copy import copied_name, copy_files
from sightline.ops import rle

__all__ = ["write"]

Floats: TypeAlias = npt.NDArray[np.float64]
_LOST = ("occlusion", "truncation", "track_id")


def write(dataset: Dataset, folder: Path, *, copy_images: bool = True) -> list[Finding]:
    """Write a data set of boxes or instances as COCO below `folder`; returns what COCO cannot hold, counted.

    One file per split (`instances.json` for images without one). A data set read from COCO keeps its image, object and
    category ids; others get category ids from 1. Ids, boxes, areas and masks read back are exactly those written.
    """
    if dataset.task == "semantic":
        raise DataError("COCO instances need objects, got a data set of semantic masks", do="Keep it as mask folders")
    if copy_images:
        copy_files((dataset.image_path(p), folder / copied_name(p)) for p in dataset.images["path"])
    categories = _categories(dataset)
    objects = dataset.objects.join(
        dataset.images.select("image_id", "split", "width", "height"), on="image_id", maintain_order="left"
    )
    for split, images in _by_split(dataset.images):
        part = objects.filter(pl.col("split").eq_missing(pl.lit(split, dtype=pl.String)))
        document = {
            "images": [
                {"id": i, "file_name": copied_name(path) if copy_images else path, "width": w, "height": h}
                for i, path, w, h in images.select("image_id", "path", "width", "height").iter_rows()
            ],
            "annotations": list(_annotations(part, [c["id"] for c in categories])),
            "categories": categories,
        }
        name = "instances.json" if split is None else f"instances_{split}.json"
        write_json_atomic(folder / "annotations" / name, document, indent=None)
    lost = {c: dataset.objects.height - dataset.objects[c].null_count() for c in _LOST}
    lost["group, frame and time"] = dataset.images.height - dataset.images["frame"].null_count()
    told = ", ".join(f"{name} of {count}" for name, count in lost.items() if count)
    return [finding("loss-attributes", f"left out: {told}", count=sum(lost.values()))] if told else []


def _by_split(images: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    for split in images["split"].unique(maintain_order=True).to_list():
        yield split, images.filter(pl.col("split").eq_missing(pl.lit(split, dtype=pl.String)))


def _categories(dataset: Dataset) -> list[dict[str, Any]]:
    keep = dataset.format == "coco" and dataset.classes["source_id"].null_count() == 0
    return [
        {"id": source if keep else class_id + 1, "name": name}
        for class_id, name, source in dataset.classes.select("class_id", "name", "source_id").iter_rows()
    ]


def _annotations(objects: pl.DataFrame, category_ids: list[int]) -> Iterator[dict[str, Any]]:
    boxes = objects.select("x1", "y1", "x2", "y2").to_numpy()
    widths, heights = _extents(boxes[:, 0], boxes[:, 2]), _extents(boxes[:, 1], boxes[:, 3])
    for row, width, height in zip(objects.iter_rows(named=True), widths.tolist(), heights.tolist(), strict=True):
        entry = {
            "id": row["object_id"],
            "image_id": row["image_id"],
            "category_id": category_ids[row["class_id"]],
            "bbox": [row["x1"], row["y1"], width, height],
            "area": row["area"],
            "iscrowd": int(row["crowd"]),
        }
        if row["polygon"] is not None:
            entry["segmentation"] = row["polygon"]
        elif row["rle"] is not None:
            size = (row["height"], row["width"])
            # Crowd regions are run lengths in plain numbers in COCO's own files; some readers insist on it.
            counts = rle.counts_to_runs(row["rle"], size).tolist() if row["crowd"] else row["rle"].decode("ascii")
            entry["segmentation"] = {"size": list(size), "counts": counts}
        if row["ignore"] and width > 0 and height > 0:
            entry["ignore"] = 1
        yield entry


def _extents(low: Floats, high: Floats) -> Floats:
    """Widths that give back exactly `high` when added to `low`, short ones (9 decimals) where they do.

    Rounded subtraction alone can miss `high` by one unit in the last place; its neighbours do not (for `low >= 0`).
    """
    extent = high - low
    best = extent.copy()
    for candidate in (np.nextafter(extent, -np.inf), np.nextafter(extent, np.inf), extent, np.round(extent, 9)):
        best = np.where(low + candidate == high, candidate, best)
    return best
