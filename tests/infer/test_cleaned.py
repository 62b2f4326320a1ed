"""Cleaned label maps: each step by hand, against SciPy, and on the way from the command line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sightline.core.errors import ConfigError
from sightline.infer import CleanedSegmenter, MapCleaning, TiledSegmenter
from sightline.ops.map_cleaning import clean_map
from sightline.testing import check_predictor

from .test_tiled_maps import picture, segmenter
from .test_tiles_and_fusion import bright


def scene():
    """Class 1: a square with a hole of 4 pixels and a hair of one; class 2: a speck of 2 pixels, a bar at the edge."""
    ids = np.zeros((40, 60), np.uint8)
    ids[10:25, 10:25] = 1
    ids[15:17, 15:17] = 0
    ids[18, 25:40] = 1
    ids[30, 50:52] = 2
    ids[36:40, 5:20] = 2
    return ids


def test_small_parts_and_holes_go_by_area():
    ids = scene()
    assert (clean_map(ids, MapCleaning(min_area=3)) != ids).sum() == 2
    filled = clean_map(ids, MapCleaning(holes=5))
    assert filled[15:17, 15:17].tolist() == [[1, 1], [1, 1]]
    assert (filled != ids).sum() == 4
    assert np.array_equal(clean_map(ids, MapCleaning(holes=4)), ids)
    assert np.array_equal(clean_map(ids, MapCleaning()), ids)


def test_opening_takes_hairs_and_edges_eat_nothing():
    opened = clean_map(scene(), MapCleaning(open=3))
    assert not opened[18, 26:40].any()
    assert (opened[36:40, 6:19] == 2).all()


def test_a_class_gains_background_alone():
    ids = np.zeros((20, 30), np.uint8)
    ids[5:15, 5:14], ids[5:15, 15:24], ids[9, 14] = 1, 1, 2
    closed = clean_map(ids, MapCleaning(close=5))
    assert closed[9, 14] == 2
    assert (closed[6:9, 14] == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30))
def test_areas_are_those_of_scipy(seed, holes, min_area):
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random((30, 41)), 1.2) > 0.5
    cleaned = clean_map(mask.astype(np.uint8), MapCleaning(holes=holes, min_area=min_area)) == 1
    inside = ndimage.binary_fill_holes(mask) & ~mask
    parts, _ = ndimage.label(inside)
    areas = np.bincount(parts.ravel())
    expected = mask | ((parts > 0) & (areas[parts] < holes))
    parts, _ = ndimage.label(expected, np.ones((3, 3)))
    areas = np.bincount(parts.ravel())
    expected &= areas[parts] >= min_area
    assert np.array_equal(cleaned, expected)


def test_a_cleaned_segmenter_is_a_predictor_and_says_how():
    cleaned = CleanedSegmenter(TiledSegmenter(segmenter()), MapCleaning(open=5, min_area=40))
    check_predictor(cleaned)
    assert cleaned.meta["cleaning"] == {"open": 5, "close": 0, "holes": 0, "min_area": 40}
    image = picture((150, 200))
    (found,), (before,) = cleaned(image), cleaned.inner(image)
    assert np.array_equal(found.class_ids, clean_map(before.class_ids, cleaned.cleaning))
    assert not np.array_equal(found.class_ids, before.class_ids)


def test_what_cannot_be_cleaned_is_refused():
    with pytest.raises(ConfigError, match="must be label maps"):
        CleanedSegmenter(bright(), MapCleaning(open=3))
    with pytest.raises(ConfigError, match="odd"):
        MapCleaning.load({"open": 4})
    with pytest.raises(ConfigError, match="min_area"):
        MapCleaning.load({"min_area": -1})
