"""What a format cannot hold, counted: the losses common to several writers."""

from collections.abc import Collection

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.ops import rle

__all__ = ["common_losses", "mask_box_losses"]

_NEAR_PX = 1.0  # boxes that differ from their mask's by less were rounded, not drawn otherwise


def common_losses(dataset: Dataset, *, keeps: Collection[str] = ()) -> list[Finding]:
    """Findings about keypoints, attributes, times and groups that are left out; columns in `keeps` are not.

    Columns: keypoints, occlusion, truncation, track_id (objects); group, frame, time_s (images).
    """
    objects, images = dataset.objects, dataset.images
    findings = []
    keypoints = _filled(objects, "keypoints", keeps)
    if keypoints:
        message = f"the keypoints of {keypoints} objects are left out"
        findings.append(finding("loss-keypoints", message, count=keypoints))
    counts = {c: _filled(objects, c, keeps) for c in ("occlusion", "truncation", "track_id")}
    counts |= {c: _filled(images, c, keeps) for c in ("frame", "time_s")}
    told = ", ".join(f"{name} of {count}" for name, count in counts.items() if count)
    if told:
        findings.append(finding("loss-attributes", f"left out: {told}", count=sum(counts.values())))
    groups = _filled(images, "group", keeps)
    if groups:
        findings.append(finding("loss-groups", f"the groups of {groups} images are left out", count=groups))
    return findings


def mask_box_losses(dataset: Dataset) -> list[Finding]:
    """Findings about objects whose box is not the box of their mask, for formats that hold the mask alone."""
    columns = ("image_id", "x1", "y1", "x2", "y2", "rle", "polygon")
    masked = dataset.objects.select(columns).filter(pl.col("rle").is_not_null() | pl.col("polygon").is_not_null())
    masked = masked.join(dataset.images.select("image_id", "width", "height"), on="image_id")
    near, far, most = 0, 0, 0.0
    for row in masked.iter_rows(named=True):
        box = _mask_box(row["polygon"], row["rle"], (row["height"], row["width"]))
        if box is None:
            continue
        distance = max(abs(a - b) for a, b in zip(box, (row["x1"], row["y1"], row["x2"], row["y2"]), strict=True))
        near += 0 < distance < _NEAR_PX
        far += distance >= _NEAR_PX
        most = max(most, distance)
    findings = []
    if near:
        message = f"the boxes of {near} objects become those of their masks, less than a pixel away"
        findings.append(finding("loss-rounding", message, count=near))
    if far:
        message = f"the boxes of {far} objects become those of their masks, up to {most:.3g} pixels away"
        findings.append(finding("loss-boxes", message, count=far))
    return findings


def _mask_box(
    polygon: list[list[float]] | None, counts: bytes | None, size_hw: tuple[int, int]
) -> tuple[float, ...] | None:
    if polygon is None:
        if counts is None or not rle.area(counts):
            return None
        return tuple(rle.to_box(counts, size_hw).tolist())
    xs, ys = [v for ring in polygon for v in ring[0::2]], [v for ring in polygon for v in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _filled(table: pl.DataFrame, column: str, keeps: Collection[str]) -> int:
    return 0 if column in keeps else table.height - table[column].null_count()
