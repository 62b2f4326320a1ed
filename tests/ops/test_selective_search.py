"""Selective search finds what differs from its surroundings, and equal boxes for equal images."""

import numpy as np
import pytest

from sightline.ops.boxes import iou_matrix
from sightline.ops.selective_search import selective_search

THINGS = {(30, 40, 90, 120): (200, 30, 30), (150, 60, 260, 100): (30, 60, 220), (200, 150, 240, 220): (240, 240, 60)}


def scene() -> np.ndarray:
    image = np.full((240, 320, 3), 110.0) + np.random.default_rng(0).normal(0, 4, (240, 320, 3))
    for (x1, y1, x2, y2), colour in THINGS.items():
        image[y1:y2, x1:x2] = colour
    return image.clip(0, 255).astype(np.uint8)


def test_things_are_found_and_unions_of_them_come_first() -> None:
    boxes = selective_search(scene(), 200)
    assert boxes.dtype == np.float32
    assert iou_matrix(boxes.astype(float), np.array(list(THINGS), float)).max(0).min() > 0.9
    assert boxes[0].tolist() == [0, 0, 320, 240]
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert np.array_equal(boxes, selective_search(scene(), 200))
    assert np.array_equal(boxes[:5], selective_search(scene(), 5))


def test_of_two_halves_of_one_thing_the_union_is_a_box() -> None:
    """Two shades of red beside each other are joined before either is joined with what is grey."""
    image = np.full((100, 100, 3), 110, np.uint8)
    image[30:70, 20:50], image[30:70, 50:80] = (200, 30, 30), (215, 30, 30)
    found = selective_search(image, 50).tolist()
    assert [20, 30, 80, 70] in found


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (7, 3), (33, 400)])
def test_any_size_and_one_colour_give_the_whole(size_hw: tuple[int, int]) -> None:
    boxes = selective_search(np.full((*size_hw, 3), 60, np.uint8), 10)
    assert boxes.tolist() == [[0, 0, size_hw[1], size_hw[0]]]


def test_noise_is_cut_into_boxes_inside_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = selective_search(image, 1000)
    assert 20 < len(boxes) <= 511
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= np.array([120, 90, 120, 90])).all()
