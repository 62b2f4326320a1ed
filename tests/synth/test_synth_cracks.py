"""Cracked surfaces: reproducible, sparse, darker than what is around them, continuous."""

import cv2
import numpy as np
import pytest

from sightline.synth import render_cracks

SIZE = (192, 256)


@pytest.fixture(scope="module")
def pictures():
    return [render_cracks(np.random.default_rng([2, seed]), SIZE) for seed in range(12)]


def test_the_same_seed_gives_the_same_bytes(pictures):
    again = render_cracks(np.random.default_rng([2, 0]), SIZE)
    assert again.image.tobytes() == pictures[0].image.tobytes()
    np.testing.assert_array_equal(again.mask, pictures[0].mask)
    assert (pictures[1].mask != pictures[0].mask).any()


def test_one_to_three_per_cent_are_crack(pictures):
    fractions = [picture.mask.mean() for picture in pictures]
    assert min(fractions) >= 0.008
    assert max(fractions) <= 0.03
    assert max(fractions) - min(fractions) > 0.004


def test_types_and_sizes(pictures):
    for picture in pictures:
        assert picture.image.shape == (*SIZE, 3)
        assert picture.image.dtype == np.uint8
        assert picture.mask.shape == SIZE
        assert picture.mask.dtype == np.bool_


def test_cracks_are_darker_than_their_surroundings(pictures):
    for picture in pictures:
        gray = picture.image.mean(axis=2)
        near = cv2.dilate(picture.mask.astype(np.uint8), np.ones((9, 9))) - cv2.dilate(
            picture.mask.astype(np.uint8), np.ones((5, 5))
        )
        assert gray[picture.mask].mean() < 0.88 * gray[near > 0].mean()


def test_the_mask_lies_on_the_dark_line_and_not_beside_it(pictures):
    """Shifting the mask by three pixels in any direction must lose darkness."""
    for picture in pictures:
        gray = picture.image.mean(axis=2)
        here = gray[picture.mask].mean()
        for shift in ((0, 3), (3, 0), (0, -3), (-3, 0)):
            moved = np.roll(picture.mask, shift, axis=(0, 1))
            moved &= ~picture.mask
            assert here < gray[moved].mean()


def test_cracks_are_thin_curves_of_some_length(pictures):
    for picture in pictures:
        count, _, stats, _ = cv2.connectedComponentsWithStats(picture.mask.astype(np.uint8), connectivity=8)
        spans = np.maximum(stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT])
        assert count > 1
        assert spans.max() > 40
        thickness = 2 * cv2.distanceTransform(picture.mask.astype(np.uint8), cv2.DIST_L2, 5).max()
        assert thickness < 16
        assert np.median(stats[1:, cv2.CC_STAT_AREA][spans > 40] / spans[spans > 40]) < 8
