"""The annotations of a COCO file as columns of numbers, before anything is known about images and classes.

`parsed_entries` makes them from Python objects, where each value may be anything; `scanned_entries` from the columns of
a scan, where only what is of the usual form arrives. What follows does not know which it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.core.kernels import njit
from sightline.core.text import parse_json
from sightline.data.formats.coco import scan as scanned
from sightline.data.formats.shared.image_tables import float_rows, floats, integers
from sightline.data.json.scan import Bytes
from sightline.ops import rle
from sightline.ops.runs import pack, unpack

__all__ = [
    "Bools",
    "Codes",
    "Entries",
    "Floats",
    "ImageEntry",
    "Ints",
    "decode_json",
    "parsed_entries",
    "read_codes",
    "scanned_entries",
]

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
            yield chosen, decode_json(b"[" + b",".join(values) + b"]")

    def entry(row: int) -> dict[str, Any]:
        values: dict[str, Any] = parse_json(text[whole[row, scanned.START] : whole[row, scanned.END]].tobytes())
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


class ImageEntry(TypedDict, total=False):
    """What is read of an image; the addresses and dates beside it would need more memory than the file."""

    id: Any
    file_name: Any
    coco_url: Any
    width: Any
    height: Any
    neg_category_ids: Any
    not_exhaustive_category_ids: Any


def decode_json(text: bytes, entry: type | None = None) -> Any:
    """What a JSON text of sound UTF-8 holds; ValueError where it is none.

    Of a list of objects with the keys of `entry` the other keys may be left out.
    """
    try:
        return msgspec.json.decode(text) if entry is None else msgspec.json.decode(text, type=list[entry])  # type: ignore[valid-type]
    except msgspec.ValidationError:  # not a list of objects alone
        return decode_json(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # NaN among the values, or half a surrogate pair
        return parse_json(text)


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


def read_codes(values: Sequence[dict[str, Any]], heights: Ints, widths: Ints) -> list[bytes | str]:
    """For each run-length object, of an image of the given size, its compressed counts or (as text) what is wrong."""
    read: list[bytes | str] = [b""] * len(values)
    texts: list[int] = []
    lists: list[int] = []
    for i, (value, height, width) in enumerate(zip(values, heights.tolist(), widths.tolist(), strict=True)):
        if value.get("size") != [height, width]:
            claimed = value.get("size")
            read[i] = f"run lengths must be of size [height, width] = {[height, width]}, got {claimed!r:.40}"
        else:
            (lists if isinstance(value.get("counts"), list) else texts).append(i)
    for rows, reader in ((texts, _read_texts), (lists, _read_lists)):
        if not rows:
            continue
        counts: list[Any] = [values[i].get("counts") for i in rows]
        for i, code in zip(rows, reader(counts, heights[rows], widths[rows]), strict=True):
            read[i] = code
    return read


def _read_texts(counts: list[Any], heights: Ints, widths: Ints) -> list[bytes | str]:
    codes = [c.encode("ascii", "replace") if isinstance(c, str) else b"" for c in counts]
    ends = np.cumsum([len(c) for c in codes], dtype=np.int64)
    sound = _fill(np.frombuffer(b"".join(codes), dtype=np.uint8), ends, heights * widths)
    sizes = zip(heights.tolist(), widths.tolist(), strict=True)
    return [
        code if fine else _examine(text if isinstance(text, str) else "", size)
        for code, text, fine, size in zip(codes, counts, sound.tolist(), sizes, strict=True)
    ]


def _read_lists(counts: list[list[Any]], heights: Ints, widths: Ints) -> list[bytes | str]:
    sizes = list(zip(heights.tolist(), widths.tolist(), strict=True))
    if not set(map(type, chain.from_iterable(counts))) <= {int}:
        return [_examine(runs, size) for runs, size in zip(counts, sizes, strict=True)]
    try:
        flat = np.fromiter(chain.from_iterable(counts), np.int64)
    except OverflowError:
        return [_examine(runs, size) for runs, size in zip(counts, sizes, strict=True)]
    ends = np.cumsum([len(c) for c in counts], dtype=np.int64)
    packed, packed_ends = _pack_all(flat, ends, heights * widths)
    whole, starts = packed.tobytes(), np.concatenate([[0], packed_ends])[:-1].tolist()
    return [
        whole[start:end] if end > start else _examine(runs, size)
        for start, end, runs, size in zip(starts, packed_ends.tolist(), counts, sizes, strict=True)
    ]


def _examine(counts: str | list[Any], size_hw: tuple[int, int]) -> bytes | str:
    """One object by itself, which says what is wrong with it."""
    try:
        if isinstance(counts, list):
            return rle.runs_to_counts(counts, size_hw)
        rle.counts_to_runs(counts, size_hw)
    except (DataError, ValueError, OverflowError) as error:
        return f"run lengths must fill the image, got: {error}"
    return counts.encode("ascii")


@njit(cache=True)
def _fill(raw: Bytes, ends: Ints, totals: Ints) -> Bools:
    """Which of the codes laid end to end decode to as many pixels as their image has."""
    sound = np.zeros(len(ends), dtype=np.bool_)
    start = 0
    for k in range(len(ends)):
        runs, problem = unpack(raw[start : ends[k]])
        sound[k] = problem == 0 and runs.sum() == totals[k]
        start = ends[k]
    return sound


@njit(cache=True)
def _pack_all(flat: Ints, ends: Ints, totals: Ints) -> tuple[Bytes, Ints]:
    """The codes of lists of runs laid end to end, and their ends; nothing for one that does not fill its image."""
    out = np.empty(len(flat) * 8, dtype=np.uint8)
    out_ends = np.zeros(len(ends), dtype=np.int64)
    start, size = 0, 0
    for k in range(len(ends)):
        runs = flat[start : ends[k]]
        if len(runs) and runs.min() >= 0 and runs.max() <= totals[k] and runs.sum() == totals[k]:
            code = pack(runs)
            out[size : size + len(code)] = code
            size += len(code)
        out_ends[k], start = size, ends[k]
    return out[:size].copy(), out_ends
