"""The search among hashes against comparing every pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from sightline.audit.duplicates import hamming
from sightline.audit.duplicates.groups import near_duplicates_by_embedding
from sightline.audit.duplicates.hamming import Components, hamming_components
from sightline.audit.scan.image_hash import symmetry_indices


@pytest.fixture(params=[0, 2000], ids=["by chunks", "each with each"])
def _few(request, monkeypatch):
    """Small sets are compared directly; the search by chunks must be tested on small sets too."""
    monkeypatch.setattr(hamming, "_FEW", request.param)


def every_pair(hashes: np.ndarray, radius: int) -> np.ndarray:
    variants = hashes.reshape(len(hashes), -1)
    bits = np.bitwise_count(variants[:, None, :] ^ variants[None, :, :1]).min(axis=2)
    near = (bits <= radius) | (bits <= radius).T
    return connected_components(near, directed=False)[1]


def assert_components(found: Components, hashes: np.ndarray, radius: int) -> None:
    expected = every_pair(hashes, radius)
    pairs = set(zip(found.labels.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(found.labels.tolist())) == len(set(expected.tolist()))
    assert found.labels.tolist() == hamming.in_order_of_appearance(found.labels).tolist()
    sizes = np.bincount(found.labels)[found.labels]
    assert np.array_equal(sizes > 1, found.partner >= 0)
    assert_witnesses(found, hashes, radius)


def assert_witnesses(found: Components, hashes: np.ndarray, radius: int) -> None:
    variants = hashes.reshape(len(hashes), -1)
    rows = np.flatnonzero(found.partner >= 0)
    partner, distance = found.partner[rows], found.distance[rows, None]
    assert (partner != rows).all()
    assert np.array_equal(found.labels[rows], found.labels[partner])
    assert (found.distance[rows] <= radius).all()
    # Some flip or turn of the one is that near to the other as it is.
    forth = np.bitwise_count(variants[rows] ^ variants[partner, :1])
    back = np.bitwise_count(variants[partner] ^ variants[rows, :1])
    assert ((forth == distance).any(axis=1) | (back == distance).any(axis=1)).all()
    assert (found.distance[found.partner < 0] == -1).all()


@pytest.mark.usefixtures("_few")
@given(data=st.data())
def test_components_are_those_of_every_pair(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count, radius = data.draw(st.integers(1, 120)), data.draw(st.integers(0, 15))
    columns = data.draw(st.sampled_from([1, 8]))
    centres = rng.integers(0, 2**64, max(count // 12, 1), dtype=np.uint64)
    hashes = centres[rng.integers(0, len(centres), (count, columns))]
    for _ in range(data.draw(st.integers(0, 12))):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, hashes.shape, dtype=np.uint64))
    hashes = hashes[:, 0] if columns == 1 else hashes
    assert_components(hamming_components(hashes, radius), hashes, radius)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("radius", range(16))
def test_the_radius_is_exact_wherever_the_bits_are(radius: int) -> None:
    """Pairs exactly at and just beyond the radius, the bits spread over the chunks in all ways."""
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2**64, 64, dtype=np.uint64)
    for bits in (radius, radius + 1):
        flips = [int(sum(1 << int(b) for b in rng.permutation(64)[:bits])) for _ in base]
        hashes = np.concatenate([base, base ^ np.array(flips, dtype=np.uint64)])
        assert_components(hamming_components(hashes, radius), hashes, radius)


def test_nothing_and_one() -> None:
    for shape in ((0,), (0, 8)):
        assert [len(v) for v in hamming_components(np.zeros(shape, dtype=np.uint64), 10)] == [0, 0, 0]
    assert hamming_components(np.zeros((1, 8), dtype=np.uint64), 10).partner.tolist() == [-1]
    assert len(near_duplicates_by_embedding(np.zeros((0, 3), np.float32), 0.5).labels) == 0


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    hashes = np.repeat(rng.integers(0, 2**64, 300, dtype=np.uint64), 20)
    hashes ^= np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64)
    one, four = (hamming_components(hashes, 6, workers=w) for w in (1, 4))
    for mine, theirs in zip(one, four, strict=True):
        assert np.array_equal(mine, theirs)


def test_masses_of_alike_hashes_are_one_component() -> None:
    rng = np.random.default_rng(0)
    equal = np.full(50_000, 7, dtype=np.uint64)
    assert hamming_components(equal, 0).labels.max() == 0
    near = np.full(50_000, 1 << 63, dtype=np.uint64)
    for _ in range(4):
        near ^= np.uint64(1) << rng.integers(0, 64, len(near), dtype=np.uint64)
    assert hamming_components(near, 10).labels.max() == 0


@pytest.mark.slow
def test_clusters_among_many() -> None:
    """As a video set gives them; the pairs would be forty million."""
    rng = np.random.default_rng(0)
    hashes = np.repeat(rng.integers(0, 2**64, 2000, dtype=np.uint64), 200)
    for _ in range(3):
        hashes ^= np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64)
    found = hamming_components(hashes, 10)
    assert np.array_equal(np.unique(found.labels.reshape(2000, 200), axis=1).shape, (2000, 1))


@pytest.mark.usefixtures("_few")
def test_the_second_check_and_its_turns() -> None:
    rng = np.random.default_rng(0)
    turns = symmetry_indices(4)
    picture = rng.integers(-127, 128, 16).astype(np.int8)
    details = np.stack([picture, picture[turns[5]], -picture, np.zeros(16, np.int8), np.zeros(16, np.int8)])
    hashes = rng.integers(0, 2**64, (5, 8), dtype=np.uint64)
    hashes[1, 0] = hashes[0, 5]  # 1 is 0 turned to the right
    hashes[2, 0] = hashes[0, 0]  # 2 has the hash of 0 and not its details
    hashes[4] = hashes[3]  # without any details nothing can be confirmed
    found = hamming_components(hashes, 0, details=details, turns=turns, min_cosine=0.9)
    assert found.labels.tolist() == [0, 0, 1, 2, 3]
    assert found.partner[:2].tolist() == [1, 0]
    assert hamming_components(hashes, 0).labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(("radius", "shape"), [(-1, (3,)), (16, (3,)), (4, (3, 2))])
def test_what_cannot_be_searched_is_refused(radius: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        hamming_components(np.zeros(shape, dtype=np.uint64), radius)


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(-0.5, 0.99))
def test_vectors_are_joined_as_by_every_pair(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 1, (count, 5)).astype(np.float32)
    vectors[rng.random(count) < 0.1] = 0
    found = near_duplicates_by_embedding(vectors, threshold)
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = np.where((lengths[:, None] > 0) & (lengths > 0), units @ units.T, -2)
    np.fill_diagonal(cosines, -2)
    # Values as near to the threshold as float32 rounds are left to chance.
    if np.abs(cosines - threshold).min() < 1e-5:
        return
    expected = connected_components(cosines >= threshold, directed=False)[1]
    pairs = set(zip(found.labels.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(found.labels.tolist())) == len(set(expected.tolist()))
    has = np.flatnonzero(found.partner >= 0)
    assert np.array_equal(found.partner >= 0, (cosines >= threshold).any(axis=1))
    assert cosines[has, found.partner[has]] == pytest.approx(cosines[has].max(axis=1), abs=1e-5)


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        near_duplicates_by_embedding(np.array([[np.nan, 1.0]], dtype=np.float32), 0.9)
