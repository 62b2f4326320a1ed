"""Outlines along pixel edges: drawn again they give the same mask."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sightline.ops import rle
from sightline.ops.outlines import mask_outlines

MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def drawn(ring: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return rle.decode(rle.from_polygons([ring.ravel()], size_hw), size_hw)


def test_a_square_has_four_corners() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2:7] = True
    outer, holes = mask_outlines(mask)
    assert [sorted(map(tuple, ring.tolist())) for ring in outer] == [[(2, 1), (2, 4), (7, 1), (7, 4)]]
    assert holes == []


def test_holes_and_parts_are_told_apart() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:12, 2:12] = True
    mask[5:8, 5:8] = False
    mask[15:18, 20:25] = True
    outer, holes = mask_outlines(mask)
    assert [len(outer), len(holes)] == [2, 1]
    assert mask_outlines(np.zeros((3, 3))) == ([], [])


@settings(max_examples=200)
@given(mask=MASKS)
def test_rings_give_back_the_mask(mask: np.ndarray) -> None:
    outer, holes = mask_outlines(mask)
    assert len(outer) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    total = sum((drawn(r, mask.shape).astype(int) for r in outer), np.zeros(mask.shape, dtype=int))
    total -= sum((drawn(r, mask.shape).astype(int) for r in holes), np.zeros(mask.shape, dtype=int))
    assert np.array_equal(total > 0, mask)
