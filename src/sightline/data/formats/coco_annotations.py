"""The annotations of one COCO file as columns."""

from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.box_checks import check_boxes
from sightline.data.columns import float_rows, floats, integers
from sightline.data.formats.coco_document import Document, Problem
from sightline.ops import rle

__all__ = ["read_annotations"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Polygon: TypeAlias = list[list[float]]


def read_annotations(
    document: Document,
    image_ids: dict[int, int],
    images: pl.DataFrame,
    class_ids: dict[int, int],
    class_names: list[str],
) -> tuple[pl.DataFrame, list[Finding]]:
    """The objects of a file (`OBJECTS_SCHEMA` columns, `object_id` being the file's own) and its findings.

    `image_ids` and `class_ids` map the file's ids to the data set's; `images` is the data set's table.
    """
    entries, index, problems = document.entries("annotations")
    ids, bad_id = integers([e.get("id") for e in entries])
    of_image, bad_image = integers([e.get("image_id") for e in entries])
    of_class, bad_class = integers([e.get("category_id") for e in entries])
    image_id = np.array([image_ids.get(i, -1) for i in of_image.tolist()], dtype=np.int64)
    class_id = np.array([class_ids.get(i, -1) for i in of_class.tolist()], dtype=np.int64)
    image_id[bad_image], class_id[bad_class] = -1, -1

    sizes = dict(zip(images["image_id"], images.select("height", "width").iter_rows(), strict=True))
    masks = _Masks(entries, [sizes.get(i) for i in image_id.tolist()], index)
    boxes, bad_box = float_rows([e.get("bbox") for e in entries], 4)
    for row in np.flatnonzero(bad_box & masks.present).tolist():
        boxes[row] = masks.box_xywh(row)
    bad_box = np.isnan(boxes.sum(axis=1))

    fits = (image_id >= 0) & (class_id >= 0) & ~bad_box
    for row in np.flatnonzero(~fits).tolist():
        problems.append(_unusable(entries[row], int(index[row]), int(image_id[row]), int(class_id[row])))
    problems += [p for p, row in masks.problems if fits[row]]
    if bad_id.any() or len(np.unique(ids)) < len(ids):
        problems += _repeated(ids, bad_id, index)
        ids = index.copy()

    boxes[:, 2:] += boxes[:, :2]
    objects = pl.DataFrame(
        {
            "object_id": ids,
            "image_id": image_id,
            "class_id": class_id,
            **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            "area": masks.areas(boxes),
            "crowd": _flags(entries, "iscrowd"),
            "ignore": _flags(entries, "ignore"),
            "rle": pl.Series(masks.rles, dtype=pl.Binary),
            "polygon": masks.polygons,
        }
    ).filter(pl.Series(fits))
    kept = index[fits]

    def places(rows: Ints) -> list[tuple[str, int | None]]:
        lines = document.lines("annotations", kept[rows].tolist())
        return [(document.name, lines.get(i)) for i in kept[rows].tolist()]

    objects, findings = check_boxes(objects, images, class_names, places)
    return objects, document.findings("annotations", problems) + findings


class _Masks:
    """The segmentations of all entries: polygons and run lengths, checked, and what is wrong with the others."""

    def __init__(self, entries: list[dict[str, Any]], sizes: list[tuple[int, int] | None], index: Ints) -> None:
        self._entries, self._sizes, self._index = entries, sizes, index
        self.problems: list[tuple[Problem, int]] = []
        values = [e.get("segmentation") for e in entries]
        self.polygons = self._read_polygons(values)
        self.rles = [self._read_rle(row, v) if isinstance(v, dict) else None for row, v in enumerate(values)]
        has_rle = np.array([r is not None for r in self.rles], dtype=np.bool_)
        self.present = has_rle | self.polygons.is_not_null().to_numpy()
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, (list, dict)):
                self._problem(row, f"must be a list of polygons or a run-length object, got {value!r:.40}")

    def box_xywh(self, row: int) -> Floats:
        """The tight box of a mask as x, y, width, height."""
        counts, size = self.rles[row], self._sizes[row]
        if counts is not None and size is not None:
            x1, y1, x2, y2 = rle.to_box(counts, size).tolist()
        else:
            points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in self._rings(row)])
            (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return np.array([x1, y1, x2 - x1, y2 - y1])

    def areas(self, boxes_xyxy: Floats) -> Floats:
        """The area each entry states; of its mask, else of its box, where it states none."""
        area, missing = floats([e.get("area") for e in self._entries])
        sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
        for row in np.flatnonzero(missing | (area < 0)).tolist():
            counts, size = self.rles[row], self._sizes[row]
            if counts is None and size is not None and self.present[row]:
                counts = rle.from_polygons(self._rings(row), size)
            area[row] = rle.area(counts) if counts is not None else sides[row, 0] * sides[row, 1]
        return area

    def _rings(self, row: int) -> Polygon:
        rings: Polygon = self.polygons[row].to_list()
        return rings

    def _read_polygons(self, values: list[Any]) -> pl.Series:
        lists = [v if isinstance(v, list) and v else [] for v in values]
        rows, rings = _rings_of(lists)
        flat = _flatten(rings)
        if flat is None:  # something is no list of lists of numbers: find out what, and read the others
            lists = [self._clean(row, v) for row, v in enumerate(lists)]
            rows, rings = _rings_of(lists)
            flat = np.array([c for ring in rings for c in ring], dtype=np.float64)
        lengths = np.array([len(r) for r in rings], dtype=np.int64)
        of_ring = np.repeat(np.arange(len(rings)), lengths)
        bad = (lengths < 6) | (lengths % 2 == 1)
        bad[of_ring[~np.isfinite(flat)]] = True
        wrong = np.unique(rows[bad])
        for row in wrong.tolist():
            self._problem(row, "must be polygons of at least three finite points each")
        kept = ~np.isin(rows, wrong)
        # Nested lists out of flat columns: one group per ring, then one per object; building them row by row is slow.
        points = pl.DataFrame({"ring": of_ring, "polygon": flat}).filter(pl.Series(kept[of_ring]))
        table = points.group_by("ring", maintain_order=True).agg("polygon").with_columns(row=pl.Series(rows[kept]))
        table = table.group_by("row", maintain_order=True).agg("polygon")
        whole = pl.DataFrame({"row": np.arange(len(values))})
        return whole.join(table, on="row", how="left", maintain_order="left")["polygon"]

    def _clean(self, row: int, rings: list[Any]) -> Polygon:
        table = [float_rows([r], len(r)) if isinstance(r, list) and r else None for r in rings]
        read = [t[0][0].tolist() for t in table if t is not None and not t[1][0]]
        if len(read) < len(rings):
            self._problem(row, "must be a list of lists of numbers")
            return []
        return read

    def _read_rle(self, row: int, value: dict[str, Any]) -> bytes | None:
        size, counts = self._sizes[row], value.get("counts")
        if size is None:
            return None  # the image is not there, and that is reported
        claimed = value.get("size")
        if claimed != list(size):
            self._problem(row, f"run lengths must be of size [height, width] = {list(size)}, got {claimed!r:.40}")
            return None
        try:
            if isinstance(counts, list):
                return rle.runs_to_counts(counts, size)
            rle.counts_to_runs(counts if isinstance(counts, str) else "", size)
        except (DataError, ValueError, OverflowError) as error:
            self._problem(row, f"run lengths must fill the image, got: {error}")
            return None
        return str(counts).encode("ascii")

    def _problem(self, row: int, what: str) -> None:
        index = int(self._index[row])
        label = self._entries[row].get("id", "?")
        self.problems.append(
            (Problem("label-bad-segmentation", index, f"segmentation of object {label!r:.20} {what}"), row)
        )


def _rings_of(lists: list[list[Any]]) -> tuple[Ints, list[Any]]:
    """All rings of all objects, and the row each belongs to."""
    counts = np.array([len(v) for v in lists], dtype=np.int64)
    return np.repeat(np.arange(len(lists)), counts), list(chain.from_iterable(lists))


def _flatten(rings: list[Any]) -> Floats | None:
    """The coordinates of all rings one after the other, or None when a ring is no list of numbers."""
    if not set(map(type, rings)) <= {list}:
        return None
    try:
        return np.fromiter(chain.from_iterable(rings), np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _unusable(entry: dict[str, Any], index: int, image_id: int, class_id: int) -> Problem:
    label = f"annotations[{index}] (id {entry.get('id')!r:.20})"
    if image_id < 0:
        return Problem(
            "label-unknown-image", index, f"{label} belongs to image {entry.get('image_id')!r:.40}, not listed"
        )
    if class_id < 0:
        got = entry.get("category_id")
        return Problem("label-unknown-class", index, f"{label} has category {got!r:.40}, not declared", image_id)
    got = entry.get("bbox")
    return Problem(
        "label-malformed", index, f"{label} must have a bbox of four finite numbers, got {got!r:.60}", image_id
    )


def _repeated(ids: Ints, bad: npt.NDArray[np.bool_], index: Ints) -> list[Problem]:
    first = np.zeros(len(ids), dtype=np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return [
        Problem(
            "label-duplicate-id", int(i), f"annotations[{i}] must have an integer id of its own; ids are renumbered"
        )
        for i in index[bad | ~first].tolist()
    ]


def _flags(entries: list[dict[str, Any]], key: str) -> pl.Series:
    return pl.Series([bool(e.get(key)) for e in entries], dtype=pl.Boolean)
