"""The annotations of one COCO file as objects of a data set."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA
from sightline.core.findings import Finding
from sightline.data.formats.coco.document import Document, Problem
from sightline.data.formats.coco.entries import (
    Bools,
    Entries,
    Floats,
    Ints,
    parsed_entries,
    read_codes,
    scanned_entries,
)
from sightline.data.formats.shared.image_tables import integers, list_column, nested_column
from sightline.ops import rle
from sightline.ops.boxes import lost_sizes

__all__ = ["read_annotations"]

_COLUMNS = tuple(
    c for c in OBJECTS_SCHEMA if c not in {"occlusion", "truncation", "track_id", "label_path", "entry", "reported"}
)  # COCO has none of these
_OUTLINES = ("polygon", "keypoints")
_VISIBILITIES = (0, 1, 2)
_DENSE = 16
_LEFT_OUT = "label-left-out"


def read_annotations(
    document: Document,
    image_ids: Mapping[int, int | None],
    images: pl.DataFrame,
    class_ids: Mapping[int, int],
    classes: pl.DataFrame,
) -> tuple[pl.DataFrame, list[Finding]]:
    """The objects of a file (`OBJECTS_SCHEMA` columns, `object_id` being the file's own) and its findings.

    `image_ids` and `class_ids` map the file's ids to the data set's; `images` and `classes` are the data set's tables.
    """
    known = _Known(image_ids, images, class_ids, classes)
    parts = list(_scanned(document, known))
    problems: list[Problem] = []
    if None in parts:  # not of the usual form: look at every entry by itself
        entries, index, problems = document.entries("annotations")
        parts = [_objects(parsed_entries(entries, index), known)]
    read = [part for part in parts if part is not None]
    problems += [p for part in read for p in part.unusable] + [p for part in read for p in part.damaged]
    kept, ids = _joined([p.kept for p in read], np.int64), _joined([p.ids for p in read], np.int64)
    bad_ids, index = _joined([p.bad_ids for p in read], np.bool_), _joined([p.index for p in read], np.int64)
    objects = pl.concat([p.table for p in read]) if read else _empty()
    # Outlines, by far the most of it, stay in their parts: laid together they would for a moment need twice the memory.
    objects = objects.with_columns(c.rechunk() for c in objects.iter_columns() if c.name not in _OUTLINES)
    problems = _summed_up(problems)
    del parts, read
    if bad_ids.any() or (np.diff(np.sort(ids)) == 0).any():
        problems += _repeated(ids, bad_ids, index)
        objects = objects.with_columns(object_id=pl.Series(kept, dtype=pl.Int64))
    source: dict[str, pl.Expr | pl.Series] = {
        "label_path": pl.lit(document.name).cast(pl.Categorical),
        "entry": pl.Series(kept, dtype=pl.Int32),
    }
    return objects.with_columns(**source), document.findings("annotations", problems)


@dataclass(frozen=True)
class _Part:
    """What became of a run of entries."""

    table: pl.DataFrame
    kept: Ints  # places in the file's list of the table's rows
    ids: Ints  # of all entries, with their places
    bad_ids: Bools
    index: Ints
    unusable: list[Problem]
    damaged: list[Problem]  # of objects that are kept


class _Known:
    """What the file's ids stand for in the data set, for whole columns of them."""

    def __init__(
        self,
        image_ids: Mapping[int, int | None],
        images: pl.DataFrame,
        class_ids: Mapping[int, int],
        classes: pl.DataFrame,
    ) -> None:
        row_of = {number: row for row, number in enumerate(images["image_id"].to_list())}
        self._rows = _Lookup({theirs: row_of[ours] for theirs, ours in image_ids.items() if ours is not None})
        self.left_out = frozenset(theirs for theirs, ours in image_ids.items() if ours is None)
        self._classes = _Lookup(class_ids)
        # A row more, for what is not there.
        self._image_ids = np.append(images["image_id"].to_numpy(), -1)
        self._sizes = np.append(images.select("height", "width").to_numpy().astype(np.int64), [[-1, -1]], axis=0)
        names = classes["keypoint_names"].list.len().fill_null(0)
        self._keypoints = np.append(names.to_numpy().astype(np.int64), 0)

    def images(self, entries: Entries) -> tuple[Ints, Ints]:
        """Image ids (N,), and heights and widths (N, 2); -1 where the image is not there."""
        rows = np.where(entries.bad_image_ids, -1, self._rows.find(entries.image_ids))
        return self._image_ids[rows], self._sizes[rows]

    def classes(self, entries: Entries) -> tuple[Ints, Ints]:
        """Class ids (N,), -1 where the class is not there, and how many keypoints each names."""
        class_ids = np.where(entries.bad_category_ids, -1, self._classes.find(entries.category_ids))
        return class_ids, self._keypoints[class_ids]


class _Lookup:
    """A map from integers to integers, 0 or more, that takes arrays."""

    def __init__(self, pairs: Mapping[int, int]) -> None:
        keys = np.fromiter(pairs.keys(), np.int64, len(pairs))
        values = np.fromiter(pairs.values(), np.int64, len(pairs))
        order = np.argsort(keys)
        self._keys, self._values = keys[order], values[order]
        self._first = int(self._keys[0]) if len(pairs) else 0
        span = int(self._keys[-1]) - self._first + 1 if len(pairs) else 1
        self._table: Ints | None = None
        if span <= _DENSE * (len(pairs) + 1):  # looking up in a table is far faster than searching
            self._table = np.full(span + 1, -1, dtype=np.int64)
            self._table[keys - self._first] = values

    def find(self, keys: Ints) -> Ints:
        """The values, -1 where a key is not there."""
        if self._table is not None:
            slots = np.where((keys >= self._first) & (keys - self._first < len(self._table)), keys - self._first, -1)
            return self._table[slots]
        slots = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[slots] == keys, self._values[slots], -1)


