"""Checks of the labels as a whole: what is too small to be learnt, what is marked as crowd or to be ignored."""

import polars as pl

from sightline.audit.options import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_labels", "scale_to_input"]


def check_labels(dataset: Dataset, _scan: Scan, options: AuditOptions) -> list[Finding]:
    """`label-small-at-size` one per class, `label-crowd` and `label-ignored` one each, all with their counts."""
    if dataset.objects.is_empty():
        return []
    return [*_small(dataset, options), *_marked(dataset)]


def scale_to_input(imgsz: int) -> pl.Expr:
    """By how much a letterbox to `imgsz` scales an image of the columns `width`, `height`; below 1 where it shrinks."""
    return imgsz / pl.max_horizontal("width", "height")


def _small(dataset: Dataset, options: AuditOptions) -> list[Finding]:
    sizes = dataset.images.select("image_id", "path", scale=scale_to_input(options.imgsz))
    side = pl.min_horizontal(pl.col("x2") - pl.col("x1"), pl.col("y2") - pl.col("y1")) * pl.col("scale")
    sides = dataset.usable_objects.join(sizes, on="image_id").with_columns(side=side)
    by_class = (
        sides.group_by("class_id")
        .agg(
            total=pl.len(),
            small=(pl.col("side") < options.small_px).sum(),
            path=pl.col("path").get(pl.col("side").arg_min()),
            image_id=pl.col("image_id").get(pl.col("side").arg_min()),
            box=pl.concat_list("x1", "y1", "x2", "y2").get(pl.col("side").arg_min()),
            least=pl.col("side").min(),
        )
        .filter(pl.col("small") > 0)
        .sort("class_id")
    )
    found = []
    for row in by_class.iter_rows(named=True):
        name = dataset.class_names[row["class_id"]]
        message = (
            f"{row['small']} of {row['total']} objects of {name} ({row['small'] / row['total']:.1%}) have a side below "
            f"{options.small_px:g} pixels at an input size of {options.imgsz}; the smallest has {row['least']:.1f}"
        )
        place = {"path": row["path"], "image_id": row["image_id"], "count": row["small"], "box_xyxy": tuple(row["box"])}
        found.append(finding("label-small-at-size", message, **place))
    return found


def _marked(dataset: Dataset) -> list[Finding]:
    """Crowd and ignored objects. A box without area is ignored too, and reported as such already: not again."""
    # One pixel is what is left of a box without area where the format's last pixel is inclusive.
    flat = (pl.col("x2") - pl.col("x1") <= 1) | (pl.col("y2") - pl.col("y1") <= 1)
    kinds = {"label-crowd": pl.col("crowd"), "label-ignored": pl.col("ignore") & ~pl.col("crowd") & ~flat}
    found = []
    for code, mark in kinds.items():
        marked = dataset.objects.filter(mark)
        if marked.is_empty():
            continue
        counts = marked.group_by("class_id").len().sort("len", "class_id", descending=[True, False])
        listed = ", ".join(f"{dataset.class_names[i]} {n}" for i, n in counts.head(10).iter_rows())
        more = ", …" if len(counts) > 10 else ""
        message = f"{len(marked)} objects in {marked['image_id'].n_unique()} images: {listed}{more}"
        found.append(finding(code, message, count=len(marked)))
    return found
