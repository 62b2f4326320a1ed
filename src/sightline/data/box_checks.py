"""The checks every reader runs on its boxes and outlines, so that what they find has a file and a line."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.polygon_checks import CROSSES, MAX_PAIRS, UNDECIDED, examine_shapes

__all__ = ["MAX_ASPECT", "NEAR_DUPLICATE_IOU", "OUTSIDE_PX", "TINY_PX", "Places", "check_boxes", "mixed_coordinates"]

OUTSIDE_PX = 1.0  # rounding and the 0- or 1-based question put honest boxes up to one pixel outside
TINY_PX = 2.0
NEAR_DUPLICATE_IOU = 0.9
MAX_ASPECT = 20.0
MISMATCH_PX, MISMATCH_SHARE = 2.0, 0.1
"""A box is not that of its mask where a side is off by more than so many pixels and so much of the longer extent."""
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
    amodal: bool = False,
) -> tuple[pl.DataFrame, list[Finding]]:
    """`objects` with `ignore` set where a box has no area, and the findings about all boxes and outlines.

    `reported` marks rows the reader itself has found unusable in its own convention and reported; they are ignored and
    not looked at again. `amodal` boxes go around the whole object, seen or not, as MOTChallenge draws them: only one
    wholly outside the image is reported. Row i of `objects` is row i for `places`.
    """
    boxes = objects.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64, copy=False)
    own = objects.select("image_id").join(images, on="image_id", how="left", maintain_order="left")
    sizes = own.select("width", "height").to_numpy()
    sides = boxes[:, 2:] - boxes[:, :2]
    told = np.zeros(len(boxes), dtype=np.bool_) if reported is None else reported
    flat = (sides <= 0).any(axis=1) & ~told
    outside = _outside(boxes, sizes, amodal) & ~told
    solid = ~flat & ~told
    tiny = (sides < TINY_PX).any(axis=1) & solid

    long = (sides.max(axis=1, initial=0) > MAX_ASPECT * sides.min(axis=1, initial=np.inf)) & solid
    long &= ~(objects["crowd"] | objects["ignore"]).to_numpy()

    table = _Table(objects, boxes, sizes, class_names, places)
    reach = "lies outside the image" if amodal else "reaches outside the image"
    findings = table.findings("label-degenerate-box", flat, "has no area")
    findings += table.findings("label-out-of-bounds", outside, reach, with_size=True)
    findings += table.findings("label-tiny", tiny, f"has a side below {TINY_PX:g} pixels")
    findings += table.findings("label-extreme-aspect", long, f"is over {MAX_ASPECT:g} times as long as wide")
    findings += table.within_a_pixel(solid)
    findings += table.twins(solid)
    findings += table.shapes(objects, solid)
    ignore = objects["ignore"] | pl.Series(flat | told)
    return objects.with_columns(ignore.alias("ignore")), findings


def mixed_coordinates(odd: Bools, known: Bools, places: Places, what: str) -> list[Finding]:
    """One finding at the first `odd` row where only some of the `known` rows are odd, that is `what`; else none."""
    rows, others = np.flatnonzero(odd & known), int((known & ~odd).sum())
    if not len(rows) or not others:
        return []
    ((path, line),) = places(rows[:1])
    message = f"coordinates of {len(rows)} labels are {what}, those of {others} labels are not"
    return [finding("label-mixed-coordinates", message, path=path, line=line, count=len(rows))]


def _outside(boxes: Floats, sizes: Floats, amodal: bool) -> Bools:
    """Boxes that reach more than `OUTSIDE_PX` beyond the image; of amodal ones those that do not meet it at all."""
    if amodal:
        return np.asarray((boxes[:, :2] >= sizes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1))
    return np.asarray(((boxes < -OUTSIDE_PX) | (boxes > np.tile(sizes, 2) + OUTSIDE_PX)).any(axis=1))


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
            made.append(finding(code, message, path=path, line=line, **self._subject(row)))
        return made

    def within_a_pixel(self, solid: Bools) -> list[Finding]:
        """Relative coordinates in a format of pixels: all of such a box lies in the image's first pixel."""
        inside = ((self.boxes >= -1) & (self.boxes <= 1)).all(axis=1) & (self.sizes > 1).all(axis=1) & solid
        if inside.sum() > 1 and (inside == solid).all():
            ((path, line),) = self.places(np.flatnonzero(inside)[:1])
            message = f"all {inside.sum()} labels lie within the first pixel: relative coordinates, where pixels belong"
            return [finding("label-mixed-coordinates", message, path=path, line=line, count=int(inside.sum()))]
        return mixed_coordinates(inside, solid, self.places, "within the first pixel, as relative coordinates are")

    def shapes(self, objects: pl.DataFrame, solid: Bools) -> list[Finding]:
        """Outlines that cross themselves, and boxes that are not those of their masks."""
        if not {"polygon", "rle"} & set(objects.columns):
            return []
        nothing = pl.repeat(None, len(objects), dtype=pl.Binary, eager=True)
        polygons, rles = (objects[n] if n in objects.columns else nothing for n in ("polygon", "rle"))
        own, states = examine_shapes(polygons, rles, self.sizes[:, 1].astype(np.int64))
        off = np.abs(own - self.boxes)
        extents = np.tile(np.maximum(own[:, 2:] - own[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]), 2)
        wrong = ((off > MISMATCH_PX) & (off > MISMATCH_SHARE * extents)).any(axis=1) & solid
        findings = self.findings("label-polygon-crossing", states == CROSSES, "has an outline that crosses itself")
        undecided = f"has an outline of too many long edges to look for crossings (over {MAX_PAIRS} pairs)"
        findings += self.findings("label-polygon-crossing", states == UNDECIDED, undecided)
        rows = np.flatnonzero(wrong)
        for row, (path, line) in zip(rows.tolist(), self.places(rows) if len(rows) else [], strict=True):
            message = f"box of {self._name(row)} is {_corners(self.boxes[row])}, that of its mask {_corners(own[row])}"
            findings.append(finding("label-box-mismatch", message, path=path, line=line, **self._subject(row)))
        return findings

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
            made.append(finding(code, message, path=other[0], line=other[1], **self._subject(b)))
        return made

    def _name(self, row: int) -> str:
        return self.names[int(self.class_ids[row])]

    def _subject(self, row: int) -> dict[str, Any]:
        """The image and the box a finding about this row is about."""
        return {"image_id": int(self.image_ids[row]), "box_xyxy": tuple(self.boxes[row].tolist())}


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
