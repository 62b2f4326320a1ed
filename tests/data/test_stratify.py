"""Stratified division: amounts, balance against random, fixed units, and how little moves when units are added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sightline.data.splits.stratify import divide_units, label_imbalance

SHARES = np.array([0.7, 0.2, 0.1])


def sample(units: int, labels: int, seed: int, groups: bool = False):
    """Sizes and label counts as data sets have them: a few common labels, many rare ones, crowded images."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 40, units).astype(float) if groups else np.ones(units)
    common = 3 / np.arange(1, labels + 1) ** 1.3
    counts = rng.poisson(common * rng.gamma(0.7, 1, (units, 1)) * sizes[:, None]).astype(float)
    return sizes, csr_array(counts)


@given(units=st.integers(3, 200), labels=st.integers(0, 12), seed=st.integers(0, 200), groups=st.booleans())
def test_every_unit_has_a_share_and_every_share_a_unit(units: int, labels: int, seed: int, groups: bool) -> None:
    sizes, counts = sample(units, labels, seed, groups)
    slots = divide_units(sizes, counts, SHARES)
    assert set(slots.tolist()) == {0, 1, 2}
    again = divide_units(sizes, counts, SHARES)
    assert slots.tolist() == again.tolist()
    assert 0 <= label_imbalance(sizes, counts, SHARES, slots) <= 1


@given(units=st.integers(20, 300), seed=st.integers(0, 100))
def test_a_single_label_is_met_to_half_a_unit(units: int, seed: int) -> None:
    has = (np.random.default_rng(seed).random(units) < 0.4).astype(float)
    slots = divide_units(np.ones(units), csr_array(has[:, None]), np.array([0.75, 0.25]))
    for j, share in enumerate((0.75, 0.25)):
        assert abs(has[slots == j].sum() - share * has.sum()) <= 1
        assert abs((slots == j).sum() - share * units) <= 2


@pytest.mark.parametrize(
    ("units", "labels", "groups", "factor"), [(100, 5, False, 3), (1000, 20, False, 3), (40, 8, True, 2)]
)
def test_the_balance_beats_random_by_far(units: int, labels: int, groups: bool, factor: float) -> None:
    ours, random = [], []
    for seed in range(10):
        sizes, counts = sample(units, labels, seed, groups)
        ours.append(label_imbalance(sizes, counts, SHARES, divide_units(sizes, counts, SHARES)))
        plain = divide_units(sizes, csr_array((units, 0)), SHARES)
        random.append(label_imbalance(sizes, counts, SHARES, plain))
    assert np.mean(ours) * factor < np.mean(random)


@given(seed=st.integers(0, 200), known=st.integers(1, 60))
def test_fixed_units_stay(seed: int, known: int) -> None:
    sizes, counts = sample(60, 4, seed)
    fixed = np.full(60, -1)
    fixed[:known] = np.random.default_rng(seed).integers(0, 3, known)
    slots = divide_units(sizes, counts, SHARES, fixed)
    assert (slots[:known] == fixed[:known]).all()
    assert (slots >= 0).all()


def test_new_units_make_up_for_what_the_fixed_ones_lack() -> None:
    sizes, counts = np.ones(100), csr_array(np.ones((100, 1)))
    fixed = np.where(np.arange(100) < 50, 0, -1)
    slots = divide_units(sizes, counts, np.array([0.5, 0.5]), fixed)
    assert (slots == 1).sum() == 50


@pytest.mark.parametrize(("units", "most"), [(300, 0.2), (3000, 0.1)])
def test_little_moves_when_a_tenth_is_added(units: int, most: float) -> None:
    """A division made anew would leave 0.7² + 0.2² + 0.1² = 54 % of the units where they were."""
    moved = []
    for seed in range(5):
        sizes, counts = sample(units, 8, seed)
        kept = np.sort(np.random.default_rng(seed).choice(units, int(units / 1.1), replace=False))
        after, before = divide_units(sizes, counts, SHARES), divide_units(sizes[kept], counts[kept], SHARES)
        moved.append((after[kept] != before).mean())
    assert np.mean(moved) < most


def test_label_imbalance_is_the_share_in_the_wrong_place() -> None:
    sizes, counts = np.ones(4), csr_array(np.array([[1.0], [1], [0], [0]]))
    halves = np.array([0.5, 0.5])
    assert label_imbalance(sizes, counts, halves, np.array([0, 1, 0, 1])) == 0
    assert label_imbalance(sizes, counts, halves, np.array([0, 0, 1, 1])) == pytest.approx(0.25)
