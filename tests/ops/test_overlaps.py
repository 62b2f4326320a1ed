"""Shared pixels of two maps by plain counting; maps of masks; ids that are none."""

import numpy as np
import pytest

from sightline.core.errors import DataError
from sightline.ops import rle
from sightline.ops.overlaps import overlaps_of, segment_map


@pytest.mark.parametrize(("seed", "most", "dtype"), [(0, 6, np.uint8), (1, 90, np.int64), (2, 1 << 24, np.uint32)])
def test_pairs_are_counted(seed, most, dtype):
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, most, (40, 45)).astype(dtype) for _ in range(2))
    first[:, :20], second[10:] = first[0, 0], second[0, 0]
    ids = [rng.permutation(np.setdiff1d(np.unique(m), [0])).astype(np.int64) for m in (first, second)]
    ids = [listed[len(listed) // 3 :] for listed in ids]
    wanted = {}
    for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
        places = [listed.tolist().index(v) if v in listed else len(listed) + (v > 0)
                  for v, listed in zip((a, b), ids, strict=True)]  # fmt: skip
        wanted[tuple(places)] = wanted.get(tuple(places), 0) + 1
    for pair in ((first, second), (np.asfortranarray(first), np.asfortranarray(second))):
        got = overlaps_of(*pair, *ids)
        keys = list(zip(got.rows.tolist(), got.columns.tolist(), strict=True))
        assert dict(zip(keys, got.pixels.tolist(), strict=True)) == wanted
        assert keys == sorted(keys)


def test_masks_make_a_map_and_overlaps_are_counted():
    masks = np.zeros((3, 5, 7), bool)
    masks[0, :2, :3], masks[1, 3:, 4:], masks[2, 1:4, 2:5] = True, True, True
    ids, covered = segment_map([rle.encode(mask) for mask in masks], (5, 7))
    assert np.array_equal(ids, np.max(masks * np.array([1, 2, 3])[:, None, None], axis=0))
    assert covered == 2
    with pytest.raises(DataError):
        segment_map([rle.encode(masks[0])], (5, 8))


def test_other_ids_are_refused():
    ids = np.array([[0, 3]])
    assert overlaps_of(ids[:0], ids[:0], [3], [3]).pixels.tolist() == []
    for wrong in ([0], [3, 3], [1 << 31]):
        with pytest.raises(DataError, match="once each"):
            overlaps_of(ids, ids, wrong, [3])
    with pytest.raises(DataError, match="ids of a map"):
        overlaps_of(ids - 1, ids, [3], [3])
    with pytest.raises(DataError, match="one shape"):
        overlaps_of(ids, ids.T, [3], [3])
