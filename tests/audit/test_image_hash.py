"""The hash against imagehash 4.3, and its flips and turns against hashing the really flipped and turned picture."""

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

from sightline.audit.scan.image_hash import (
    SYMMETRIES,
    THUMBNAIL,
    apply_symmetry,
    hash_thumbnails,
    hash_thumbnails_symmetric,
    shrink,
    symmetry_indices,
    thumbnail_details,
)
from sightline.audit.scan.statistics import COPY_SIDE, blockiness, measure_picture


def thumbnails(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    soft = [gaussian_filter(rng.normal(0, 1, (THUMBNAIL, THUMBNAIL)), s) * s for s in rng.uniform(0.5, 4, count)]
    return np.clip(np.stack(soft) * 200 + 128, 0, 255).astype(np.uint8)


def scene(seed: int = 0, size_hw: tuple[int, int] = (360, 640)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(0, s * 90, (*size_hw, 3)), (s, s, 0)) for s in (3, 9, 27)]
    return np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)


def test_the_hash_is_that_of_imagehash() -> None:
    pictures = thumbnails(200)
    theirs = [int(str(imagehash.phash(Image.fromarray(p))), 16) for p in pictures]
    assert hash_thumbnails(pictures).tolist() == theirs


@pytest.mark.parametrize("symmetry", range(8), ids=SYMMETRIES)
def test_all_hashes_follow_from_one_transform_without_error(symmetry: int) -> None:
    pictures = thumbnails(100)
    moved = np.stack([apply_symmetry(p, symmetry) for p in pictures])
    assert np.array_equal(hash_thumbnails_symmetric(pictures)[:, symmetry], hash_thumbnails(moved))
    assert np.array_equal(pictures.reshape(100, -1)[:, symmetry_indices()[symmetry]], moved.reshape(100, -1))


@pytest.mark.parametrize("symmetry", range(8), ids=SYMMETRIES)
def test_whole_pictures_that_are_flipped_and_turned(symmetry: int) -> None:
    """From the pixels on: the reduced copy and its thumbnail have no preferred side."""
    picture = scene(3, (211, 333))
    plain, moved = (measure_picture(np.ascontiguousarray(p))[0] for p in (picture, apply_symmetry(picture, symmetry)))
    expected = hash_thumbnails_symmetric(plain[None])[0, symmetry]
    assert int(np.bitwise_count(expected ^ hash_thumbnails(moved[None])[0])) <= 2  # a rounded value of the thumbnail


def test_names_of_the_turns() -> None:
    numbers = np.arange(6).reshape(2, 3)
    expected = {
        "as it is": numbers,
        "mirrored left to right": np.fliplr(numbers),
        "mirrored top to bottom": np.flipud(numbers),
        "turned by 180°": np.rot90(numbers, 2),
        "mirrored along its diagonal": numbers.T,
        "turned by 90° to the right": np.rot90(numbers, -1),
        "turned by 90° to the left": np.rot90(numbers, 1),
        "mirrored along its other diagonal": np.rot90(numbers, 2).T,
    }
    for symmetry, name in enumerate(SYMMETRIES):
        assert np.array_equal(apply_symmetry(numbers, symmetry), expected[name]), name


def test_a_picture_without_contrast_has_a_hash_without_noise() -> None:
    flat = np.stack([np.full((THUMBNAIL, THUMBNAIL), v, np.uint8) for v in (0, 1, 128, 255)])
    assert hash_thumbnails(flat).tolist() == [0, 1 << 63, 1 << 63, 1 << 63]
    details, strength = thumbnail_details(flat)
    assert not details.any()
    assert strength == pytest.approx(0, abs=1e-4)


