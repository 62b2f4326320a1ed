"""Pictures that are the same and labelled differently: one of the two labels must be wrong."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sightline.audit.scan.image_hash import apply_symmetry
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import examine_class_mask, finding
from sightline.ops.boxes import iou_matrix

__all__ = ["Pair", "find_conflicts", "turn_boxes"]

_LEAST_IOU = 0.5  # of boxes that are meant to be of one object
_DIFFERENT_PIXELS = 0.05  # share of a mask


class Pair(NamedTuple):
    """Two rows of `Scan.images` that show one picture: `row`, after the symmetry, looks like `other`."""

    row: int
    other: int
    symmetry: int


def find_conflicts(dataset: Dataset, images: pl.DataFrame, pairs: list[Pair]) -> list[Finding]:
    """A finding for each pair whose labels differ: classes, places (IoU below 0.5), or 5 % of the mask's pixels."""
    if not pairs:
        return []
    ids, paths = images["image_id"].to_list(), images["path"].to_list()
    differ = _masks_differ(dataset) if dataset.task == "semantic" else _boxes_differ(dataset, ids, pairs)
    found = []
    for pair in pairs:
        what = differ(ids[pair.row], ids[pair.other], pair.symmetry)
        if what is not None:
            message = f"the same picture as {paths[pair.other]}, but {what}"
            found.append(finding("split-label-conflict", message, path=paths[pair.row], image_id=ids[pair.row]))
    return found


def turn_boxes(boxes_xyxy: NDArray[np.float64], symmetry: int) -> NDArray[np.float64]:
    """Boxes in the unit square after symmetry number 0..7 of `image_hash.SYMMETRIES`: (N, 4), still x1 < x2."""
    boxes = boxes_xyxy[:, [1, 0, 3, 2]] if symmetry & 4 else boxes_xyxy.copy()
    if symmetry & 1:
        boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
    if symmetry & 2:
        boxes[:, [1, 3]] = 1 - boxes[:, [3, 1]]
    return boxes


def _boxes_differ(dataset: Dataset, ids: list[int], pairs: list[Pair]) -> Any:
    wanted = pl.Series(sorted({ids[r] for p in pairs for r in (p.row, p.other)}), dtype=pl.Int64)
    sizes = dataset.images.select("image_id", "width", "height")
    objects = dataset.usable_objects.filter(pl.col("image_id").is_in(wanted.implode())).join(sizes, on="image_id")
    unit = objects.select(
        "image_id",
        "class_id",
        *(pl.col(c) / pl.col("width") for c in ("x1", "x2")),
        *(pl.col(c) / pl.col("height") for c in ("y1", "y2")),
    )
    of_image = {
        key[0]: (part["class_id"].to_numpy(), part.select("x1", "y1", "x2", "y2").to_numpy())
        for key, part in unit.group_by("image_id")
    }
    nothing = (np.zeros(0, dtype=np.int32), np.zeros((0, 4)))

    def differ(one: int, other: int, symmetry: int) -> str | None:
        classes, boxes = of_image.get(one, nothing)
        their_classes, their_boxes = of_image.get(other, nothing)
        if Counter(classes.tolist()) != Counter(their_classes.tolist()):
            return f"with {_counted(dataset, classes)} instead of {_counted(dataset, their_classes)}"
        ious = iou_matrix(turn_boxes(boxes, symmetry), np.ascontiguousarray(their_boxes))
        ious[classes[:, None] != their_classes[None]] = -1
        rows, columns = linear_sum_assignment(ious, maximize=True)
        moved = int((ious[rows, columns] < _LEAST_IOU).sum())
        return f"{moved} of {len(rows)} boxes are elsewhere" if moved else None

    return differ


def _counted(dataset: Dataset, classes: NDArray[np.int32]) -> str:
    counts = Counter(classes.tolist())
    return ", ".join(f"{n} {dataset.class_names[c]}" for c, n in sorted(counts.items())) or "no object"


def _masks_differ(dataset: Dataset) -> Any:
    masks = dict(dataset.images.select("image_id", "mask_path").drop_nulls().iter_rows())

    def differ(one: int, other: int, symmetry: int) -> str | None:
        if one not in masks or other not in masks:
            return None
        try:
            mine, theirs = (examine_class_mask(dataset.image_path(masks[i]), dataset).ids for i in (one, other))
        except DataError:  # the masks' own check has reported it
            return None
        mine = apply_symmetry(mine, symmetry)
        if mine.shape != theirs.shape:
            return None  # resized: what differs along the edges is no contradiction
        share = float((mine != theirs).mean())
        return f"{share:.0%} of the mask's pixels differ" if share > _DIFFERENT_PIXELS else None

    return differ
