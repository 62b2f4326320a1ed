"""Suppression equals a plain loop of its kind, on random boxes with ties, classes and a cap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.core.metadata import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.ops import diou_matrix, iou_matrix, nms, soft_nms
from sightline.ops.postprocess import CANDIDATE_LIMIT, evaluation_point, select_detections
from sightline.ops.suppression import suppress


def plain_nms(boxes, scores, class_ids, threshold, max_det, overlap_of=iou_matrix):
    overlap = overlap_of(boxes, boxes)
    kept = []
    for i in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        if len(kept) < max_det and all(class_ids[i] != class_ids[k] or overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return kept


def plain_soft_nms(boxes, scores, class_ids, decay, conf, max_det):
    overlap, scores = iou_matrix(boxes, boxes), np.array(scores, float)
    waiting, taken = set(range(len(boxes))), []
    while waiting and max(scores[k] for k in waiting) >= conf:
        best = max(sorted(waiting), key=lambda k: scores[k])
        waiting.remove(best)
        taken.append(best)
        for k in waiting:
            if class_ids[k] == class_ids[best]:
                scores[k] *= decay(overlap[best, k])
    return taken[:max_det], scores[taken[:max_det]]


def random_boxes(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 20, (count, 2))], axis=1).astype(float)
    return boxes, rng.integers(0, 6, count) / 5, rng.integers(-1, 3, count) * 1000


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.integers(0, 12))
def test_equals_the_plain_loop(seed, count, threshold, max_det):
    boxes, scores, class_ids = random_boxes(seed, count)
    boxes[:, 2:] -= np.random.default_rng(seed).integers(0, 2, (count, 2))  # boxes without area too
    got = nms(boxes, scores, class_ids, threshold, max_det)
    assert got.dtype == np.int64
    assert got.tolist() == plain_nms(boxes, scores, class_ids, threshold, max_det)


def test_equal_boxes_of_other_classes_survive_and_ties_keep_their_order():
    boxes = np.tile([[0.0, 0, 10, 10]], (4, 1))
    assert nms(boxes, [0.5, 0.5, 0.5, 0.9], [1, 0, 1, 1], 0.5, 10).tolist() == [3, 1]
    assert nms(boxes, [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0], 0.5, 10).tolist() == [0]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="one entry per box"):
        nms([[0, 0, 1, 1]], [0.5, 0.4], [0], 0.5, 10)
    with pytest.raises(DataError, match="NaN"):
        nms([[0, 0, 1, 1]], [np.nan], [0], 0.5, 10)


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7]), st.integers(1, 12))
def test_other_ways_equal_their_plain_loops(seed, count, threshold, max_det):
    boxes, scores, class_ids = random_boxes(seed, count)
    point = OperatingPoint(iou=threshold, max_det=max_det, conf=0)
    same = np.zeros(count, int)
    expected = {
        "agnostic": plain_nms(boxes, scores, same, threshold, max_det),
        "diou": plain_nms(boxes, scores, class_ids, threshold, max_det, diou_matrix),
        "none": np.argsort(-scores, kind="stable")[:max_det].tolist(),
    }
    for method, kept in expected.items():
        got = suppress(boxes, scores, class_ids, point.model_copy(update={"suppression": method}))
        assert got[0].tolist() == kept, method
        assert got[1].tolist() == scores[kept].tolist(), method


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([0.1, 0.3, 0.5]), st.integers(1, 12))
def test_soft_nms_equals_its_plain_loop(seed, count, threshold, max_det):
    boxes, _, class_ids = random_boxes(seed, count)
    scores = np.random.default_rng(seed).permutation(count) / max(1, count)
    for iou_threshold, decay in (
        (threshold, lambda iou: 1 - iou if iou > threshold else 1),
        (None, lambda iou: np.exp(-(iou**2) / 0.5)),
    ):
        kept, decayed = soft_nms(
            boxes, scores, class_ids, iou_threshold=iou_threshold, sigma=0.5, conf=0.05, max_det=max_det
        )
        plain, plain_scores = plain_soft_nms(boxes, scores, class_ids, decay, 0.05, max_det)
        np.testing.assert_allclose(decayed, plain_scores, atol=1e-12)
        if len(np.unique(np.round(plain_scores, 12))) == len(plain):  # among equals the order is free
            assert kept.tolist() == plain


def test_least_scores_by_size_hold_in_image_pixels():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 60, 60], [0, 0, 200, 200]], np.float32)
    geometry = Preprocess(size_hw=(320, 320)).geometry((640, 640))  # everything is twice as large in the image
    point = OperatingPoint(conf=0.1, iou=1, conf_by_size=(0.2, 0.4, 0.6))
    scores = np.array([[0.25], [0.5], [0.5]], np.float32)
    kept = select_detections(boxes, scores, point, geometry)
    assert kept.scores.tolist() == [0.25], "120 px is large there, and so is 400"
    assert evaluation_point(point).conf_by_size is None


def test_candidates_beyond_the_limit_are_counted():
    boxes = np.tile([[0, 0, 9, 9]], (CANDIDATE_LIMIT + 5, 1)).astype(np.float32)
    scores = np.full((len(boxes), 1), 0.5, np.float32)
    kept = select_detections(boxes, scores, OperatingPoint(), Preprocess(size_hw=(32, 32)).geometry((32, 32)))
    assert (kept.left_out, len(kept.scores)) == (5, 1)
