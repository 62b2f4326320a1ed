"""Gated assignment equals exhaustive search over all partial matchings."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.ops import assign


def best_objective(cost, max_cost):
    """Smallest sum of cost - max_cost over all partial one-to-one matchings."""
    rows, cols = cost.shape
    best = 0.0
    for k in range(1, min(rows, cols) + 1):
        for chosen_rows in itertools.combinations(range(rows), k):
            for chosen_cols in itertools.permutations(range(cols), k):
                total = sum(cost[r, c] - max_cost for r, c in zip(chosen_rows, chosen_cols, strict=True))
                best = min(best, total)
    return best


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.4, 0.7, 2.0]))
def test_equals_exhaustive_search(seed, rows, cols, max_cost):
    rng = np.random.default_rng(seed)
    cost = rng.random((rows, cols))
    cost[rng.random((rows, cols)) < 0.2] = np.inf
    r, c = assign(cost, max_cost)
    assert len(set(r)) == len(r)
    assert len(set(c)) == len(c)
    assert r.tolist() == sorted(r)
    assert (cost[r, c] <= max_cost).all()
    assert (cost[r, c] - max_cost).sum() == pytest.approx(best_objective(cost, max_cost))


def test_an_expensive_pair_does_not_displace_a_cheap_one():
    # Minimising the plain sum over complete matchings would take the two 0.9 and lose the 0.1.
    r, c = assign([[0.1, 0.9], [0.9, 5.0]], 0.5)
    assert (r.tolist(), c.tolist()) == ([0], [0])


def test_bad_costs_are_refused():
    with pytest.raises(DataError, match="matrix"):
        assign([1.0, 2.0], 1.0)
    with pytest.raises(DataError, match="NaN"):
        assign([[np.nan]], 1.0)
    with pytest.raises(DataError, match="finite"):
        assign([[1.0]], np.inf)