def _scanned(document: Document, known: _Known) -> Iterator[_Part | None]:
    first = 0
    for scanned in document.scan():
        if scanned is None:
            yield None
            return
        part, text = scanned
        yield _objects(scanned_entries(part, text, first), known)
        first += len(part.whole)


def _objects(entries: Entries, known: _Known) -> _Part:
    image_ids, sizes_hw = known.images(entries)
    class_ids, keypoint_counts = known.classes(entries)
    shapes, keypoints = _Shapes(entries, sizes_hw), _Keypoints(entries, keypoint_counts)
    boxes = entries.boxes_xywh.copy()
    boxes[~np.isfinite(boxes).all(axis=1)] = np.nan
    for row in np.flatnonzero(np.isnan(boxes[:, 0]) & shapes.present).tolist():
        boxes[row] = shapes.box_xywh(row)
    fits = (image_ids >= 0) & (class_ids >= 0) & ~np.isnan(boxes).any(axis=1)
    unusable = [
        _unusable(entries, r, int(image_ids[r]), int(class_ids[r]), known.left_out)
        for r in np.flatnonzero(~fits).tolist()
    ]
    damaged = sorted(shapes.problems) + sorted(keypoints.problems)
    areas = shapes.areas(boxes)
    sizes_wh = boxes[:, 2:].copy()
    boxes[:, 2:] += boxes[:, :2]
    table = pl.DataFrame(
        {
            "object_id": entries.ids,
            "image_id": image_ids,
            "class_id": class_ids,
            **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            "area": areas,
            "crowd": entries.crowd,
            "ignore": entries.ignore,
            "rle": shapes.codes,
            "polygon": shapes.polygons,
            "keypoints": keypoints.column,
            "given_width": lost_sizes(boxes[:, 0], boxes[:, 2], sizes_wh[:, 0]),
            "given_height": lost_sizes(boxes[:, 1], boxes[:, 3], sizes_wh[:, 1]),
        },
        schema={c: OBJECTS_SCHEMA[c] for c in _COLUMNS},
    )
    return _Part(
        table if fits.all() else table.filter(pl.Series(fits)),
        entries.index[fits],
        entries.ids.copy(),
        entries.bad_ids,
        entries.index,
        unusable,
        [_damaged(entries, row, code, what) for row, code, what in damaged if fits[row]] + _negative(entries, fits),
    )