def test_what_keeps_the_hash_near_and_what_does_not() -> None:
    pictures = [Image.fromarray(scene(seed)) for seed in range(6)]
    plain = hash_thumbnails(np.stack([measure_picture(np.asarray(p))[0] for p in pictures]))
    for change in (
        lambda p: p.resize((320, 180)),
        lambda p: p.filter(ImageFilter.GaussianBlur(2)),
        lambda p: p.point(lambda v: min(int(v * 1.1 + 5), 255)),
    ):
        changed = hash_thumbnails(np.stack([measure_picture(np.asarray(change(p)))[0] for p in pictures]))
        assert np.bitwise_count(plain ^ changed).max() <= 6
    apart = np.bitwise_count(plain[:, None] ^ plain[None])[np.triu_indices(6, 1)]
    assert apart.min() >= 12


@given(height=st.integers(1, 70), width=st.integers(1, 70), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_shrinking_keeps_the_mean_and_has_no_preferred_side(height: int, width: int, rows: int, columns: int) -> None:
    plane = np.random.default_rng(height * 71 + width).uniform(0, 255, (height, width)).astype(np.float32)
    small = shrink(plane, rows, columns)
    assert small.shape == (rows, columns)
    assert small.mean() == pytest.approx(plane.mean(), rel=1e-4)
    mirrored = shrink(np.ascontiguousarray(plane[::-1, ::-1]), rows, columns)
    assert mirrored[::-1, ::-1] == pytest.approx(small, abs=1e-2)


def test_shrinking_by_a_whole_number_is_the_mean_of_blocks() -> None:
    plane = np.random.default_rng(0).uniform(0, 255, (30, 40)).astype(np.float32)
    assert shrink(plane, 10, 8) == pytest.approx(plane.reshape(10, 3, 8, 5).mean(axis=(1, 3)), rel=1e-5)


def test_statistics_against_numpy() -> None:
    picture = scene(1, (90, COPY_SIDE))
    thumbnail, values = measure_picture(picture)
    luma = picture @ np.array([0.299, 0.587, 0.114])
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    shares = np.bincount(np.floor(luma + 0.5).astype(int).ravel(), minlength=256) / luma.size
    first, second = picture[..., 0] * 1.0 - picture[..., 1], picture @ np.array([0.5, 0.5, -1.0])
    assert thumbnail.shape == (THUMBNAIL, THUMBNAIL)
    assert values.brightness == pytest.approx(luma.mean(), rel=1e-4)
    assert values.contrast == pytest.approx(luma.std(), rel=1e-4)
    assert values.sharpness == pytest.approx(laplacian.var(), rel=1e-3)
    assert values.entropy == pytest.approx(-sum(s * np.log2(s) for s in shares if s), abs=0.01)
    assert (values.red, values.green, values.blue) == pytest.approx(picture.mean(axis=(0, 1)), rel=1e-4)
    colourful = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
    assert values.colourfulness == pytest.approx(colourful, rel=1e-3)


def test_statistics_are_comparable_between_sizes() -> None:
    picture = scene(2, (720, 1280))
    large = measure_picture(picture)[1]
    half = measure_picture(np.asarray(Image.fromarray(picture).reduce(2)))[1]
    assert half == pytest.approx(large, rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2, 3), (1, 3000, 3), (33, 17)])
def test_tiny_and_narrow_pictures_have_statistics(shape: tuple[int, ...]) -> None:
    thumbnail, values = measure_picture(np.full(shape, 200, np.uint8))
    assert thumbnail.tolist() == np.full((THUMBNAIL, THUMBNAIL), 200).tolist()
    assert values.brightness == pytest.approx(200, rel=1e-5)
    assert (values.contrast, values.sharpness, values.entropy) == pytest.approx((0, 0, 0), abs=1e-3)
    assert blockiness(np.full((40, 40), 3, np.uint8)) == 1.0


def test_blocks_are_measured() -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(0, 300, (128, 160)), 3) + 128
    blocks = np.kron(rng.integers(0, 256, (16, 20)), np.ones((8, 8)))
    assert blockiness(np.clip(smooth, 0, 255).astype(np.uint8)) == pytest.approx(1.0, abs=0.1)
    assert blockiness(np.clip(smooth + blocks / 4, 0, 255).astype(np.uint8)) > 2
