"""Curves, views and the area kernels that labels rest on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sightline.synth.kernels import add_convex, tapered_stroke
from sightline.synth.plane import View, fillet, ribbon, rounded_rectangle, straight, winding

ANGLES = st.floats(-np.pi, np.pi)
PLACES = st.floats(-50.0, 50.0)


def polygon_area(points):
    x, y = points.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


@given(ANGLES, PLACES, PLACES, st.floats(2.0, 20.0), st.integers(0, 64), PLACES, PLACES)
def test_canvas_and_world_are_inverse(angle, cx, cy, px_per_m, border, x, y):
    view = View((320, 480), px_per_m, angle, (cx, cy), border)
    point = np.array([[x, y], [cx, cy]])
    assert_allclose(view.to_world(view.to_canvas(point)), point, atol=1e-9)


def test_the_view_centre_is_the_middle_of_the_canvas_and_scale_counts_canvas_pixels():
    view = View((320, 480), 8.0, 0.3, (5.0, -2.0))
    assert_allclose(view.to_canvas([5.0, -2.0]), (480, 320))
    assert np.hypot(*(view.to_canvas([6.0, -2.0]) - view.to_canvas([5.0, -2.0]))) == pytest.approx(16.0)
    bordered = view.with_border(64).to_canvas([7.0, 1.0])
    assert_allclose(bordered, view.to_canvas([7.0, 1.0]) + 64)


def test_the_world_grid_is_the_world_place_of_every_canvas_pixel_centre():
    view = View((64, 80), 4.0, 0.7, (3.0, 1.0))
    x, y = view.world_grid()
    assert_allclose((x[10, 33], y[10, 33]), view.to_world([33.5, 10.5]), atol=1e-5)


@given(ANGLES, st.floats(20.0, 40.0), st.floats(20.0, 40.0), st.floats(3.0, 25.0), st.floats(3.0, 12.0))
def test_convex_coverage_sums_to_the_area(angle, x, y, length, width):
    box = rounded_rectangle(-length / 2, -width / 2, length / 2, width / 2, (0.5, 1.0), (0.0, 0.3))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = box @ turn + (x, y)
    coverage = np.zeros((64, 64), dtype=np.float32)
    add_convex(coverage, points, 16)
    assert coverage.max() <= 1.0 + 1e-5
    assert coverage.sum(dtype=np.float64) == pytest.approx(polygon_area(points), rel=0.01)


def test_convex_coverage_of_a_rectangle_is_exact_and_clipped():
    coverage = np.zeros((4, 6), dtype=np.float32)
    add_convex(coverage, np.array([(-3.0, 1.0), (2.25, 1.0), (2.25, 2.5), (-3.0, 2.5)]), 4)
    assert_allclose(coverage[1], [1, 1, 0.25, 0, 0, 0])
    assert_allclose(coverage[2], [0.5, 0.5, 0.125, 0, 0, 0])
    assert coverage[[0, 3]].sum() == 0


def test_outlines_are_convex():
    points = rounded_rectangle(-2, -1, 2, 1, (0.3, 0.5), (0.05, 0.1))
    steps = np.roll(points, -1, axis=0) - points
    steps = steps[np.hypot(*steps.T) > 1e-9]
    following = np.roll(steps, -1, axis=0)
    turns = steps[:, 0] * following[:, 1] - steps[:, 1] * following[:, 0]
    assert (turns >= -1e-9).all() or (turns <= 1e-9).all()


@given(st.floats(0.4, 2.7), ANGLES, st.floats(1.0, 8.0))
def test_a_fillet_touches_both_lines(opening, turn, radius):
    a = np.array([np.cos(turn), np.sin(turn)])
    b = np.array([np.cos(turn + opening), np.sin(turn + opening)])
    corner = np.array([3.0, -4.0])
    arc = fillet(corner, a, b, radius)
    tangent = radius / np.tan(opening / 2)
    assert_allclose(arc[0], corner + a * tangent, atol=1e-6)
    assert_allclose(arc[-1], corner + b * tangent, atol=1e-6)
    first = arc[1] - arc[0]
    assert float(first @ a) < 0  # leaves along the line towards the corner


def test_right_is_clockwise_in_the_picture():
    east = straight((0, 0), (10, 0))
    assert_allclose(east.offset(2.0).points[0], (0, 2))
    assert_allclose(east.reversed().offset(2.0).points[0], (10, -2))


def test_a_winding_path_keeps_its_length_and_offsets_keep_their_distance():
    path = winding(60.0, np.array([0.0, 0.02, 0.02, -0.02, 0.0]))
    assert path.length_m == pytest.approx(60.0, abs=0.5)
    aside = path.offset(3.0)
    distance = np.hypot(*(aside.points[:, None] - path.points[None]).transpose(2, 0, 1)).min(axis=1)
    assert_allclose(distance, 3.0, atol=0.05)


def test_positions_extend_straight_beyond_both_ends():
    path = straight((0, 0), (10, 0))
    assert_allclose(path.at([-2.0, 4.0, 13.0]), [(-2, 0), (4, 0), (13, 0)])


def test_a_ribbon_has_its_width():
    assert polygon_area(ribbon(straight((0, 0), (10, 0)), 2.5)) == pytest.approx(25.0)
    assert polygon_area(ribbon(straight((0, 0), (10, 0)), 2.0, 3.0, 5.0)) == pytest.approx(4.0)


def test_a_stroke_marks_exactly_the_samples_nearer_than_its_radius():
    points, radii = np.array([(5.3, 7.1), (20.2, 12.4), (26.0, 30.0)]), np.array([1.2, 3.0, 2.0])
    inside = np.zeros((36, 32), dtype=np.bool_)
    depth = np.zeros(inside.shape, dtype=np.float32)
    tapered_stroke(inside, depth, points, radii, np.ones(3))
    y, x = np.mgrid[0:36, 0:32] + 0.5
    expected = np.zeros_like(inside)
    for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        along = b - a
        t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / (along @ along), 0, 1)
        expected |= np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1]) < ra + t * (rb - ra)
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(depth > 0, expected)
