"""The checks every reader runs on its boxes: without area, outside the image, tiny, given twice or nearly twice."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.findings import Finding
from sightline.data.codes import finding

__all__ = ["NEAR_DUPLICATE_IOU", "OUTSIDE_PX", "TINY_PX", "Places", "check_boxes"]

OUTSIDE_PX = 1.0  # rounding and the 0- or 1-based question put honest boxes up to one pixel outside
TINY_PX = 2.0
NEAR_DUPLICATE_IOU = 0.9
MAX_NEIGHBOURS = 256  # bounds the search where hundreds of boxes share one edge

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = Callable[[Ints], list[tuple[str, int | None]]]
"""Path and line of each of the given rows; asked only for rows that have a finding."""


def check_boxes(
    objects: pl.DataFrame,
    images: pl.DataFrame,
    class_names: Sequence[str],
    places: Places,
    *,
    reported: Bools | None = None,
) -> tuple[pl.DataFrame, list[Finding]]:
    """`objects` with `ignore` set where a box has no area, and the findings about all boxes.

    `reported` marks rows the reader itself has found unusable in its own convention and reported; they are ignored and
    not looked at again. Row i of `objects` is row i for `places`.
    """
    boxes = objects.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64, copy=False)
    sizes = objects.join(images, on="image_id", how="left", maintain_order="left").select("width", "height").to_numpy()
    sides = boxes[:, 2:] - boxes[:, :2]
    told = np.zeros(len(boxes), dtype=np.bool_) if reported is None else reported
    flat = (sides <= 0).any(axis=1) & ~told
    outside = ((boxes < -OUTSIDE_PX) | (boxes > np.tile(sizes, 2) + OUTSIDE_PX)).any(axis=1) & ~told
    solid = ~flat & ~told
    tiny = (sides < TINY_PX).any(axis=1) & solid

    table = _Table(objects, boxes, sizes, class_names, places)
    findings = table.findings("label-degenerate-box", flat, "has no area")
    findings += table.findings("label-out-of-bounds", outside, "reaches outside the image", with_size=True)
    findings += table.findings("label-tiny", tiny, f"has a side below {TINY_PX:g} pixels")
    findings += table.twins(solid)
    ignore = objects["ignore"] | pl.Series(flat | told)
    return objects.with_columns(ignore.alias("ignore")), findings


class _Table:
    """The rows under examination, with what their findings need."""

    def __init__(
        self, objects: pl.DataFrame, boxes: Floats, sizes: Floats, names: Sequence[str], places: Places
    ) -> None:
        self.boxes, self.sizes, self.names, self.places = boxes, sizes, names, places
        self.image_ids: Ints = objects["image_id"].to_numpy()
        self.class_ids: Ints = objects["class_id"].to_numpy()

    def findings(self, code: str, hit: Bools, what: str, *, with_size: bool = False) -> list[Finding]:
        rows = np.flatnonzero(hit)
        made = []
        for row, (path, line) in zip(rows.tolist(), self.places(rows) if len(rows) else [], strict=True):
            size = f" of {self.sizes[row][0]:g} × {self.sizes[row][1]:g} pixels" if with_size else ""
            message = f"box of {self._name(row)} {what}{size}: {_corners(self.boxes[row])}"
            made.append(finding(code, message, path=path, line=line, image_id=int(self.image_ids[row])))
        return made

    def twins(self, solid: Bools) -> list[Finding]:
        first, second, overlap = _twin_pairs(self.boxes, self.image_ids, self.class_ids, solid)
        made = []
        places = zip(self.places(first), self.places(second), strict=True) if len(first) else iter(())
        for a, b, iou, (one, other) in zip(first.tolist(), second.tolist(), overlap.tolist(), places, strict=True):
            same = bool((self.boxes[a] == self.boxes[b]).all())
            code, what = (
                ("label-duplicate", "is given twice") if same else ("label-near-duplicate", f"has IoU {iou:.3f}")
            )
            beside = f"with line {one[1]}" if one[1] is not None and one[0] == other[0] else "with another"
            message = f"box of {self._name(b)} {what} {beside}: {_corners(self.boxes[b])}"
            made.append(finding(code, message, path=other[0], line=other[1], image_id=int(self.image_ids[b])))
        return made

    def _name(self, row: int) -> str:
        return self.names[int(self.class_ids[row])]


def _twin_pairs(boxes: Floats, image_ids: Ints, class_ids: Ints, solid: Bools) -> tuple[Ints, Ints, Floats]:
    """Pairs of one image and class with IoU ≥ `NEAR_DUPLICATE_IOU`: first and second row, IoU; each row once as second.

    Boxes are sorted by x1. An IoU of t needs |Δx1| ≤ (1 - t) · width, so a box is compared with its next neighbours
    only until that bound is passed; the loop runs over the distance in the order, all boxes at once.
    """
    rows = np.flatnonzero(solid)
    order = rows[np.lexsort((boxes[rows, 0], class_ids[rows], image_ids[rows]))]
    found: list[tuple[Ints, Ints, Floats]] = []
    left = np.arange(len(order))
    for step in range(1, min(len(order), MAX_NEIGHBOURS)):
        left = left[left + step < len(order)]
        a, b = order[left], order[left + step]
        reach = (1 - NEAR_DUPLICATE_IOU) * (boxes[a, 2] - boxes[a, 0])
        near = (image_ids[a] == image_ids[b]) & (class_ids[a] == class_ids[b]) & (boxes[b, 0] - boxes[a, 0] <= reach)
        left, a, b = left[near], a[near], b[near]
        if not len(left):
            break
        iou = _pair_iou(boxes[a], boxes[b])
        hit = iou >= NEAR_DUPLICATE_IOU
        found.append((np.minimum(a, b)[hit], np.maximum(a, b)[hit], iou[hit]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, overlap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.lexsort((first, -overlap, second))
    keep = best[np.unique(second[best], return_index=True)[1]]
    return first[keep], second[keep], overlap[keep]


def _pair_iou(a: Floats, b: Floats) -> Floats:
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - inter
    return np.asarray(inter / union)


def _corners(box: Floats) -> str:
    return ", ".join(f"{k}={v:.6g}" for k, v in zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))
