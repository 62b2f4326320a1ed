"""Run-length masks are bit-identical to pycocotools 2.0.11, and malformed ones are refused in one sentence."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import InputError
from sightline.ops import RleError, rle

sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def masks(draw, count=1):
    height, width = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fill = draw(st.sampled_from([0.0, 0.05, 0.5, 0.9, 1.0]))
    return [rng.random((height, width)) < fill for _ in range(count)]


def reference(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(masks())
def test_encoding_equals_pycocotools_and_decodes_to_the_mask(made):
    mask = made[0]
    expected = reference(mask)
    counts = rle.encode(mask)
    assert counts == expected["counts"]
    np.testing.assert_array_equal(rle.decode(counts, mask.shape), mask)
    np.testing.assert_array_equal(rle.decode(counts.decode(), mask.shape), mask)
    assert rle.area(counts) == mask.sum() == coco_mask.area(expected)
    x, y, w, h = coco_mask.toBbox(expected)
    np.testing.assert_array_equal(rle.to_box(counts, mask.shape), [x, y, x + w, y + h])
    runs = rle.counts_to_runs(counts, mask.shape)
    uncompressed = {"size": list(mask.shape), "counts": runs.tolist()}
    assert rle.runs_to_counts(runs.tolist(), mask.shape) == counts
    assert coco_mask.frPyObjects(uncompressed, *mask.shape)["counts"] == counts


@given(masks(count=4), st.booleans())
def test_unions_and_intersections_equal_pycocotools(made, intersect):
    merged = rle.merge([rle.encode(m) for m in made], made[0].shape, intersect=intersect)
    assert merged == coco_mask.merge([reference(m) for m in made], intersect)["counts"]


@given(masks(count=5), st.integers(0, 7))
def test_iou_equals_pycocotools_with_and_without_crowd(made, bits):
    a, b = made[:2], made[2:]
    crowd = [bool(bits >> k & 1) for k in range(3)]
    got = rle.iou_matrix([rle.encode(m) for m in a], [rle.encode(m) for m in b], made[0].shape, crowd)
    expected = coco_mask.iou([reference(m) for m in a], [reference(m) for m in b], crowd)
    np.testing.assert_array_equal(got, expected)


def test_iou_of_nothing_has_the_right_shape():
    one = rle.encode(np.ones((3, 3)))
    empty = rle.encode(np.zeros((3, 3)))
    assert rle.iou_matrix([], [one], (3, 3)).shape == (0, 1)
    assert rle.iou_matrix([empty, one], [empty, one], (3, 3)).tolist() == [[0, 0], [0, 1]]


@settings(max_examples=300)
@given(sizes, st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 10, 1000]), st.integers(1, 3))
def test_polygons_equal_pycocotools(size_hw, seed, grid, ring_count):
    rng = np.random.default_rng(seed)
    height, width = size_hw
    # Vertices on and between the grid of fifths, inside and far outside the image.
    rings = [
        (np.round((rng.random((rng.integers(3, 12), 2)) * 2 - 0.5) * [width, height] * grid) / grid).ravel().tolist()
        for _ in range(ring_count)
    ]
    expected = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    assert rle.from_polygons(rings, size_hw) == expected["counts"]


def test_a_polygon_over_the_whole_image_fills_it():
    assert rle.area(rle.from_polygons([[0, 0, 7, 0, 7, 5, 0, 5]], (5, 7))) == 35
    assert rle.area(rle.from_polygons([[-50, -50, 90, -50, 90, 90, -50, 90]], (5, 7))) == 35
    assert rle.area(rle.from_polygons([[100, 100, 120, 100, 120, 120]], (5, 7))) == 0


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (b"\x01", "outside '0'..'o'"),
        ("né", "outside '0'..'o'"),
        (b"P", "breaks off"),
        (b"o" * 12 + b"0", "longer than"),
        (b"O", "negative length"),
        (b"5", "must sum to 16, got 5"),
        (b"", "must sum to 16, got 0"),
    ],
)
def test_malformed_counts_are_refused(counts, message):
    with pytest.raises(RleError, match=message) as caught:
        rle.decode(counts, (4, 4))
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InputError)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(raw):
    try:
        runs = rle.counts_to_runs(raw, (6, 6))
    except RleError:
        return
    assert runs.min() >= 0
    assert runs.sum() == 36


@pytest.mark.parametrize(
    "rings", [[], [[1, 2, 3, 4]], [[0, 0, 1, 0, 1]], [[0, 0, 1, np.nan, 1, 1]], [[0, 0, 1e9, 0, 1, 1]]]
)
def test_unusable_polygons_are_refused(rings):
    with pytest.raises(RleError, match="polygon"):
        rle.from_polygons(rings, (4, 4))


@pytest.mark.parametrize("runs", [[20, -4], [1.5, 14.5], [[16]], [15]])
def test_unusable_runs_are_refused(runs):
    with pytest.raises(RleError, match="run"):
        rle.runs_to_counts(runs, (4, 4))


def test_a_mask_must_be_flat():
    with pytest.raises(RleError, match=r"\(H, W\)"):
        rle.encode(np.zeros((2, 2, 2)))
