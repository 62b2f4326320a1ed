"""The shape an object's own outline or run lengths have: its box, and whether the outline crosses itself."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.kernels import njit
from sightline.ops.runs import box_of, unpack

__all__ = ["CROSSES", "FLAT", "MAX_PAIRS", "UNDECIDED", "examine_shapes"]

CROSSES, UNDECIDED, FLAT = 1, 2, 3
FLAT_PX = 1e-3  # corners no further than this from one line: the outline holds nothing, whatever was rounded
MAX_PAIRS = 5_000_000  # pairs of edges compared in one ring, half a second; only very many very long edges need more
_TOUCH_PX = 0.5  # outlines are drawn by hand and rounded: an edge this far beyond another one only touches it
_LOOP_SHARE = 0.01  # what a crossing cuts off must be this much of the rest to matter
_CHUNK_ROWS = 50_000  # bounds the memory for the flattened coordinates
_WORKERS = 2

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]


def examine_shapes(polygons: pl.Series, rles: pl.Series, heights: Ints) -> tuple[Floats, npt.NDArray[np.int8]]:
    """For each row the box `xyxy` (N, 4) of its mask, NaN where it has none, and what its rings do (N,).

    The latter is 0, `FLAT` (its only ring lies on a line), `CROSSES` or `UNDECIDED` (more than `MAX_PAIRS` pairs of
    edges would have to be compared). A ring crosses itself where two of its edges that are no neighbours cut each
    other, the ends of each lie more than half a pixel on either side of the other's line, and the smaller of the two
    loops this makes has more than 1 % of the area of the larger. Rings that touch themselves in a point, at a shared
    vertex or along an edge do not cross, nor does an edge that is walked there and back to join the parts of a mask
    (as YOLO files need it); and a ring is never compared with another ring of its object. `heights` (N,) are the
    images', for the run lengths.
    """
    boxes = np.full((len(polygons), 4), np.nan)
    states = np.zeros(len(polygons), dtype=np.int8)
    if polygons.null_count() < len(polygons):
        parts = [slice(start, start + _CHUNK_ROWS) for start in range(0, len(polygons), _CHUNK_ROWS)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(lambda part: _examine_polygons(polygons[part], boxes[part], states[part]), parts))
    rows = np.flatnonzero(rles.is_not_null().to_numpy())
    if len(rows):
        codes: list[bytes] = rles.drop_nulls().to_list()
        starts = np.concatenate([[0], np.cumsum([len(c) for c in codes])]).astype(np.int64)
        boxes[rows] = _rle_boxes(np.frombuffer(b"".join(codes), dtype=np.uint8), starts, heights[rows])
    return boxes, states


def _examine_polygons(polygons: pl.Series, boxes: Floats, states: npt.NDArray[np.int8]) -> None:
    counts = polygons.list.len().fill_null(0)
    if (counts == 0).any():
        polygons = polygons.filter(counts > 0)
    rings = polygons.explode()
    lengths, rows = rings.list.len().fill_null(0), np.repeat(np.arange(len(counts)), counts.to_numpy())
    usable = lengths >= 2
    if not usable.all():
        rings, lengths, rows = rings.filter(usable), lengths.filter(usable), rows[usable.to_numpy()]
    if rings.is_empty():
        return
    starts = np.concatenate([[0], np.cumsum(lengths.to_numpy())]).astype(np.int64)
    _examine_rings(np.ascontiguousarray(rings.explode().to_numpy(), np.float64), starts, rows, boxes, states)


class _Room(NamedTuple):
    """Arrays for the ring at hand, made once for the longest."""

    v: Floats  # (P, 2): vertices
    sums: Floats  # (P + 1,): of the cross products of successive vertices, twice the area of any stretch
    low: Floats  # (P,): lower end of each edge along the axis in use
    order: Ints  # (P,): the edges by it
    extents: Floats  # (P, 4): lower and upper end along that axis and the other one, in that order


@njit(cache=True, nogil=True)
def _examine_rings(flat: Floats, starts: Ints, rows: Ints, boxes: Floats, states: npt.NDArray[np.int8]) -> None:
    most = np.diff(starts).max() // 2
    room = _Room(
        np.empty((most, 2)), np.empty(most + 1), np.empty(most), np.empty(most, dtype=np.int64), np.empty((most, 4))
    )
    _examine_all(flat, starts, rows, boxes, states, room)


@njit(cache=True, nogil=True)
def _examine_all(
    flat: Floats, starts: Ints, rows: Ints, boxes: Floats, states: npt.NDArray[np.int8], room: _Room
) -> None:
    for ring in range(len(rows)):
        row, first, count = rows[ring], starts[ring], (starts[ring + 1] - starts[ring]) // 2
        x1, y1, x2, y2 = boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3]
        if np.isnan(x1):
            x1, y1, x2, y2 = np.inf, np.inf, -np.inf, -np.inf
        for i in range(count):
            x, y = flat[first + 2 * i], flat[first + 2 * i + 1]
            x1, y1, x2, y2 = min(x1, x), min(y1, y), max(x2, x), max(y2, y)
        boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3] = x1, y1, x2, y2
        if states[row] != CROSSES:
            state = _ring_state(flat[first : first + 2 * count], room)
            several = (ring and rows[ring - 1] == row) or (ring + 1 < len(rows) and rows[ring + 1] == row)
            if state and not (state == FLAT and several):
                states[row] = state


@njit(cache=True, nogil=True)
def _ring_state(ring: Floats, room: _Room) -> int:
    """0, `FLAT`, `CROSSES` or `UNDECIDED` for one ring (2·P,) `x0, y0, x1, …`."""
    v, n = room.v, 0
    for i in range(len(ring) // 2):  # points given twice in a row make edges without length
        x, y = ring[2 * i], ring[2 * i + 1]
        if n == 0 or x != v[n - 1, 0] + ring[0] or y != v[n - 1, 1] + ring[1]:
            v[n, 0], v[n, 1] = x - ring[0], y - ring[1]
            n += 1
    while n > 1 and v[n - 1, 0] == v[0, 0] and v[n - 1, 1] == v[0, 1]:
        n -= 1
    if _is_flat(v[:n]):
        return FLAT
    if n < 4 or _is_convex(v[:n]):
        return 0
    return _search(v[:n], room)


@njit(cache=True, nogil=True)
def _is_flat(v: Floats) -> bool:
    """Whether all corners, of which the first is the origin, lie on one line."""
    far = 0
    for i in range(len(v)):
        if v[i, 0] ** 2 + v[i, 1] ** 2 > v[far, 0] ** 2 + v[far, 1] ** 2:
            far = i
    reach = np.hypot(v[far, 0], v[far, 1])
    cross = v[:, 0] * v[far, 1] - v[:, 1] * v[far, 0]
    return bool(np.abs(cross).max() <= FLAT_PX * reach)


@njit(cache=True, nogil=True)
def _is_convex(v: Floats) -> bool:
    """Whether the ring turns one way only and goes around once."""
    n, sign, swings = len(v), 0.0, 0
    before = v[0, 0] - v[n - 1, 0]
    for i in range(n):
        j, k = (i + 1) % n, (i + 2) % n
        dx, dy = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1]
        turn = dx * (v[k, 1] - v[j, 1]) - dy * (v[k, 0] - v[j, 0])
        if turn * sign < 0:
            return False
        if turn != 0:
            sign = turn
        if dx != 0:
            swings += 1 if dx * before < 0 else 0
            before = dx
    return swings <= 2


@njit(cache=True, nogil=True)
def _search(v: Floats, room: _Room) -> int:
    """Compare every edge with those whose extent along one axis overlaps its own, in the order of that axis."""
    n, order, extents = len(v), room.order, room.extents
    _order_edges(v, room)
    pairs = 0
    for a in range(n):
        i = order[a]
        for b in range(a + 1, n):
            if extents[b, 0] > extents[a, 1]:
                break
            pairs += 1
            if abs(i - order[b]) == 1 or extents[b, 2] > extents[a, 3] or extents[a, 2] > extents[b, 3]:
                continue
            if not _cut(v, room.sums, i, order[b]):
                continue
            pairs += n
            if not _has_way_back(v, i) and not _has_way_back(v, order[b]):
                return CROSSES
        if pairs > MAX_PAIRS:
            return UNDECIDED
    return 0


@njit(cache=True, nogil=True)
def _order_edges(v: Floats, room: _Room) -> None:
    """Fill the room for a ring: the axis in use is the one along which the edges overlap each other less."""
    n, sums, low, order, extents = len(v), room.sums, room.low, room.order, room.extents
    load_x, load_y, x1, y1, x2, y2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    sums[0] = 0.0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        sums[i + 1] = sums[i] + v[i, 0] * v[j, 1] - v[i, 1] * v[j, 0]
        load_x, load_y = load_x + abs(v[j, 0] - v[i, 0]), load_y + abs(v[j, 1] - v[i, 1])
        x1, y1, x2, y2 = min(x1, v[i, 0]), min(y1, v[i, 1]), max(x2, v[i, 0]), max(y2, v[i, 1])
    axis = 0 if load_x * (y2 - y1) <= load_y * (x2 - x1) else 1
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        low[i], order[i] = min(v[i, axis], v[j, axis]), i
    _sort(order[:n], low)
    other = 1 - axis
    for a in range(n):
        i = order[a]
        j = i + 1 if i + 1 < n else 0
        extents[a, 0], extents[a, 1] = low[i], max(v[i, axis], v[j, axis])
        extents[a, 2], extents[a, 3] = min(v[i, other], v[j, other]), max(v[i, other], v[j, other])


@njit(cache=True, nogil=True)
def _sort(order: Ints, values: Floats) -> None:
    """Sort indices by their values in place, by insertion over falling distances (Shell 1959)."""
    gap = 1
    while gap < len(order) // 9:
        gap = 3 * gap + 1
    while gap > 0:
        for a in range(gap, len(order)):
            i, b = order[a], a
            while b >= gap and values[order[b - gap]] > values[i]:
                order[b] = order[b - gap]
                b -= gap
            order[b] = i
        gap //= 3


@njit(cache=True, nogil=True)
def _cut(v: Floats, sums: Floats, i: int, j: int) -> bool:
    """Whether edges `i` and `j` cross by more than a touch, and what they cut off is worth mentioning."""
    n = len(v)
    if i > j:
        i, j = j, i
    if j - i == 1 or (i == 0 and j == n - 1):
        return False
    a, b, c, d = v[i], v[i + 1], v[j], v[(j + 1) % n]
    from_c, from_d = _side(a, b, c), _side(a, b, d)
    from_a, from_b = _side(c, d, a), _side(c, d, b)
    if from_c * from_d >= 0 or from_a * from_b >= 0:
        return False
    if min(abs(from_a), abs(from_b), abs(from_c), abs(from_d)) <= _TOUCH_PX:
        return False
    t = from_a / (from_a - from_b)
    x, y = a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])
    loop = x * b[1] - y * b[0] + sums[j] - sums[i + 1] + c[0] * y - c[1] * x
    rest = sums[n] - loop
    return bool(min(abs(loop), abs(rest)) > _LOOP_SHARE * max(abs(loop), abs(rest)))


@njit(cache=True, nogil=True)
def _has_way_back(v: Floats, i: int) -> bool:
    """Whether edge `i` is also walked the other way: a bridge between the parts of a mask in one ring."""
    n = len(v)
    j = (i + 1) % n
    for k in range(n):
        m = (k + 1) % n
        if v[k, 0] == v[j, 0] and v[k, 1] == v[j, 1] and v[m, 0] == v[i, 0] and v[m, 1] == v[i, 1]:
            return True
    return False


@njit(cache=True, nogil=True)
def _side(a: Floats, b: Floats, p: Floats) -> float:
    """Distance of `p` from the line through `a` and `b`, signed."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    return float((dx * (p[1] - a[1]) - dy * (p[0] - a[0])) / np.hypot(dx, dy))


@njit(cache=True)
def _rle_boxes(raw: Bytes, starts: Ints, heights: Ints) -> Floats:
    """Tight boxes of run-length codes laid one after the other; NaN for an empty mask or one that does not decode."""
    boxes = np.full((len(heights), 4), np.nan)
    for k in range(len(heights)):
        runs, problem = unpack(raw[starts[k] : starts[k + 1]])
        if problem == 0 and len(runs) > 1 and heights[k] > 0:
            box = box_of(runs, heights[k])
            if box[2] > box[0]:
                boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = box[0], box[1], box[2], box[3]
    return boxes
