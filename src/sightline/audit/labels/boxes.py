"""What boxes and outlines say about themselves: no area, outside the image, given twice, not that of the mask."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.labels.polygons import CROSSES, FLAT, MAX_PAIRS, UNDECIDED, examine_shapes
from sightline.audit.labels.whole_set import fit_as_corners, lost_masks
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import entry_lines, finding
from sightline.ops import rle
from sightline.ops.boxes import paired_iou

__all__ = ["MAX_ASPECT", "NEAR_DUPLICATE_IOU", "OUTSIDE_PX", "TINY_PX", "check_boxes"]

OUTSIDE_PX = 1.0  # rounding and the 0- or 1-based question put honest boxes up to one pixel outside
TINY_PX = 2.0  # below it a box says little more than a point, and most networks' finest grid cannot place it
NEAR_DUPLICATE_IOU = 0.9  # two people seldom draw one object so alike, and two objects seldom lie so
MAX_ASPECT = 20.0  # beyond poles and wires; longer ones are mostly slips of the hand
MISMATCH_PX, MISMATCH_SHARE = 2.0, 0.1
"""A box is not that of its mask where a side is off by more than so many pixels and so much of the longer extent."""
AREA_FACTOR, AREA_PX = 1.5, 16.0
"""A stated area is wrong beyond this factor and so many pixels: polygons, masks and boxes of one object lie within."""
_FEWEST_NUMBERS = 6  # of a ring: three corners
_STATED = ("coco", "roboflow", "coco-panoptic")  # formats that state areas
MAX_NEIGHBOURS = 256  # bounds the search where hundreds of boxes share one edge

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]


def check_boxes(dataset: Dataset) -> list[Finding]:
    """The findings about all boxes and outlines of a data set, each with the file and line of the object.

    Rows marked `reported` are not judged: the reader has said what is wrong with them. Amodal boxes
    (`Dataset.amodal`) go around the whole object, seen or not: only one wholly outside the image is reported. Lines are
    looked up once, for all findings together. An object no reader has placed is named by its image's path.
    """
    table = _Table(dataset)
    boxes, sizes = table.boxes, table.sizes
    reported = dataset.objects["reported"].fill_null(False).to_numpy()
    sides = boxes[:, 2:] - boxes[:, :2]
    flat = (sides <= 0).any(axis=1) & ~reported
    solid = ~flat & ~reported
    long = (sides.max(axis=1, initial=0) > MAX_ASPECT * sides.min(axis=1, initial=np.inf)) & solid
    long &= ~(dataset.objects["crowd"] | dataset.objects["ignore"]).to_numpy()
    if table.corners(~reported):
        return table.findings()  # of boxes that are others than meant nothing else can be said
    outside = _outside(boxes, sizes, dataset.amodal) & ~reported
    reach = "lies outside the image" if dataset.amodal else "reaches outside the image"
    table.note("label-degenerate-box", flat, "has no area")
    table.note("label-out-of-bounds", outside, reach, with_size=True)
    table.note("label-tiny", (sides < TINY_PX).any(axis=1) & solid, f"has a side below {TINY_PX:g} pixels")
    table.note("label-extreme-aspect", long, f"is over {MAX_ASPECT:g} times as long as wide")
    table.within_a_pixel(solid)
    table.twins(solid)
    table.shapes(solid)
    table.areas(solid)
    return table.findings()


def _outside(boxes: Floats, sizes: Floats, amodal: bool) -> Bools:
    """Boxes that reach more than `OUTSIDE_PX` beyond the image; of amodal ones those that do not meet it at all."""
    if amodal:
        return np.asarray((boxes[:, :2] >= sizes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1))
    return np.asarray(((boxes < -OUTSIDE_PX) | (boxes > np.tile(sizes, 2) + OUTSIDE_PX)).any(axis=1))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A finding about a row, whose line is not looked up yet; `other` is the row it is compared with."""

    code: str
    row: int
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    other: int | None = None
    count: int = 1


