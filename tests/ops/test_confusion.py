"""Confusion counts equal a plain double loop; ignored elements never count; stray labels are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.ops import confusion_matrix


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.int64]))
def test_equals_the_plain_count(seed, dtype):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (9, 7)).astype(dtype)
    prediction = rng.integers(0, 4, (9, 7)).astype(dtype)
    truth[truth == 4] = 250
    expected = [[int(((truth == t) & (prediction == p)).sum()) for p in range(4)] for t in range(4)]
    got = confusion_matrix(truth, prediction, 4, ignore_values=(250,))
    assert got.dtype == np.int64
    assert got.tolist() == expected
    assert got.sum() == (truth != 250).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_an_ignored_class_takes_its_predictions_with_it(dtype):
    truth, prediction = np.array([0, 1, 1, 255], dtype), np.array([0, 0, 1, 77], dtype)
    assert confusion_matrix(truth, prediction, 2, (1, 255)).tolist() == [[1, 0], [0, 0]]


def test_stray_labels_and_shapes_are_named():
    for dtype in (np.uint8, np.int64):
        with pytest.raises(DataError, match=r"ground truth labels must be in 0..1 or ignored, got 7"):
            confusion_matrix(np.array([0, 7], dtype), np.array([0, 0], dtype), 2)
        with pytest.raises(DataError, match=r"prediction labels must be in 0..1 or ignored, got 2, 255"):
            confusion_matrix(np.array([0, 1, 9], dtype), np.array([255, 2, 0], dtype), 2, (9,))
    with pytest.raises(DataError, match=r"prediction labels must be in 0..1 or ignored, got -1, 9"):
        confusion_matrix(np.array([0, 1]), np.array([9, -1]), 2)
    with pytest.raises(DataError, match="shape"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