class _Shapes:
    """The segmentations of entries: polygons and run lengths, checked, and what is wrong with the others."""

    def __init__(self, entries: Entries, sizes_hw: Ints) -> None:
        self.problems = [(row, "label-bad-segmentation", what) for row, what in entries.bad_segmentations]
        self._entries, self._sizes = entries, sizes_hw
        self._first_rings = np.cumsum(entries.ring_counts) - entries.ring_counts
        self.polygons = self._read_polygons()
        self.codes: list[bytes | None] = [None] * len(entries.index)
        self._read_codes()
        has_code = np.array([c is not None for c in self.codes], dtype=np.bool_)
        self.present: Bools = has_code | self.polygons.is_not_null().to_numpy()

    def box_xywh(self, row: int) -> Floats:
        """The tight box of a mask as x, y, width, height."""
        code = self.codes[row]
        if code is not None:
            x1, y1, x2, y2 = rle.to_box(code, self._size(row)).tolist()
        else:
            points = np.concatenate(self._rings(row)).reshape(-1, 2)
            (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return np.array([x1, y1, x2 - x1, y2 - y1])

    def areas(self, boxes_xywh: Floats) -> Floats:
        """The area each entry states; of its mask, else of its box, where it states none."""
        area = self._entries.areas.copy()
        sides = np.clip(boxes_xywh[:, 2:], 0, None)
        for row in np.flatnonzero(~np.isfinite(area) | (area < 0)).tolist():
            code = self.codes[row]
            if code is None and self.present[row] and self._sizes[row, 0] >= 0:
                code = rle.from_polygons(self._rings(row), self._size(row))
            area[row] = rle.area(code) if code is not None else sides[row, 0] * sides[row, 1]
        return area

    def _size(self, row: int) -> tuple[int, int]:
        return int(self._sizes[row, 0]), int(self._sizes[row, 1])

    def _rings(self, row: int) -> list[Floats]:
        first, ends = int(self._first_rings[row]), self._entries.ring_ends
        starts = np.concatenate([[0], ends])
        rings = range(first, first + int(self._entries.ring_counts[row]))
        return [self._entries.coordinates[starts[i] : ends[i]] for i in rings]

    def _read_polygons(self) -> pl.Series:
        flat, ends, counts = self._entries.coordinates, self._entries.ring_ends, self._entries.ring_counts
        lengths = np.diff(ends, prepend=0)
        bad = (lengths < 6) | (lengths % 2 == 1)
        if not np.isfinite(flat).all():
            bad[np.searchsorted(ends, np.flatnonzero(~np.isfinite(flat)), side="right")] = True
        rows = np.repeat(np.arange(len(counts)), counts)
        wrong = np.unique(rows[bad])
        what = "must be polygons of at least three finite points each"
        self.problems += [(row, "label-bad-segmentation", what) for row in wrong.tolist()]
        if len(wrong):
            kept = ~np.isin(rows, wrong)
            flat, lengths, rows = flat[np.repeat(kept, lengths)], lengths[kept], rows[kept]
        return nested_column(flat, lengths, rows, len(counts))

    def _read_codes(self) -> None:
        for rows, values in self._entries.codes():
            known = [i for i, row in enumerate(rows) if self._sizes[row, 0] >= 0]  # else that is what is reported
            sizes = self._sizes[[rows[i] for i in known]]
            for i, code in zip(known, read_codes([values[i] for i in known], sizes[:, 0], sizes[:, 1]), strict=True):
                if isinstance(code, str):
                    self.problems.append((rows[i], "label-bad-segmentation", code))
                else:
                    self.codes[rows[i]] = code


class _Keypoints:
    """The keypoints of entries, and what is wrong with those that are left out."""

    def __init__(self, entries: Entries, wanted: Ints) -> None:
        code = "label-bad-keypoints"
        self.problems = [(row, code, what) for row, what in entries.bad_points]
        counts, values = entries.point_counts, entries.points
        kept = counts > 0
        expected = np.where(wanted > 0, 3 * wanted, counts - counts % 3)
        for row in np.flatnonzero(kept & (counts != expected)).tolist():
            what = f"must be x, y, v for each of the class's {wanted[row] or 'named'} points, got {counts[row]} numbers"
            self.problems.append((row, code, what))
        kept &= counts == expected
        rows = np.repeat(np.arange(len(counts)), counts)
        order = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
        odd = ~np.isfinite(values) | ((order % 3 == 2) & ~np.isin(values, _VISIBILITIES))
        for row in np.unique(rows[odd & kept[rows]]).tolist():
            self.problems.append((row, code, "must be finite and have a visibility v of 0, 1 or 2"))
            kept[row] = False
        self.column = list_column(values[kept[rows]], np.where(kept, counts, 0))


def _negative(entries: Entries, fits: Bools) -> list[Problem]:
    """The areas below 0, in place of which the mask's or the box's is taken."""
    rows = np.flatnonzero((entries.areas < 0) & fits).tolist()
    text = "area of object {!r:.20} is stated as {:g}; that of its mask or box is taken"
    return [
        Problem("label-wrong-area", int(entries.index[r]), text.format(entries.entry(r).get("id"), entries.areas[r]))
        for r in rows
    ]


def _damaged(entries: Entries, row: int, code: str, what: str) -> Problem:
    entry, key = entries.entry(row), "keypoints" if code.endswith("keypoints") else "segmentation"
    label = f"{entry.get('id', '?')!r:.20} of image {entry.get('image_id')!r:.20}"
    return Problem(code, int(entries.index[row]), f"{key} of object {label} {what}")


def _summed_up(problems: list[Problem]) -> list[Problem]:
    """One problem, at the first object, for all the objects of an image that is left out."""
    counts = Counter(p.message for p in problems if p.code == _LEFT_OUT)
    kept = []
    for p in problems:
        count = counts.pop(p.message, 0) if p.code == _LEFT_OUT else 1
        if count:
            kept.append(replace(p, count=count))
    return kept


def _unusable(entries: Entries, row: int, image_id: int, class_id: int, left_out: frozenset[int]) -> Problem:
    index, entry = int(entries.index[row]), entries.entry(row)
    label = f"annotations[{index}] (id {entry.get('id')!r:.20}, image {entry.get('image_id')!r:.20})"
    if image_id < 0:
        got: Any = entry.get("image_id")
        if isinstance(got, int) and got in left_out:
            return Problem(_LEFT_OUT, index, f"objects of image {got}, which is left out itself")
        return Problem("label-unknown-image", index, f"{label} belongs to image {got!r:.40}, not listed")
    if class_id < 0:
        got = entry.get("category_id")
        (number,), (wrong,) = integers([got])
        facts = {} if wrong else {"class_number": int(number)}
        message = f"{label} has category {got!r:.40}, not declared"
        return Problem("label-unknown-class", index, message, image_id, facts=facts)
    got = entry.get("bbox")
    return Problem(
        "label-malformed", index, f"{label} must have a bbox of four finite numbers, got {got!r:.60}", image_id
    )


def _repeated(ids: Ints, bad: Bools, index: Ints) -> list[Problem]:
    first = np.zeros(len(ids), dtype=np.bool_)
    first[np.unique(ids, return_index=True)[1]] = True
    return [
        Problem(
            "label-duplicate-id", int(i), f"annotations[{i}] must have an integer id of its own; ids are renumbered"
        )
        for i in index[bad | ~first].tolist()
    ]


def _joined(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema={c: OBJECTS_SCHEMA[c] for c in _COLUMNS})