class _Table:
    """The rows under examination, with what their findings need."""

    def __init__(self, dataset: Dataset) -> None:
        objects, images = dataset.objects, dataset.images.select("image_id", "path", "width", "height")
        own = objects.select("image_id").join(images, on="image_id", how="left", maintain_order="left")
        self._dataset, self._paths, self._names = dataset, own["path"], dataset.class_names
        self._drafts: list[_Draft] = []
        self.boxes: Floats = objects.select("x1", "y1", "x2", "y2").to_numpy()
        self.sizes: Floats = own.select("width", "height").to_numpy()
        self.image_ids: Ints = objects["image_id"].to_numpy()
        self.class_ids: Ints = objects["class_id"].to_numpy()

    def note(self, code: str, hit: Bools, what: str, *, with_size: bool = False) -> None:
        for row in np.flatnonzero(hit).tolist():
            size = f" of {self.sizes[row][0]:g} × {self.sizes[row][1]:g} pixels" if with_size else ""
            self._draft(code, row, f"box of {self._name(row)} {what}{size}: {_corners(self.boxes[row])}")

    def corners(self, judged: Bools) -> bool:
        """Whether the boxes were stored as corners where a place and a size belong, noted if so."""
        fits = fit_as_corners(self._dataset, self.boxes, self.sizes, judged)
        if fits is None:
            return False
        text = (
            f"{fits[0]} of {fits[2]} boxes fit their images when read as two corners, {fits[1]} when read as the "
            f"format asks: they are corners; the first is read as {_corners(self.boxes[0])}"
        )
        facts = {"as_corners": fits[0], "as_sizes": fits[1], "boxes": fits[2]}
        self._drafts.append(_Draft("label-corners-for-sizes", 0, text, facts, count=fits[2]))
        return True

    def areas(self, solid: Bools) -> None:
        """Areas stated in COCO files that are far from the box's and the mask's; one without area is said to be so."""
        objects = self._dataset.objects
        spans = np.clip(self.boxes[:, 2:] - self.boxes[:, :2], 0, None)
        of_box, stated = spans[:, 0] * spans[:, 1], objects["area"].to_numpy()
        masked = (objects["rle"].is_not_null() | objects["polygon"].is_not_null()).to_numpy()
        high = stated > AREA_FACTOR * of_box + AREA_PX
        low = stated < of_box / AREA_FACTOR - AREA_PX
        solid = solid & ~lost_masks(objects, self._dataset).to_numpy()
        for row in np.flatnonzero(solid & (high | low)).tolist() if self._dataset.format in _STATED else ():
            mask = self._mask(row) if masked[row] else None
            own = of_box[row] if mask is None else float(rle.area(mask))
            least, most = min(own, of_box[row]), max(own, of_box[row])
            if least / AREA_FACTOR - AREA_PX <= stated[row] <= AREA_FACTOR * most + AREA_PX:
                continue
            what = f"the mask {own:.6g} and the box" if masked[row] else "the box"
            which = "".join(f" ({own_id})" for own_id in self._own_id(row))
            text = f"area of {self._name(row)}{which} is stated as {stated[row]:.6g}, {what} has"
            self._draft(
                "label-wrong-area", row, f"{text} {of_box[row]:.6g}", stated=float(stated[row]), true=float(own)
            )

    def within_a_pixel(self, solid: Bools) -> None:
        """Relative coordinates in a format of pixels: all of such a box lies in the image's first pixel."""
        inside = ((self.boxes >= -1) & (self.boxes <= 1)).all(axis=1) & (self.sizes > 1).all(axis=1) & solid
        count, others = int(inside.sum()), int((solid & ~inside).sum())
        if count == 0 or (count == 1 and not others):
            return
        text = f"all {count} labels lie within the first pixel: relative coordinates, where pixels belong"
        if others:
            what = "within the first pixel, as relative coordinates are"
            text = f"coordinates of {count} labels are {what}, those of {others} labels are not"
        facts = {"labels": count, "others": others}
        self._drafts.append(_Draft("label-mixed-coordinates", int(inside.argmax()), text, facts, count=count))

    def twins(self, solid: Bools) -> None:
        """Boxes of one class that cover each other."""
        pairs = _twin_pairs(self.boxes, self.image_ids, self.class_ids, solid)
        for a, b, iou in zip(*(column.tolist() for column in pairs), strict=True):
            same = bool((self.boxes[a] == self.boxes[b]).all())
            if self._different_outlines(a, b):
                continue
            code = "label-duplicate" if same else "label-near-duplicate"
            what = "is given twice" if same else f"has IoU {iou:.3f}"
            self._draft(code, b, f"box of {self._name(b)} {what} with", other=a, iou=iou)

    def _different_outlines(self, a: int, b: int) -> bool:
        """Whether two objects of one box have masks that differ: two objects, not one given twice."""
        masks = [mask for row in (a, b) if (mask := self._mask(row)) is not None]
        if len(masks) < 2:
            return False
        size_hw = int(self.sizes[a][1]), int(self.sizes[a][0])
        both, either = (rle.area(rle.merge(masks, size_hw, intersect=i)) for i in (True, False))
        return both < NEAR_DUPLICATE_IOU * either

    def _mask(self, row: int) -> bytes | None:
        code, rings = (self._dataset.objects[c][row] for c in ("rle", "polygon"))
        if code is not None or rings is None:
            return None if code is None else bytes(code)
        size_hw = int(self.sizes[row][1]), int(self.sizes[row][0])
        return rle.from_polygons([ring for ring in rings if len(ring) >= _FEWEST_NUMBERS], size_hw)

    def shapes(self, solid: Bools) -> None:
        """Outlines that cross themselves, and boxes that are not those of their masks."""
        objects = self._dataset.objects
        own, states = examine_shapes(objects["polygon"], objects["rle"], self.sizes[:, 1].astype(np.int64))
        off = np.abs(own - self.boxes)
        extents = np.tile(np.maximum(own[:, 2:] - own[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]), 2)
        wrong = ((off > MISMATCH_PX) & (off > MISMATCH_SHARE * extents)).any(axis=1) & solid
        self.note(
            "label-degenerate-box", (states == FLAT) & solid, "has an outline without area: its corners lie on a line"
        )
        self.note("label-polygon-crossing", states == CROSSES, "has an outline that crosses itself")
        undecided = f"has an outline of too many long edges to look for crossings (over {MAX_PAIRS} pairs)"
        self.note("label-polygon-crossing", states == UNDECIDED, undecided)
        for row in np.flatnonzero(wrong).tolist():
            text = f"box of {self._name(row)} is {_corners(self.boxes[row])}, that of its mask {_corners(own[row])}"
            self._draft("label-box-mismatch", row, text, mask_box_xyxy=own[row].tolist())

    def findings(self) -> list[Finding]:
        """All that was noted, with places."""
        rows = sorted({d.row for d in self._drafts} | {d.other for d in self._drafts if d.other is not None})
        source = self._dataset.objects.select("label_path", "entry")[rows].cast({"label_path": pl.String})
        paths = source["label_path"].fill_null(self._paths[rows]).to_list()
        entries = source["entry"].to_list()
        placed = [(p, e) for p, e in zip(paths, entries, strict=True) if e is not None]
        lines = entry_lines(self._dataset, placed)
        place_of = {r: (p, e, lines.get((p, e))) for r, p, e in zip(rows, paths, entries, strict=True)}
        return [self._finding(draft, place_of) for draft in self._drafts]

    def _finding(self, draft: _Draft, place_of: dict[int, tuple[str, int | None, int | None]]) -> Finding:
        path, entry, line = place_of[draft.row]
        place: dict[str, Any] = {"path": path, "line": line, "entry": entry, "count": draft.count}
        if draft.count == 1:
            place["image_id"] = int(self.image_ids[draft.row])
        facts, text = draft.facts, draft.text
        if draft.count > 1:
            facts = {**facts, "image": self._paths[draft.row]}  # the one that serves as an example
        if draft.code != "label-mixed-coordinates":
            place["box_xyxy"] = tuple(self.boxes[draft.row].tolist())
        if draft.other is not None:
            path_of_other, entry_of_other, line_of_other = place_of[draft.other]
            beside = f"line {line_of_other}" if line_of_other is not None and path_of_other == path else "another"
            text = f"{text} {beside}: {_corners(self.boxes[draft.row])}"
            facts = {**facts, "other_path": path_of_other, "other_entry": entry_of_other}
        if draft.count == 1 and line == 1 and entry is not None and path.endswith((".json", ".json.gz")):
            # All of a file in one line: the line says nothing.
            told = [f"annotations[{entry}]", *self._own_id(draft.row), f"image {self._paths[draft.row]}"]
            text = f"{text} ({', '.join(told)})"
        return finding(draft.code, text, facts=facts, **place)

    def _draft(self, code: str, row: int, text: str, *, other: int | None = None, **facts: Any) -> None:
        self._drafts.append(_Draft(code, row, text, {"class": self._name(row), **facts}, other))

    def _own_id(self, row: int) -> list[str]:
        """The id of an object in its file, nothing where the reader had to number them anew."""
        return [f"id {self._dataset.objects['object_id'][row]}"] if self._has_own_ids else []

    @cached_property
    def _has_own_ids(self) -> bool:
        renumbered = any(f.code == "label-duplicate-id" for f in self._dataset.findings)
        return not renumbered and self._dataset.objects["label_path"].n_unique() == 1

    def _name(self, row: int) -> str:
        return self._names[int(self.class_ids[row])]


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
        iou = paired_iou(boxes[a], boxes[b])
        hit = iou >= NEAR_DUPLICATE_IOU
        found.append((np.minimum(a, b)[hit], np.maximum(a, b)[hit], iou[hit]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, overlap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.lexsort((first, -overlap, second))
    keep = best[np.unique(second[best], return_index=True)[1]]
    return first[keep], second[keep], overlap[keep]


def _corners(box: Floats) -> str:
    return ", ".join(f"{k}={v:.6g}" for k, v in zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))
