"""Pairing: the shortcut for isolated pairs must not change the optimum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from sightline.track.association import match


@given(
    shape=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    seed=st.integers(0, 2**20),
    min_iou=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    density=st.floats(0, 1),
)
def test_total_gain_equals_the_dense_optimum(shape: tuple[int, int], seed: int, min_iou: float, density: float) -> None:
    rng = np.random.default_rng(seed)
    iou = rng.random(shape) * (rng.random(shape) < density)
    rows, columns = match(iou, np.arange(shape[0]), np.arange(shape[1]), min_iou)
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(columns.tolist())) == len(columns)
    assert (iou[rows, columns] >= min_iou).all()
    assert (iou[rows, columns] > 0).all()
    # SciPy 1.x over the whole matrix, an unmatched pair worth nothing.
    gain = np.where(iou >= min_iou, iou - min_iou, 0.0)
    best = linear_sum_assignment(gain, maximize=True)
    assert (iou[rows, columns] - min_iou).sum() == pytest.approx(gain[best].sum(), abs=1e-9)


def test_only_the_given_rows_and_columns_are_paired() -> None:
    iou = np.full((3, 4), 0.9)
    rows, columns = match(iou, np.array([2]), np.array([1, 3]), 0.5)
    assert rows.tolist() == [2]
    assert columns.tolist() in ([1], [3])
