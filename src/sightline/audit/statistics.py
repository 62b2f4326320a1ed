"""Distributions of what a data set holds, as plain numbers: classes, sizes, positions, pictures, tracks, pixels."""

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.labels.checks import scale_to_input
from sightline.audit.result import (
    QUANTILES,
    AuditOptions,
    ClassPixels,
    ClassStatistics,
    CocoSizes,
    ObjectsPerImage,
    PixelStatistics,
    Quantiles,
    Statistics,
    TrackStatistics,
)
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset

__all__ = ["COCO_MEDIUM_PX2", "COCO_SMALL_PX2", "dataset_statistics", "quantiles"]

HEAT_CELLS = 8
COCO_SMALL_PX2, COCO_MEDIUM_PX2 = 32.0**2, 96.0**2
"""An object is small below the first and large from the second on, as COCO counts them."""
_PICTURE_MEASURES = ("brightness", "contrast", "sharpness", "blockiness", "entropy", "colourfulness")
_COUNT_BOUNDS = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500)

Floats: TypeAlias = npt.NDArray[np.float64]


def dataset_statistics(dataset: Dataset, scan: Scan, options: AuditOptions) -> Statistics:
    """The distributions of what was scanned; objects are those that are neither crowd nor ignored."""
    images = _images(dataset, scan)
    if dataset.task == "semantic":
        return Statistics(images=images, pixels=_pixels(dataset, scan))
    objects = _placed_objects(dataset, options)
    classes = _classes(dataset, objects)
    counts = [c.objects for c in classes.values() if c.objects]
    return Statistics(
        images=images,
        objects_per_image=_objects_per_image(dataset),
        classes=classes,
        imbalance=max(counts) / min(counts) if counts else None,
        tracks=_tracks(objects) if objects["track_id"].is_not_null().any() else None,
    )


