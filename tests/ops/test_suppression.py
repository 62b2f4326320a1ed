"""Suppression equals a plain greedy loop, on random boxes with ties, classes and a cap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.ops import iou_matrix, nms


def plain_nms(boxes, scores, class_ids, threshold, max_det):
    overlap = iou_matrix(boxes, boxes)
    kept = []
    for i in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        if len(kept) < max_det and all(class_ids[i] != class_ids[k] or overlap[i, k] <= threshold for k in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.integers(0, 12))
def test_equals_the_plain_loop(seed, count, threshold, max_det):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, (count, 2))], axis=1).astype(float)
    scores = rng.integers(0, 6, count) / 5
    class_ids = rng.integers(-1, 3, count) * 1000
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
