"""Writing COCO: `annotations/instances_<split>.json` with images at their own relative paths, and Roboflow's layout."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
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
from sightline.data.formats.shared.writing import common_losses, copied_name, copy_files
from sightline.data.layout import split_of
from sightline.ops import rle

__all__ = ["categories_of", "extents", "images_by_split", "split_losses", "write", "write_labels"]

Floats: TypeAlias = npt.NDArray[np.float64]


def write(
    dataset: Dataset, folder: Path, *, copy_images: bool = True, progress: Progress | None = None
) -> list[Finding]:
    """Write a data set of boxes or instances as COCO below `folder`; returns what COCO cannot hold, counted.

    One file per split (`instances.json` for images without one). A data set read from COCO keeps its image, object and
    category ids; others get category ids from 1. Ids, boxes, areas, masks and keypoints read back are exactly those
    written.
    """
    _refuse_masks(dataset)
    if copy_images:
        copy_files(((dataset.image_path(p), folder / copied_name(p)) for p in dataset.images["path"]), progress)
    names = {path: copied_name(path) if copy_images else path for path in dataset.images["path"]}
    for split, images in images_by_split(dataset.images):
        name = "instances.json" if split is None else f"instances_{split}.json"
        write_labels(dataset, images, names, folder / "annotations" / name)
    losses = common_losses(dataset, keeps=["keypoints"])
    return losses + split_losses(dataset, lambda split: split_of(f"instances_{split}"))


def write_labels(dataset: Dataset, images: pl.DataFrame, names: Mapping[str, str], file: Path) -> None:
    """Write the labels of some images of a data set; `names` has the file name to give for each path."""
    categories = categories_of(dataset)
    objects = dataset.objects.join(
        images.select("image_id", "width", "height"), on="image_id", how="inner", maintain_order="left"
    )
    document = {
        "images": [
            {"id": i, "file_name": names[path], "width": w, "height": h}
            for i, path, w, h in images.select("image_id", "path", "width", "height").iter_rows()
        ],
        "annotations": list(_annotations(objects, [c["id"] for c in categories])),
        "categories": categories,
    }
    write_bytes_atomic(file, msgspec.json.encode(document) + b"\n")


def images_by_split(images: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    """The splits of an images table, None among them, with their images."""
    for split in images["split"].unique(maintain_order=True).to_list():
        yield split, images.filter(pl.col("split").eq_missing(pl.lit(split, dtype=pl.String)))


def split_losses(dataset: Dataset, read_back: Callable[[str], str | None]) -> list[Finding]:
    """A finding about the images whose split is read back as another one, or as none."""
    strange = [split for split in dataset.splits if read_back(split) != split]
    if not strange:
        return []
    count = dataset.images.filter(pl.col("split").is_in(strange)).height
    named = ", ".join(f"'{split}'" for split in strange[:5])
    return [finding("loss-splits", f"{count} images are in splits only the files' names tell: {named}", count=count)]


def categories_of(dataset: Dataset) -> list[dict[str, Any]]:
    """COCO's categories for the classes, by class id."""
    keep = dataset.format in {"coco", "coco-panoptic", "roboflow"} and dataset.classes["source_id"].null_count() == 0
    stuff = not dataset.classes["thing"].all()
    categories = []
    for row in dataset.classes.iter_rows(named=True):
        category = {"id": row["source_id"] if keep else row["class_id"] + 1, "name": row["name"]}
        if stuff:
            category["isthing"] = int(row["thing"])
        if row["keypoint_names"] is not None:
            category["keypoints"] = row["keypoint_names"]
        if row["skeleton"] is not None:
            category["skeleton"] = [[a + 1, b + 1] for a, b in row["skeleton"]]
        if row["mirror"] is not None:
            category["flip_idx"] = row["mirror"]  # no key of COCO's, which nobody minds; YOLO's word
        categories.append(category)
    return categories


def _refuse_masks(dataset: Dataset) -> None:
    if dataset.task == "semantic":
        raise DataError("COCO instances need objects, got a data set of semantic masks", do="Keep it as mask folders")


def _annotations(objects: pl.DataFrame, category_ids: list[int]) -> Iterator[dict[str, Any]]:
    boxes = objects.select("x1", "y1", "x2", "y2").to_numpy()
    widths = _as_given(objects["given_width"], boxes[:, 0], boxes[:, 2])
    heights = _as_given(objects["given_height"], boxes[:, 1], boxes[:, 3])
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
        if row["keypoints"] is not None:
            entry["keypoints"] = row["keypoints"]
            entry["num_keypoints"] = sum(v > 0 for v in row["keypoints"][2::3])
        if row["ignore"] and width > 0 and height > 0:
            entry["ignore"] = 1
        yield entry


def _as_given(given: pl.Series, low: Floats, high: Floats) -> Floats:
    """The sizes a file gave where they still belong to the corners, else those that give the corners back."""
    sizes = given.fill_null(float("nan")).to_numpy()
    return np.where(low + sizes == high, sizes, extents(low, high))


def extents(low: Floats, high: Floats) -> Floats:
    """Widths that give back exactly `high` when added to `low`, short ones (9 decimals) where they do.

    Rounded subtraction alone can miss `high` by one unit in the last place; its neighbours do not (for `low >= 0`).
    """
    extent = high - low
    best = extent.copy()
    for candidate in (np.nextafter(extent, -np.inf), np.nextafter(extent, np.inf), extent, np.round(extent, 9)):
        best = np.where(low + candidate == high, candidate, best)
    return best
