"""Oriented boxes: corners and back, exact overlap against cutting along lines and counting, suppression, seams."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import ConfigError
from sightline.core.metadata import OperatingPoint
from sightline.ops.oriented import box_corners, canonical, clip_corners, fit_boxes, oriented_iou, upright
from sightline.ops.suppression import nms, suppress
from sightline.ops.tiles import keep_at_seams

numbers = st.floats(-1e4, 1e4, allow_nan=False)
sides = st.floats(0.1, 1e3, allow_nan=False)
boxes = st.tuples(numbers, numbers, sides, sides, st.floats(-20, 20, allow_nan=False))


def same_corners(a, b):
    """The greatest distance from a corner of one to the nearest of the other."""
    gaps = np.abs(a[:, None] - b[None]).max(-1)
    return max(gaps.min(0).max(), gaps.min(1).max())


@settings(max_examples=200, deadline=None)
@given(boxes)
def test_corners_and_boxes_are_the_same_thing(box):
    corners = box_corners([box])[0]
    told = canonical([box])[0]
    assert 0 <= told[4] < np.pi / 2
    assert told[2] * told[3] == pytest.approx(box[2] * box[3])
    assert same_corners(box_corners([told])[0], corners) < 1e-7
    fitted = fit_boxes(corners[None])[0]
    assert same_corners(box_corners([fitted])[0], corners) < 1e-6
    assert fitted[2] * fitted[3] == pytest.approx(box[2] * box[3], rel=1e-6)


def test_the_convention():
    """Clockwise as seen: w from (10, 20) along 30 degrees goes right and down."""
    corners = box_corners([[10, 20, 8, 2, np.pi / 6]])[0]
    assert corners[1] - corners[0] == pytest.approx([8 * np.cos(np.pi / 6), 4])
    assert corners[3] - corners[0] == pytest.approx([-1, 2 * np.cos(np.pi / 6)])
    assert canonical([[0, 0, 3, 7, 0]]).tolist() == [[0, 0, 3, 7, 0]]
    assert canonical([[0, 0, 3, 7, np.pi / 2]]).tolist() == [[0, 0, 7, 3, 0]]
    assert canonical([[0, 0, 3, 7, -1e-18]])[0, 4] == 0
    assert upright(corners[None])[0] == pytest.approx([*corners.min(0), *corners.max(0)])


def test_overlap_is_that_of_opencv_and_of_counted_points():
    rng = np.random.default_rng(0)
    a, b = (
        np.column_stack([rng.uniform(20, 40, (20, 2)), rng.uniform(4, 30, (20, 2)), rng.uniform(0, 3, 20)])
        for _ in "ab"
    )
    b[:5] = a[:5]  # equal ones, and one inside the other
    b[5, :2], b[5, 2:4], b[5, 4] = a[5, :2], a[5, 2:4] / 2, a[5, 4]
    got = oriented_iou(a, b)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            pair = [
                ((float(x), float(y)), (float(w), float(h)), float(np.degrees(t))) for x, y, w, h, t in (one, other)
            ]
            _, ring = cv2.rotatedRectangleIntersection(*pair)
            common = 0.0 if ring is None or len(ring) < 3 else cv2.contourArea(cv2.convexHull(ring))
            assert got[i, j] == pytest.approx(common / (one[2] * one[3] + other[2] * other[3] - common), abs=1e-4)
    assert np.diag(got)[:5] == pytest.approx(1)
    assert got[5, 5] == pytest.approx(0.25)
    points = rng.uniform(0, 60, (200_000, 2))
    inside = [inside_of(points, box) for box in (a[7], b[7])]
    counted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert got[7, 7] == pytest.approx(counted, abs=0.02)


def inside_of(points, box):
    x, y = (points - box[:2]).T
    cos, sin = np.cos(box[4]), np.sin(box[4])
    return (np.abs(x * cos + y * sin) <= box[2] / 2) & (np.abs(y * cos - x * sin) <= box[3] / 2)


def test_upright_boxes_and_far_ones_lose_no_digits():
    unit = [[0.5, 0.5, 1, 1, 0]]
    assert oriented_iou(unit, [[1, 0.5, 1, 1, 0]])[0, 0] == pytest.approx(1 / 3)
    assert oriented_iou(unit, [[1.5, 0.5, 1, 1, 0]])[0, 0] == 0, "they touch"
    far = np.array([[1e5, 1e5, 20, 5, 0.3]])
    assert oriented_iou(far, far)[0, 0] == pytest.approx(1, abs=1e-9)


def test_what_leaves_the_image_is_cut_and_fitted_again():
    inside, across, gone = [10, 10, 8, 4, 0.5], [0, 10, 10, 4, 0], [-50, -50, 10, 4, 0.4]
    corners = box_corners([inside, across, gone])
    cut = clip_corners(corners, (40, 40))
    assert np.array_equal(cut[0], corners[0])
    assert fit_boxes(cut[1:2])[0] == pytest.approx([2.5, 10, 5, 4, 0])
    assert not cut[2].any()


def test_thin_neighbours_side_by_side_stay_where_their_upright_boxes_overlap():
    """Two ships at 45 degrees: the upright boxes have IoU 0.6, the ships none."""
    ships = np.array([[50, 50, 60, 6, np.pi / 4], [56, 44, 60, 6, np.pi / 4], [50.5, 50.5, 60, 6, np.pi / 4]])
    corners, scores = box_corners(ships), [0.9, 0.8, 0.7]
    assert nms(upright(corners), scores, [0, 0, 0], 0.5, 10).tolist() == [0]
    assert nms(corners, scores, [0, 0, 0], 0.5, 10).tolist() == [0, 1]
    assert suppress(corners, scores, [0, 0, 1], OperatingPoint(iou=0.5))[0].tolist() == [0, 1, 2]
    kept, decayed = suppress(corners, scores, [0, 0, 0], OperatingPoint(conf=0.01, suppression="soft-gaussian"))
    assert kept.tolist() == [0, 1, 2]
    assert decayed[1] == 0.8
    assert decayed[2] < 0.7
    with pytest.raises(ConfigError, match="must be one by overlap, got diou"):
        suppress(corners, scores, [0, 0, 0], OperatingPoint(suppression="diou"))
    gone = box_corners([[*box[:2] + 200 * (n % 7 + 1), *box[2:]] for n, box in enumerate(np.tile(ships, (30, 1)))])
    many = np.concatenate([gone, corners])  # so many that what is left is moved together on the way
    low = [*np.linspace(0.012, 0.011, 90), *scores]
    kept, decayed = suppress(many, low, [0] * 93, OperatingPoint(conf=0.01, suppression="soft-linear", iou=0.4))
    first = suppress(corners, scores, [0] * 3, OperatingPoint(conf=0.01, suppression="soft-linear", iou=0.4))
    assert (kept[:3] - 90).tolist() == first[0].tolist()
    assert decayed[:3].tolist() == first[1].tolist()
    seen = {"tiles": [0, 1, 1], "cut": [False] * 3}
    assert keep_at_seams(corners, scores, [0, 0, 0], **seen).tolist() == [0, 1]
    assert keep_at_seams(upright(corners), scores, [0, 0, 0], **seen).tolist() == [0]
