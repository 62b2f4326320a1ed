"""Masks from prototypes against SciPy's interpolation of the whole image, and their run lengths against COCO's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from sightline.core.preprocess import Preprocess
from sightline.ops import rle
from sightline.ops.instance_masks import MaskCrop, box_masks, crop_counts, instance_masks, object_masks

POLICIES = ("letterbox", "stretch", "crop", "shortest_side", "none")


def on_image(crop: MaskCrop, size_hw: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(size_hw, np.bool_)
    height, width = crop.pixels.shape
    whole[crop.top : crop.top + height, crop.left : crop.left + width] = crop.pixels
    return whole


def reference(own: np.ndarray, prototypes: np.ndarray, box: np.ndarray, geometry) -> np.ndarray:
    """Probabilities of the whole image at the middles of its pixels, by SciPy 1.17; then the box's pixels."""
    likely = 1 / (1 + np.exp(-np.tensordot(own, prototypes, 1).astype(np.float64)))
    height, width = geometry.source_hw
    middles = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    stride = geometry.target_hw[0] / prototypes.shape[1]
    x, y = np.moveaxis(geometry.points_to_network(middles) / stride - 0.5, -1, 0)
    at_pixels = map_coordinates(likely, [y, x], order=1, mode="nearest")
    columns, rows = np.arange(width), np.arange(height)[:, None]
    touched = (columns >= np.floor(box[0])) & (columns < np.ceil(box[2])) & (rows >= np.floor(box[1]))
    return np.where(touched & (rows < np.ceil(box[3])), at_pixels, 0.0)


@given(st.integers(0, 10_000), st.sampled_from(POLICIES))
def test_masks_are_the_interpolated_sigmoid_within_the_box(seed: int, policy: str) -> None:
    rng = np.random.default_rng(seed)
    size_hw = (64, 96) if policy == "none" else tuple(rng.integers(20, 150, 2).tolist())
    geometry = Preprocess(size_hw=(64, 96), policy=policy).geometry(size_hw)
    rows, columns = (-(-side // 4) for side in geometry.target_hw)
    if policy == "shortest_side":  # networks take multiples of 32 only
        geometry = Preprocess(size_hw=(64, 64), policy="stretch").geometry(size_hw)
        rows, columns = 16, 16
    prototypes = rng.normal(size=(5, rows, columns)).astype(np.float32)
    coefficients = rng.normal(size=(4, 5)).astype(np.float32)
    corners = rng.random((4, 2, 2)) * size_hw[::-1]
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1e-6], 1).clip(0, np.tile(size_hw[::-1], 2))
    for own, box, crop in zip(
        coefficients, boxes, instance_masks(coefficients, prototypes, boxes, geometry), strict=True
    ):
        wanted = reference(own, prototypes, box, geometry)
        got = on_image(crop, size_hw)
        decided = np.abs(wanted - 0.5) > 1e-4
        assert np.array_equal(got[decided], wanted[decided] >= 0.5)


def test_a_mask_within_its_box_is_stretched_over_it() -> None:
    """Of a box of 8 x 6 cells of one network pixel; in an image twice as large, cut by its edge on the left."""
    geometry = Preprocess(size_hw=(32, 32), policy="stretch").geometry((64, 64))
    likely = np.zeros((1, 6, 8), np.float32)
    likely[0, 1:4, 2:7] = 1.0
    span = np.array([[-3.0, 10.0, 5.0, 16.0]])
    box = np.array([[0.0, 20.0, 10.0, 32.0]])
    (crop,) = box_masks(likely, span, box, geometry)
    assert (crop.left, crop.top, crop.pixels.shape) == (0, 20, (12, 10))
    wanted = np.zeros((64, 64), np.bool_)
    # The steps between 0 and 1 are at the edges of cells: columns -1..4 and rows 11..14 of the network's pixels.
    wanted[22:28, 0:8] = True
    assert np.array_equal(on_image(crop, (64, 64)), wanted)
    (again,) = object_masks([likely], span, box, geometry)
    assert np.array_equal(again.pixels, crop.pixels)


@given(st.integers(0, 10_000))
def test_run_lengths_are_those_of_the_whole_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2).tolist()
    rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    crop = MaskCrop(left, top, rng.random((rows, columns)) < rng.choice([0.0, 0.3, 0.8, 1.1]))
    assert crop_counts(crop, (height, width)) == rle.encode(on_image(crop, (height, width)))


@pytest.mark.parametrize("box", [(9.2, 5.1, 9.4, 5.3), (19.999, 9.999, 20.0, 10.0), (0.0, 0.0, 1e-9, 1e-9)])
def test_a_box_of_less_than_a_pixel_has_one_pixel(box: tuple[float, ...]) -> None:
    geometry = Preprocess(size_hw=(32, 32)).geometry((10, 20))
    ones = np.ones((1, 8, 8), np.float32)
    (crop,) = instance_masks(np.full((1, 1), 1e6, np.float32), ones, np.array([box]), geometry)
    assert crop.pixels.tolist() == [[True]]


def test_a_disc_comes_back_where_it_was_within_a_pixel() -> None:
    """A disc on the prototypes of a letterboxed picture, three times as large as the network sees it."""
    geometry = Preprocess(size_hw=(128, 128)).geometry((240, 384))
    y, x = np.mgrid[:32, :32] + 0.5
    centre = np.array([200.0, 100.0])
    place, radius = geometry.points_to_network(centre) / 4, 60 * geometry.scale_xy[0] / 4
    field = (radius - np.hypot(x - place[0], y - place[1])).astype(np.float32)
    box = np.array([[centre[0] - 60, centre[1] - 60, centre[0] + 60, centre[1] + 60]])
    (crop,) = instance_masks(np.full((1, 1), 4.0, np.float32), field[None], box, geometry)
    rows, columns = np.nonzero(on_image(crop, (240, 384)))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(centre, abs=0.5)
    assert np.sqrt(len(rows) / np.pi) == pytest.approx(60, abs=1.0)
