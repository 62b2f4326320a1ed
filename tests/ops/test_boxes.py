"""Boxes: conversions have inverses, the IoU family equals the published formulas and pycocotools 2.0.11."""

import math

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sightline.core.errors import DataError
from sightline.ops import (
    box_area,
    ciou_matrix,
    clip_boxes,
    cxcywh_to_xyxy,
    diou_matrix,
    giou_matrix,
    iou_matrix,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from sightline.ops.boxes import grouped_iou, paired_iou

quarters = st.integers(-4000, 4000).map(lambda n: n / 4)
lengths = st.integers(1, 2000).map(lambda n: n / 4)
boxes_xywh = st.lists(st.tuples(quarters, quarters, lengths, lengths), max_size=6).map(
    lambda rows: np.array(rows, dtype=float).reshape(-1, 4)
)


def plain_measures(a, b):
    """IoU, GIoU, DIoU and CIoU of two boxes, written from the papers' formulas one box at a time."""
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    wa, ha, wb, hb = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    union = wa * ha + wb * hb - inter
    iou = inter / union
    cw, ch = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    giou = iou - (cw * ch - union) / (cw * ch)
    centre_a, centre_b = ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
    diou = iou - math.dist(centre_a, centre_b) ** 2 / (cw**2 + ch**2)
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou, giou, diou, diou - alpha * v


@given(boxes_xywh)
def test_conversions_are_inverses(boxes):
    xyxy = xywh_to_xyxy(boxes)
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), boxes)
    np.testing.assert_array_equal(cxcywh_to_xyxy(xyxy_to_cxcywh(xyxy)), xyxy)
    np.testing.assert_array_equal(box_area(xyxy), boxes[:, 2] * boxes[:, 3])


@given(boxes_xywh, boxes_xywh)
def test_overlaps_equal_the_plain_formulas(a, b):
    a, b = xywh_to_xyxy(a), xywh_to_xyxy(b)
    expected = np.array([[plain_measures(x, y) for y in b] for x in a]).reshape(len(a), len(b), 4)
    for k, measure in enumerate((iou_matrix, giou_matrix, diou_matrix, ciou_matrix)):
        np.testing.assert_allclose(measure(a, b), expected[..., k], atol=1e-12)
        np.testing.assert_allclose(measure(a, b), measure(b, a).T, atol=1e-12)


@given(boxes_xywh, boxes_xywh, st.integers(0, 2**6 - 1))
def test_iou_equals_pycocotools_with_and_without_crowd(a, b, bits):
    crowd = np.array([bits >> k & 1 for k in range(len(b))], dtype=np.uint8)
    expected = np.asarray(coco_mask.iou(a, b, crowd)).reshape(len(a), len(b)) if len(a) and len(b) else None
    got = iou_matrix(xywh_to_xyxy(a), xywh_to_xyxy(b), crowd)
    assert got.shape == (len(a), len(b))
    if expected is not None:
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=0)


@given(boxes_xywh)
def test_a_box_matches_itself(boxes):
    xyxy = xywh_to_xyxy(boxes)
    for measure in (iou_matrix, giou_matrix, diou_matrix, ciou_matrix):
        np.testing.assert_allclose(np.diag(measure(xyxy, xyxy)), 1.0)


@given(boxes_xywh, boxes_xywh)
def test_paired_overlaps_are_the_diagonal_of_the_matrix(a, b):
    count = min(len(a), len(b))
    first, second = xywh_to_xyxy(a[:count]), xywh_to_xyxy(b[:count])
    np.testing.assert_allclose(paired_iou(first, second), np.diag(iou_matrix(first, second)), atol=1e-15)


def test_paired_overlaps_of_flat_boxes_and_unlike_counts():
    flat, box = [[1.0, 1.0, 1.0, 3.0], [3.0, 3.0, 1.0, 1.0]], [[0.0, 0.0, 4.0, 4.0]] * 2
    np.testing.assert_array_equal(paired_iou(flat, box), [0.0, 0.0])
    with pytest.raises(DataError, match="as many as boxes_a_xyxy, 2, got 1"):
        paired_iou(flat, box[:1])


@given(st.lists(st.tuples(boxes_xywh, boxes_xywh), max_size=4))
def test_overlaps_of_groups_are_the_matrices_of_each(groups):
    first, second = ([xywh_to_xyxy(group[side]) for group in groups] for side in (0, 1))
    crowd = [np.arange(len(b)) % 2 == 0 for b in second]
    starts_a, starts_b = (np.cumsum([0, *map(len, side)]) for side in (first, second))
    joined = [np.concatenate([np.zeros((0, 4)), *side]) for side in (first, second)]
    found = grouped_iou(joined[0], starts_a, joined[1], starts_b, np.concatenate([np.zeros(0, bool), *crowd]))
    expected = [iou_matrix(a, b, c).reshape(-1) for a, b, c in zip(first, second, crowd, strict=True)]
    np.testing.assert_array_equal(found, np.concatenate([np.zeros(0), *expected]))


def test_degenerate_boxes_have_no_area_and_no_overlap():
    flat = np.array([[5.0, 5, 5, 9], [5, 5, 2, 2], [3, 3, 3, 3]])
    around = np.array([[0.0, 0, 10, 10]])
    np.testing.assert_array_equal(box_area(flat), 0)
    np.testing.assert_array_equal(iou_matrix(flat, around), 0)
    np.testing.assert_array_equal(iou_matrix(flat, flat), 0)
    for measure in (giou_matrix, diou_matrix, ciou_matrix):
        assert np.isfinite(measure(flat, flat)).all()


@given(arrays(np.float64, (4, 4), elements=st.floats(-1e4, 1e4)))
def test_clipping_stays_inside_and_is_idempotent(boxes):
    clipped = clip_boxes(boxes, (30, 50))
    assert clipped.shape == boxes.shape
    assert clipped.min() >= 0
    assert clipped[:, ::2].max() <= 50
    assert clipped[:, 1::2].max() <= 30
    np.testing.assert_array_equal(clip_boxes(clipped, (30, 50)), clipped)


def test_wrong_shapes_are_named():
    with pytest.raises(DataError, match=r"boxes_xyxy must have the shape \(N, 4\), got \(4,\)"):
        box_area([0, 0, 1, 1])
    with pytest.raises(DataError, match="crowd_b"):
        iou_matrix([[0, 0, 1, 1]], [[0, 0, 1, 1]], [True, False])
    assert iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)
