"""Boundary metrics: distances against SciPy (and medpy where it is), others by plain formulas; merging, ignoring."""

import math

import numpy as np
import pytest
from scipy import ndimage

from sightline.core.errors import ConfigError, DataError
from sightline.evaluate import BoundaryAccumulator, BoundaryOptions, evaluate_semantic
from sightline.evaluate.boundaries import DISTANCES
from sightline.ops.surfaces import boundary_band, squared_distances

from .test_segmentation import saved, scene

CROSS = ndimage.generate_binary_structure(2, 1)


def blobs(rng, size_hw=(40, 56), classes=2):
    """Smooth regions of class ids, truth and a guess that is near it."""
    fields = ndimage.gaussian_filter(rng.random((classes, *size_hw)), (0, 4, 4))
    guess = fields + 0.3 * ndimage.gaussian_filter(rng.random((classes, *size_hw)), (0, 3, 3))
    return fields.argmax(0).astype(np.uint8), guess.argmax(0).astype(np.uint8)


def plain_distances(found, true):
    """As medpy defines surfaces: what a cross-shaped erosion takes away, the image's edge included."""
    borders = [mask ^ ndimage.binary_erosion(mask, CROSS) for mask in (found, true)]
    return [ndimage.distance_transform_edt(~other)[own] for own, other in (borders, borders[::-1])]


@pytest.mark.parametrize("seed", range(20))
def test_distances_are_exact(seed):
    rng = np.random.default_rng(seed)
    points = rng.random(rng.integers(1, 50, 2)) < rng.choice([0.01, 0.1, 0.5])
    points.flat[rng.integers(points.size)] = True
    expected = np.rint(ndimage.distance_transform_edt(~points) ** 2).astype(np.int64)
    assert np.array_equal(squared_distances(points), expected)


