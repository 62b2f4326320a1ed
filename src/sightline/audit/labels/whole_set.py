"""Mistakes of a whole set of labels, each one finding with its evidence: nothing to learn from, corners for sizes."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import entry_lines, finding

__all__ = ["Corners", "check_whole_set", "fit_as_corners", "lost_masks"]

Floats: TypeAlias = npt.NDArray[np.float64]
Corners: TypeAlias = tuple[int, int, int]
"""How many boxes fit their images as corners, how many as sizes, and how many there are."""

_FEWEST = 4  # boxes from which on it is no accident that all of them fit the other reading
_MOST_THAT_FIT = 0.9  # of honest boxes all but a few lie inside their images
_ALL = 0.98
_SLACK_PX = 1.0
_SIZES = ("coco", "roboflow", "coco-panoptic", "visdrone", "mot")  # formats of x, y, width, height
_MASK_SHARE = 0.5  # where most objects have outlines, those without are the exception
_SHOWN = 5
_LOST = frozenset({"label-bad-segmentation", "mask-missing-segment"})


def fit_as_corners(
    dataset: Dataset, boxes_xyxy: Floats, sizes_wh: Floats, judged: npt.NDArray[np.bool_]
) -> Corners | None:
    """The evidence that boxes of x, y, width, height (or YOLO's centre and size) were stored as corners, else None.

    `boxes_xyxy` (N, 4) are as read, `sizes_wh` (N, 2) those of their images; only the `judged` ones count.
    """
    if dataset.format == "yolo":
        judged = judged & dataset.objects["polygon"].is_null().to_numpy()
        spans = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        first, second = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, spans
    elif dataset.format in _SIZES:
        first, second = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    else:
        return None
    first, second, boxes, sizes = first[judged], second[judged], boxes_xyxy[judged], sizes_wh[judged]
    total = len(first)
    if total < _FEWEST:
        return None
    corners = ((second > first) & (second <= sizes + _SLACK_PX) & (first >= -_SLACK_PX)).all(axis=1)
    as_read = ((boxes[:, :2] >= -_SLACK_PX) & (boxes[:, 2:] <= sizes + _SLACK_PX)).all(axis=1)
    counts = int(corners.sum()), int(as_read.sum())
    if counts[0] < _ALL * total or counts[1] > _MOST_THAT_FIT * total:
        return None
    return *counts, total


def lost_masks(objects: pl.DataFrame, dataset: Dataset) -> pl.Series:
    """Which of the objects have a mask that could not be read, by the findings about their entries."""
    lost = [(f.path, f.entry) for f in dataset.findings if f.code in _LOST and f.entry is not None]
    if not lost:
        return pl.repeat(False, len(objects), eager=True)
    entries = pl.DataFrame(lost, schema={"label_path": pl.String, "entry": pl.Int32}, orient="row").unique()
    places = objects.select(pl.col("label_path").cast(pl.String), "entry")
    return places.join(entries.with_columns(lost=True), on=["label_path", "entry"], how="left", maintain_order="left")[
        "lost"
    ].fill_null(False)


def check_whole_set(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    """`label-nothing-to-learn`, `image-without-objects`, `label-mixed-shapes` and `label-counted-from-zero`."""
    if dataset.task == "semantic":
        return _no_foreground(dataset, scan)
    return [*_nothing(dataset), *_without_objects(dataset), *_mixed(dataset), *_from_zero(dataset)]


def _nothing(dataset: Dataset) -> list[Finding]:
    """The set, and each split, of which no object counts."""
    usable = set(dataset.usable_objects["image_id"].unique().to_list())
    parts = dataset.images.group_by("split", maintain_order=True).agg("image_id")
    bare = {split: ids for split, ids in parts.iter_rows() if not usable.intersection(ids)}
    if not bare:
        return []
    marked = dataset.objects.filter(pl.col("crowd") | pl.col("ignore"))["image_id"]
    found = []
    if len(bare) == len(parts):
        found.append(_nothing_in("the data set", len(dataset), len(marked)))
        bare = {} if list(bare) == [None] else bare
    held_back = {f.image_id for f in dataset.findings if f.code == "label-missing-file"}
    for split, ids in bare.items():
        # A test split without any label file is one whose answers are kept back; that is said of each image already.
        if split is not None and not (split == "test" and held_back.issuperset(ids) and len(bare) < len(parts)):
            found.append(_nothing_in(f"'{split}'", len(ids), int(marked.is_in(ids).sum())))
    return found


def _nothing_in(what: str, images: int, marked: int) -> Finding:
    why = f"all {marked} objects are crowd or ignored" if marked else "no image has an object"
    message = f"nothing can be learnt from {what} or measured on it: {why} ({images} images)"
    return finding("label-nothing-to-learn", message, count=max(images, 1), facts={"ignored": marked, "images": images})


def _no_foreground(dataset: Dataset, scan: Scan) -> list[Finding]:
    """Masks that hold one class alone, in the set or in a split."""
    split_of = dict(dataset.images.select("image_id", "split").iter_rows())
    masks = [
        (split_of.get(m.image_id), m.pixels) for m in scan.masks if m.image_id is not None and m.pixels is not None
    ]
    found = []
    splits = dataset.splits
    for what, pixels in [
        ("the data set", [p for _, p in masks]),
        *((f"'{s}'", [p for own, p in masks if own == s]) for s in splits),
    ]:
        classes: list[int] = np.flatnonzero(np.sum(pixels, axis=0)).tolist() if pixels else []
        if pixels and len(classes) < 2 and len(dataset.classes) > 1:
            only = dataset.class_names[classes[0]] if len(classes) else "ignored pixels"
            message = f"nothing can be learnt from {what} or measured on it: its {len(pixels)} masks hold {only} alone"
            found.append(finding("label-nothing-to-learn", message, count=len(pixels)))
    return found


def _without_objects(dataset: Dataset) -> list[Finding]:
    """Images of which nothing is labelled and nothing said, as a list of all labels cannot name their files."""
    if dataset.task == "track" or dataset.objects.is_empty():
        return []
    said = {f.path for f in dataset.findings} | {f.facts.get("image") for f in dataset.findings}
    about = {f.image_id for f in dataset.findings}
    bare = dataset.images.filter(~pl.col("image_id").is_in(dataset.objects["image_id"].unique().implode()))
    paths = [p for i, p in bare.select("image_id", "path").iter_rows() if i not in about and p not in said]
    if not paths:
        return []
    shown = ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")
    message = f"{len(paths)} of {len(dataset)} images have no object: {shown}"
    return [finding("image-without-objects", message, path=paths[0], count=len(paths), facts={"images": paths})]


def _mixed(dataset: Dataset) -> list[Finding]:
    """Boxes alone among outlines: trainers of masks leave them out, or fail."""
    objects = dataset.usable_objects.filter(~lost_masks(dataset.usable_objects, dataset))
    bare = objects.filter(pl.col("rle").is_null() & pl.col("polygon").is_null())
    if dataset.task != "instance" or bare.is_empty() or len(bare) >= _MASK_SHARE * len(objects):
        return []
    place = _place(dataset, bare)
    message = f"{len(bare)} of {len(objects)} objects are boxes without an outline, the others have one"
    return [finding("label-mixed-shapes", message, count=len(bare), **place)]  # type: ignore[arg-type]


def _from_zero(dataset: Dataset) -> list[Finding]:
    """VOC boxes whose first pixel is 0: the format counts from 1, and they are read so."""
    if dataset.format != "voc" or dataset.objects.is_empty():
        return []
    sizes = dataset.objects.join(dataset.images.select("image_id", "width", "height"), on="image_id", how="left")
    zero = sizes.filter(((pl.col("x1") == -1) & (pl.col("y1") >= -1)) | ((pl.col("y1") == -1) & (pl.col("x1") >= -1)))
    full = sizes.filter((pl.col("x2") == pl.col("width")) | (pl.col("y2") == pl.col("height")))
    if zero.is_empty():
        return []
    message = (
        f"{len(zero)} of {len(sizes)} boxes begin at pixel 0, where the format counts from 1, and {len(full)} end at "
        "the image's width or height; all are read as counted from 1, so that they lie one pixel to the left and above"
    )
    facts = {"from_zero": len(zero), "at_the_end": len(full), "boxes": len(sizes)}
    return [finding("label-counted-from-zero", message, count=len(zero), facts=facts, **_place(dataset, zero))]  # type: ignore[arg-type]


def _place(dataset: Dataset, rows: pl.DataFrame) -> dict[str, object]:
    """Path, line and entry of the first of the rows of the objects table."""
    path, entry = rows.select(pl.col("label_path").cast(pl.String), "entry").row(0)
    line = entry_lines(dataset, [(path, entry)]).get((path, entry)) if path is not None and entry is not None else None
    return {"path": path, "line": line, "entry": entry}
