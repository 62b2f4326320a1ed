"""The annotations of a COCO file as columns of numbers, before anything is known about images and classes.

`parsed_entries` makes them from Python objects, where each value may be anything; `scanned_entries` from the columns of
a scan, where only what is of the usual form arrives. What follows does not know which it was.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from sightline.data.formats.coco import scan as scanned
from sightline.data.formats.shared.columns import float_rows, floats, integers
from sightline.data.json.scan import Bytes

__all__ = ["Bools", "Codes", "Entries", "Floats", "Ints", "parsed_entries", "scanned_entries"]

Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = Iterator[tuple[Sequence[int], list[Any]]]
"""Rows and their run-length objects, in batches of bounded size."""

_BATCH_BYTES = 1 << 22  # of run lengths, which are far larger as Python numbers


@dataclass(frozen=True)
class Entries:
    """Columns of N entries; ids are the file's own, 0 and `bad` where there is no integer; NaN for other numbers."""

    index: Ints  # place in the file's list
    ids: Ints
    bad_ids: Bools
    image_ids: Ints
    bad_image_ids: Bools
    category_ids: Ints
    bad_category_ids: Bools
    boxes_xywh: Floats  # (N, 4)
    areas: Floats
    crowd: Bools
    ignore: Bools
    coordinates: Floats  # of all rings, one after the other
    ring_ends: Ints  # in `coordinates`
    ring_counts: Ints  # (N,)
    points: Floats  # keypoint values of all entries
    point_counts: Ints  # (N,)
    codes: Callable[[], Codes]
    entry: Callable[[int], dict[str, Any]]  # a row as it stands in the file
    bad_segmentations: list[tuple[int, str]]  # row, and what it must be
    bad_points: list[tuple[int, str]]


def scanned_entries(part: scanned.Part, text: Bytes, first: int) -> Entries:
    """The columns of a scanned part whose first entry is number `first` of the list."""
    whole, none = part.whole, np.zeros(len(part.whole), dtype=np.bool_)
    starts, ends = whole[:, scanned.CODE_START], whole[:, scanned.CODE_END]

    def codes() -> Codes:
        rows = np.flatnonzero(ends)
        batches = np.cumsum(ends[rows] - starts[rows]) // _BATCH_BYTES
        for batch in np.unique(batches).tolist():
            chosen = rows[batches == batch].tolist()
            values = [text[starts[r] : ends[r]].tobytes() for r in chosen]
            yield chosen, _decode(b"[" + b",".join(values) + b"]")

    def entry(row: int) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(text[whole[row, scanned.START] : whole[row, scanned.END]].tobytes())
        return values

    return Entries(
        index=np.arange(first, first + len(whole)),
        ids=whole[:, 0],
        bad_ids=none,
        image_ids=whole[:, 1],
        bad_image_ids=none,
        category_ids=whole[:, 2],
        bad_category_ids=none,
        boxes_xywh=part.numbers[:, :4],
        areas=part.numbers[:, 4],
        crowd=whole[:, scanned.CROWD] != 0,
        ignore=whole[:, scanned.IGNORE] != 0,
        coordinates=part.coordinates,
        ring_ends=part.ring_ends,
        ring_counts=whole[:, scanned.RINGS],
        points=part.points,
        point_counts=np.maximum(whole[:, scanned.POINTS], 0),
        codes=codes,
        entry=entry,
        bad_segmentations=[],
        bad_points=[],
    )


def _decode(text: bytes) -> list[Any]:
    try:
        values: list[Any] = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # NaN among the values, or half a surrogate pair
        values = json.loads(text)
    return values


def parsed_entries(entries: list[dict[str, Any]], index: Ints) -> Entries:
    """The columns of parsed entries; `index` holds their places in the list."""
    ids, bad_ids = integers([e.get("id") for e in entries])
    image_ids, bad_image_ids = integers([e.get("image_id") for e in entries])
    category_ids, bad_category_ids = integers([e.get("category_id") for e in entries])
    values = [e.get("segmentation") for e in entries]
    rings, bad_segmentations = _rings(values)
    points, bad_points = _points([e.get("keypoints") for e in entries])
    flat = [ring for polygon in rings for ring in polygon]
    rows = [row for row, v in enumerate(values) if isinstance(v, dict)]
    return Entries(
        index=index,
        ids=ids,
        bad_ids=bad_ids,
        image_ids=image_ids,
        bad_image_ids=bad_image_ids,
        category_ids=category_ids,
        bad_category_ids=bad_category_ids,
        boxes_xywh=float_rows([e.get("bbox") for e in entries], 4)[0],
        areas=floats([e.get("area") for e in entries])[0],
        crowd=np.array([bool(e.get("iscrowd")) for e in entries], dtype=np.bool_),
        ignore=np.array([bool(e.get("ignore")) for e in entries], dtype=np.bool_),
        coordinates=_flat(flat),
        ring_ends=np.cumsum([len(r) for r in flat], dtype=np.int64),
        ring_counts=np.array([len(r) for r in rings], dtype=np.int64),
        points=_flat(points),
        point_counts=np.array([len(p) for p in points], dtype=np.int64),
        codes=lambda: iter([(rows, [values[row] for row in rows])]),
        entry=entries.__getitem__,
        bad_segmentations=bad_segmentations,
        bad_points=bad_points,
    )


def _rings(values: list[Any]) -> tuple[list[list[list[float]]], list[tuple[int, str]]]:
    """The rings of each entry, none where they are no lists of numbers, and what is wrong with those."""
    bad = [
        (row, f"must be a list of polygons or a run-length object, got {v!r:.40}")
        for row, v in enumerate(values)
        if v is not None and not isinstance(v, (list, dict))
    ]
    rings = [v if isinstance(v, list) else [] for v in values]
    if not _all_numbers(list(chain.from_iterable(rings))):
        for row, polygon in enumerate(rings):
            rows = [_numbers(ring) for ring in polygon]
            rings[row] = [ring for ring in rows if ring is not None]
            if len(rings[row]) < len(rows):
                bad.append((row, "must be a list of lists of numbers"))
                rings[row] = []
    return rings, bad


def _points(values: list[Any]) -> tuple[list[list[float]], list[tuple[int, str]]]:
    """The keypoint values of each entry, none where they are no list of numbers, and what is wrong with those."""
    lists = [[] if v is None else v for v in values]
    if _all_numbers(lists):
        return lists, []
    read = [_numbers(v) if v != [] else [] for v in lists]
    bad = [(row, f"must be a list of numbers, got {values[row]!r:.40}") for row, v in enumerate(read) if v is None]
    return [v or [] for v in read], bad


def _all_numbers(lists: list[Any]) -> bool:
    return set(map(type, lists)) <= {list} and set(map(type, chain.from_iterable(lists))) <= {int, float}


def _numbers(values: Any) -> list[float] | None:
    """The list if it holds nothing but finite numbers (or text that reads as such), else None."""
    if not isinstance(values, list) or not values:
        return None
    table, bad = float_rows([values], len(values))
    return None if bad[0] else list(table[0].tolist())


def _flat(lists: list[list[float]]) -> Floats:
    try:
        return np.fromiter(chain.from_iterable(lists), np.float64)
    except OverflowError:  # an integer beyond all floats
        return np.array([_float(v) for v in chain.from_iterable(lists)], dtype=np.float64)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
