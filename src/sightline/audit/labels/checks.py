"""Checks of labels: classes unused, misnumbered, named alike or of very unequal counts; objects too small to learn."""

import re
from collections import Counter, defaultdict

import numpy as np
import polars as pl

from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_classes", "check_labels", "class_amounts", "scale_to_input"]

IMBALANCE = 100  # times as many of one class as of another: the rarer one is then hardly learnt
_COCO_LARGEST_ID, _COCO_CLASSES = 90, 80
_SHOWN = 10


def check_classes(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    """`class-off-by-one`, `class-coco-ids`, `class-similar-names`, `class-unused` and `class-imbalance`."""
    amounts = class_amounts(dataset, scan)
    what = "pixels" if dataset.task == "semantic" else "objects"
    return [
        *_misnumbered(dataset, amounts),
        *_similar(dataset.class_names),
        *_unused(dataset.class_names, amounts, what),
        *_imbalance(dataset.class_names, amounts, what),
    ]


def class_amounts(dataset: Dataset, scan: Scan) -> list[int]:
    """By class id the number of objects, ignored and crowd included; of pixels in the masks for a semantic data set."""
    if dataset.task != "semantic":
        return list(dataset.counts_by_class().values())
    pixels = [m.pixels for m in scan.masks if m.pixels is not None]
    return [int(n) for n in np.sum(pixels, axis=0)] if pixels else [0] * len(dataset.class_names)


def _misnumbered(dataset: Dataset, amounts: list[int]) -> list[Finding]:
    """Ids counted from 1 where the class list counts from 0, or COCO's 91 category ids against its 80 names."""
    unknown: Counter[int] = Counter()
    first: Finding | None = None
    for f in dataset.findings:
        number = f.facts.get("class_number") if f.code == "label-unknown-class" else None
        if number is not None:
            unknown[number] += f.count
            first = first or f
    if not unknown or first is None:
        return []
    ids = [i if s is None else s for i, s in enumerate(dataset.classes["source_id"].to_list())]
    total, count = unknown.total(), len(ids)
    zero_based = sorted(ids) == list(range(count))
    place = {"path": first.path, "line": first.line, "count": total}
    if zero_based and set(unknown) == {count} and amounts[ids.index(0)] == 0:
        message = f"no object has id 0 and {total} have id {count}, while the {count} classes are numbered from 0"
        return [finding("class-off-by-one", message, **place)]  # type: ignore[arg-type]
    if zero_based and count == _COCO_CLASSES and count <= min(unknown) and max(unknown) <= _COCO_LARGEST_ID:
        message = (
            f"{total} objects have ids of {min(unknown)} to {max(unknown)}, as COCO numbers its 80 classes: 1 to 90"
        )
        return [finding("class-coco-ids", message, **place)]  # type: ignore[arg-type]
    return []


def _similar(names: tuple[str, ...]) -> list[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[re.sub(r"[\s_-]+", "", name.casefold()) or name].append(name)
    return [
        finding("class-similar-names", f"these are different classes: {', '.join(map(repr, group))}", count=len(group))
        for group in alike.values()
        if len(group) > 1
    ]


def _unused(names: tuple[str, ...], amounts: list[int], what: str) -> list[Finding]:
    unused = [n for n, c in zip(names, amounts, strict=True) if c == 0]
    if not unused:
        return []
    more = ", …" if len(unused) > _SHOWN else ""
    message = f"{len(unused)} of {len(names)} classes have no {what}: {', '.join(unused[:_SHOWN])}{more}"
    return [finding("class-unused", message, count=len(unused))]


def _imbalance(names: tuple[str, ...], amounts: list[int], what: str) -> list[Finding]:
    used = [(n, name) for name, n in zip(names, amounts, strict=True) if n > 0]
    if len(used) < 2:
        return []
    (most, common), (least, rare) = max(used, key=lambda u: u[0]), min(used, key=lambda u: u[0])
    if most < IMBALANCE * least:
        return []
    message = f"'{common}' has {most} {what}, '{rare}' {least}: {most / least:.0f} times as many"
    return [finding("class-imbalance", message)]


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