def quantiles(values: npt.ArrayLike) -> Quantiles:
    """The `QUANTILES` of the finite values with 6 significant digits, None when there are none."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    return tuple(float(f"{q:.6g}") for q in np.quantile(array, QUANTILES)) if len(array) else None


def _images(dataset: Dataset, scan: Scan) -> dict[str, Quantiles]:
    width, height = (dataset.images[c].cast(pl.Float64).to_numpy() for c in ("width", "height"))
    found = {
        "width": quantiles(width),
        "height": quantiles(height),
        "megapixels": quantiles(width * height / 1e6),
        "aspect": quantiles(width / height),
        "megabytes": quantiles(scan.images["bytes"].drop_nulls().to_numpy() / 1e6),
    }
    for name in _PICTURE_MEASURES:
        if name in scan.images.columns:
            found[name] = quantiles(scan.images[name].cast(pl.Float64).drop_nulls().to_numpy())
    return found


def _placed_objects(dataset: Dataset, options: AuditOptions) -> pl.DataFrame:
    """The usable objects with centre, area and side relative to their image, and the side at the input size."""
    width, height = pl.col("x2") - pl.col("x1"), pl.col("y2") - pl.col("y1")
    longer = pl.max_horizontal("width", "height")
    images = dataset.images.select("image_id", "width", "height", "group", "frame", "time_s")
    return dataset.usable_objects.join(images, on="image_id", maintain_order="left").select(
        "image_id", "class_id", "track_id", "group", "frame", "time_s", "area",
        centre_x=(pl.col("x1") + pl.col("x2")) / 2,
        centre_y=(pl.col("y1") + pl.col("y2")) / 2,
        cell_x=((pl.col("x1") + pl.col("x2")) / 2 / pl.col("width") * HEAT_CELLS).floor().clip(0, HEAT_CELLS - 1),
        cell_y=((pl.col("y1") + pl.col("y2")) / 2 / pl.col("height") * HEAT_CELLS).floor().clip(0, HEAT_CELLS - 1),
        area_share=pl.col("area") / (pl.col("width").cast(pl.Float64) * pl.col("height")),
        side=pl.min_horizontal(width, height) / longer,
        side_at_imgsz=pl.min_horizontal(width, height) * scale_to_input(options.imgsz),
        aspect=width / height,
        diagonal=(width**2 + height**2).sqrt(),
    )  # fmt: skip


def _objects_per_image(dataset: Dataset) -> ObjectsPerImage:
    counts = dataset.usable_objects.group_by("image_id").len()
    per_image = dataset.images.select("image_id").join(counts, on="image_id", how="left")["len"].fill_null(0).to_numpy()
    edges = [*_COUNT_BOUNDS, np.inf]
    filled = np.histogram(per_image, bins=edges)[0].tolist()
    labels = [
        str(low) if high == low + 1 else f"{low}+" if high == np.inf else f"{low}-{int(high) - 1}"
        for low, high in pairwise(edges)
    ]
    return ObjectsPerImage(
        quantiles=quantiles(per_image),
        mean=float(per_image.mean()) if len(per_image) else None,
        histogram={label: n for label, n in zip(labels, filled, strict=True) if n},
    )


def _classes(dataset: Dataset, objects: pl.DataFrame) -> dict[str, ClassStatistics]:
    cells = HEAT_CELLS * HEAT_CELLS
    cell = (objects["cell_y"] * HEAT_CELLS + objects["cell_x"]).cast(pl.Int64).to_numpy()
    of_class = objects["class_id"].cast(pl.Int64).to_numpy()
    heat = np.bincount(of_class * cells + cell, minlength=cells * len(dataset.class_names))
    heat = heat.reshape(-1, HEAT_CELLS, HEAT_CELLS)
    parts = objects.partition_by("class_id", as_dict=True)
    empty = objects.clear()
    return {
        name: _class(parts.get((i,), empty), objects.height, heat[i].tolist())
        for i, name in enumerate(dataset.class_names)
    }


def _class(objects: pl.DataFrame, total: int, heat: list[list[int]]) -> ClassStatistics:
    area = objects["area"].to_numpy()
    small, medium = int((area < COCO_SMALL_PX2).sum()), int((area < COCO_MEDIUM_PX2).sum())
    return ClassStatistics(
        objects=objects.height,
        images=objects["image_id"].n_unique(),
        share=objects.height / total if total else None,
        area=quantiles(objects["area_share"].to_numpy()),
        side=quantiles(objects["side"].to_numpy()),
        side_at_imgsz_px=quantiles(objects["side_at_imgsz"].to_numpy()),
        aspect=quantiles(objects["aspect"].to_numpy()),
        coco_sizes=CocoSizes(small=small, medium=medium - small, large=len(area) - medium),
        heat=heat,
    )


def _tracks(objects: pl.DataFrame) -> TrackStatistics:
    rows = objects.drop_nulls("track_id").sort("group", "track_id", "frame")
    same = (pl.col("track_id") == pl.col("track_id").shift()) & pl.col("group").eq_missing(pl.col("group").shift())
    step = (pl.col("centre_x").diff() ** 2 + pl.col("centre_y").diff() ** 2).sqrt() / pl.col("diagonal")
    steps = rows.with_columns(step=step, frames=pl.col("frame").diff(), seconds=pl.col("time_s").diff()).filter(same)
    steps = steps.filter(pl.col("frames") > 0)
    by_track = rows.group_by("group", "track_id").agg(
        boxes=pl.len(), span=pl.col("frame").max() - pl.col("frame").min() + 1
    )
    timed = steps.filter(pl.col("seconds") > 0)
    return TrackStatistics(
        tracks=by_track.height,
        boxes_per_track=quantiles(by_track["boxes"].to_numpy()),
        frames_per_track=quantiles(by_track["span"].drop_nulls().to_numpy()),
        tracks_with_gaps=int((by_track["span"] > by_track["boxes"]).sum()),
        diagonals_per_frame=quantiles((steps["step"] / steps["frames"]).to_numpy()),
        diagonals_per_second=quantiles((timed["step"] / timed["seconds"]).to_numpy()),
    )


def _pixels(dataset: Dataset, scan: Scan) -> PixelStatistics:
    known = [m.pixels for m in scan.masks if m.pixels is not None and m.pixels.sum() > 0]
    counts = np.stack(known) if known else np.zeros((0, len(dataset.class_names)), dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    total = max(int(counts.sum()), 1)
    classes = {
        name: ClassPixels(
            pixels=int(counts[:, i].sum()),
            share=float(counts[:, i].sum() / total),
            masks=int((counts[:, i] > 0).sum()),
            share_where_present=quantiles(shares[counts[:, i] > 0, i]),
        )
        for i, name in enumerate(dataset.class_names)
    }
    used = [n for n in counts.sum(axis=0).tolist() if n]
    return PixelStatistics(masks=len(known), classes=classes, imbalance=max(used) / min(used) if used else None)