@pytest.mark.parametrize("seed", range(5))
def test_surface_distances_are_those_of_the_definitions(seed):
    true, found = blobs(np.random.default_rng(seed))
    edges = BoundaryAccumulator(2)
    edges.update(true, found)
    both = plain_distances(found == 1, true == 1)
    got = edges.metrics()
    assert got["hd95_pooled"] == pytest.approx(np.percentile(np.hstack(both), 95), abs=1e-9)
    assert got["hd95_directed_max"] == pytest.approx(max(np.percentile(d, 95) for d in both), abs=1e-9)
    assert got["assd_pooled"] == pytest.approx(np.hstack(both).mean(), abs=1e-9)
    assert got["assd_mean_of_means"] == pytest.approx(np.mean([d.mean() for d in both]), abs=1e-9)
    tolerance = 0.0075 * math.hypot(*true.shape)
    precision, recall = ((d <= tolerance).mean() for d in both)
    assert got["boundary_f"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_medpy(seed):
    binary = pytest.importorskip("medpy.metric.binary")
    true, found = blobs(np.random.default_rng(seed))
    edges = BoundaryAccumulator(2)
    edges.update(true, found)
    got = edges.metrics()
    assert got["hd95_pooled"] == pytest.approx(binary.hd95(found == 1, true == 1), abs=1e-6)
    assert got["assd_pooled"] == pytest.approx(binary.assd(found == 1, true == 1), abs=1e-6)


def plain_boundary(mask, width):
    """The pixels of a mask whose square of `width` to all sides is not all of it (Cheng et al. 2021)."""
    padded = np.pad(mask, width)
    return mask & ~np.array(
        [[padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all() for x in range(mask.shape[1])]
         for y in range(mask.shape[0])]
    )  # fmt: skip


@pytest.mark.parametrize("dilation", [0.02, 0.06])
def test_boundary_iou_is_that_of_the_definition(dilation):
    true, found = blobs(np.random.default_rng(7), classes=3)
    edges = BoundaryAccumulator(3, BoundaryOptions(dilation=dilation))
    edges.update(true, found)
    width = max(1, round(dilation * math.hypot(*true.shape)))
    expected = []
    for i in range(3):
        a, b = plain_boundary(found == i, width), plain_boundary(true == i, width)
        expected.append((a & b).sum() / (a | b).sum())
    assert edges.per_class()["boundary_iou"].to_list() == pytest.approx(expected)
    assert edges.metrics()["boundary_iou"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("pixels", [1, 3])
def test_the_band_is_what_lies_near_an_edge(pixels):
    true, found = blobs(np.random.default_rng(3), classes=3)
    edge = np.zeros(true.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            moved = np.roll(true, step, axis)
            same = np.take(np.arange(true.shape[axis]), 0 if step == 1 else -1)
            change = moved != true
            index = [slice(None), slice(None)]
            index[axis] = same
            change[tuple(index)] = False
            edge |= change
    expected = ndimage.distance_transform_edt(~edge) <= pixels - 1
    assert np.array_equal(boundary_band(true.astype(np.int32), np.ones(true.shape, bool), pixels), expected)
    edges = BoundaryAccumulator(3, BoundaryOptions(band=pixels))
    edges.update(true, found)
    assert edges.metrics()["band_error"] == pytest.approx((true != found)[expected].mean())


def test_ignored_pixels_make_no_border_and_no_errors():
    """A square that reaches into what does not count: its known sides are met exactly."""
    true = np.zeros((30, 30), np.uint8)
    true[5:20, 5:20] = 1
    true[12:, :] = 255
    found = np.zeros((30, 30), np.uint8)
    found[5:12, 5:20] = 1
    found[12:, :] = np.random.default_rng(0).integers(0, 2, (18, 30))
    edges = BoundaryAccumulator(2)
    edges.update(true, found)
    got = edges.metrics()
    assert (got["boundary_f"], got["boundary_iou"], got["band_error"]) == (1.0, 1.0, 0.0)
    assert all(got[name] == 0 for name in DISTANCES)


def test_absent_classes_are_not_numbers_and_counted():
    nothing, something = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8)
    something[4:8, 4:8] = 1
    edges = BoundaryAccumulator(2)
    edges.update(nothing, nothing)
    assert math.isnan(edges.metrics()["boundary_f"])
    edges.update(something, nothing)
    got = edges.metrics()
    assert (got["boundary_f"], got["boundary_iou"]) == (0.0, 0.0)
    assert math.isnan(got["hd95_pooled"])
    assert edges.per_class()["distances_undefined"].to_list() == [1]
    assert "1 not defined" in edges.stated()["distances"]


@pytest.mark.parametrize("classes", [2, 4])
def test_merging_is_adding_and_renaming_changes_nothing(classes):
    rng = np.random.default_rng(11)
    pairs = [blobs(rng, classes=classes) for _ in range(6)]
    whole, first, second = (BoundaryAccumulator(classes) for _ in range(3))
    for number, (true, found) in enumerate(pairs):
        whole.update(true, found)
        (first if number < 2 else second).update(true, found)
    first.merge(second)
    assert first.metrics() == whole.metrics()
    if classes > 2:
        order = rng.permutation(classes)
        renamed = BoundaryAccumulator(classes)
        for true, found in pairs:
            renamed.update(order[true], order[found])
        assert renamed.metrics() == pytest.approx(whole.metrics())
    with pytest.raises(DataError, match="on images, got none"):
        BoundaryAccumulator(classes).metrics()
    with pytest.raises(DataError, match="shape of the ground truth"):
        whole.update(pairs[0][0], pairs[0][1][:-1])
    with pytest.raises(ValueError, match="same classes"):
        whole.merge(BoundaryAccumulator(5))


def test_an_evaluation_has_them_with_intervals_and_says_how(tmp_path):
    dataset, maps = scene(tmp_path, [0, 255], images=12, ignore=(7,))
    plain = evaluate_semantic(dataset, saved(dataset, maps))
    got = evaluate_semantic(dataset, saved(dataset, maps), resamples=50, boundaries=BoundaryOptions(band=2))
    assert {k: v for k, v in got.metrics.items() if k in plain.metrics} == plain.metrics
    assert set(got.metrics) - set(plain.metrics) == {"boundary_f", "boundary_iou", "band_error", *DISTANCES}
    low, high = got.intervals["assd_pooled"]
    assert low < got["assd_pooled"] < high
    assert got.per_class["boundary_f"].to_list() == [None, pytest.approx(got["boundary_f"])]
    assert "within 2 of an edge" in got.conventions["band_error"]
    with pytest.raises(ConfigError, match="tolerance"):
        BoundaryOptions.load({"tolerance": 0})
