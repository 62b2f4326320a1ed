"""Outlines that cross themselves, against a reference by brute force, and the boxes of masks."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.audit.labels.polygons import CROSSES, FLAT, UNDECIDED, examine_shapes
from sightline.ops import rle

RINGS = pl.List(pl.List(pl.Float64))


def examine(*polygons: list[list[float]] | None) -> tuple[np.ndarray, list[int]]:
    series = pl.Series(polygons, dtype=RINGS)
    nothing = pl.Series([None] * len(polygons), dtype=pl.Binary)
    boxes, states = examine_shapes(series, nothing, np.full(len(polygons), 100))
    return boxes, states.tolist()


def state(*points: tuple[float, float]) -> int:
    return examine([[float(v) for p in points for v in p]])[1][0]


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([(0, 0), (10, 0), (10, 10), (0, 10)], False),  # convex
        ([(0, 0), (10, 0), (10, 10), (5, 2), (0, 10)], False),  # concave
        ([(0, 0), (10, 10), (10, 0), (0, 10)], True),  # a bow tie
        ([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)], False),  # closed explicitly
        ([(0, 0), (10, 0), (10, 0), (10, 10), (0, 10)], False),  # a point given twice in a row
        ([(0, 0), (10, 0), (5, 5), (10, 10), (0, 10), (5, 5)], False),  # two loops that share a vertex
        ([(0, 0), (20, 0), (20, 10), (10, 10), (10, 0.2), (9, 0.2), (9, 10), (0, 10)], False),  # almost a touch
        ([(0, 0), (20, 0), (20, 10), (10, 10), (10, -0.4), (9, -0.4), (9, 10), (0, 10)], False),  # beyond by 0.4 px
        ([(0, 0), (20, 0), (20, 10), (10, 10), (10, -3), (9, -3), (9, 10), (0, 10)], True),  # beyond by 3 px
        ([(0, 0), (40, 0), (41, -1), (39, -1), (40, 0), (40, 40), (0, 40)], False),  # a nick at a corner
        ([(0, 0), (10, 0), (30, 5), (30, 0), (40, 0), (40, 10), (30, 10), (30, 5), (10, 0), (10, 10)], False),  # bridge
    ],
)
def test_crossing(points: list[tuple[float, float]], crosses: bool) -> None:
    assert state(*points) == (CROSSES if crosses else 0)
    assert state(*reversed(points)) == (CROSSES if crosses else 0)


def test_a_bridge_between_parts_that_cuts_an_edge_does_not_count() -> None:
    """The parts of a mask in one ring, as YOLO files need it: the way there is the way back."""
    left = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)]
    right = [(30, 0), (40, 0), (40, 10), (30, 10), (30, 0)]
    assert state(*left, *right) == 0
    assert state(*left, (40, 5), (40, 10), (30, 10), (30, 0), (40, 0), (40, 5)) == 0
    one_way = [(0, 0), (10, 0), (10, 10), (0, 10), (40, 5), (40, 10), (30, 10), (30, 0), (40, 0)]
    assert state(*one_way) == CROSSES


@given(st.integers(3, 60), st.integers(0, 10_000))
def test_a_ring_around_its_centre_never_crosses(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    if np.diff(np.append(angle, angle[0] + 2 * np.pi)).max() >= np.pi:
        return  # the centre is outside, and the ring may cross
    radius = rng.uniform(20, 100, count)
    assert state(*zip(np.cos(angle) * radius, np.sin(angle) * radius, strict=True)) == 0


def crosses_by_definition(ring: np.ndarray) -> bool:
    """Every pair of edges: does one part the other's ends by over half a pixel, and both loops have over 1 %?"""

    def side(a: np.ndarray, b: np.ndarray, p: np.ndarray) -> float:
        d = b - a
        return float(d[0] * (p - a)[1] - d[1] * (p - a)[0]) / float(np.hypot(*d))

    def area(points: np.ndarray) -> float:
        x, y = points[:, 0], points[:, 1]
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))

    n = len(ring)
    for i in range(n):
        for j in range(i + 2, n if i else n - 1):
            a, b, c, d = ring[i], ring[i + 1], ring[j], ring[(j + 1) % n]
            ends = side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)
            if ends[0] * ends[1] >= 0 or ends[2] * ends[3] >= 0 or min(map(abs, ends)) <= 0.5:
                continue
            meet = a + ends[2] / (ends[2] - ends[3]) * (b - a)
            loops = area(np.vstack([meet, ring[i + 1 : j + 1]])), area(np.vstack([ring[: i + 1], meet, ring[j + 1 :]]))
            if min(loops) > 0.01 * max(loops):
                return True
    return False


@given(st.integers(4, 24), st.integers(0, 100_000))
def test_agrees_with_the_definition(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 50 + rng.normal(0, 6, (count, 2))
    assert (state(*map(tuple, ring)) == CROSSES) == crosses_by_definition(ring)


def test_boxes_of_polygons_and_run_lengths() -> None:
    mask = np.zeros((100, 50), dtype=bool)
    mask[10:20, 5:9] = True
    polygons = pl.Series(
        [[[0.0, 1.0, 8.0, 1.0, 8.0, 4.0], [20.0, -3.0, 22.0, 0.0, 21.0, 9.0]], None, None, []], dtype=RINGS
    )
    codes = pl.Series([None, rle.encode(mask), rle.encode(np.zeros((100, 50))), None], dtype=pl.Binary)
    boxes, states = examine_shapes(polygons, codes, np.full(4, 100))
    assert boxes[0].tolist() == [0, -3, 22, 9]
    assert boxes[1].tolist() == [5, 10, 9, 20]
    assert np.isnan(boxes[2:]).all()
    assert states.tolist() == [0, 0, 0, 0]


def test_odd_rings_do_no_harm() -> None:
    nan = float("nan")
    for ring in ([], [1.0], [nan] * 8):
        assert examine([ring])[1] == [0]
    flat = ([1.0, 2.0], [1.0, 2.0, 3.0], [5.0] * 10, [0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 9.0, 9.0])
    for ring in (*flat, [0.0, 0.0, 3.0, 4.0, 6.0, 8.0]):
        assert examine([ring])[1] == [FLAT]
        assert examine([ring, [0.0, 0.0, 9.0, 0.0, 9.0, 9.0]])[1] == [0]
    assert examine(None, None)[1] == [0, 0]


def test_a_hostile_ring_takes_bounded_time() -> None:
    teeth = np.arange(50_000)
    comb = np.stack([np.where(teeth % 2, 1e3, 0.0), teeth], axis=1)
    comb = np.vstack([comb, [[2e3, 5e4], [2e3, -5], [0, -5]]]) @ np.array([[0.7, 0.7], [-0.7, 0.7]])
    examine([[0.0, 0.0, 9.0, 0.0, 0.0, 9.0, 5.0, 5.0]])  # compile
    begin = time.perf_counter()
    assert examine([comb.ravel().tolist()])[1] == [UNDECIDED]
    assert time.perf_counter() - begin < 10
