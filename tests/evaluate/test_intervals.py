"""Intervals: drawing images with replacement is evaluating a data set in which they occur so often."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sightline.core.dataset import dataset_from_rows
from sightline.core.frames import SemanticMap
from sightline.core.predictions import predictions_from_rows
from sightline.evaluate import SemanticAccumulator, evaluate_detection, evaluate_semantic_maps, match_detections
from sightline.evaluate.coco import detection_arrays
from sightline.evaluate.intervals import _draws, _units, detection_measure
from sightline.evaluate.pixels import image_ratios, summary
from sightline.evaluate.segmentation import _measure

NAMES = ("cat", "dog", "never there")
SIDE = 100


def rows(seed, images=12):
    """Objects and detections of random images; scores on a coarse grid, so that images tie; and crowds."""
    random = np.random.default_rng(seed)
    objects, found = [], []
    for i in range(images):
        for k in range(random.integers(0, 6)):
            x, y, w, h = random.integers(0, 60), random.integers(0, 60), *random.integers(8, 40, 2)
            box = {"x1": float(x), "y1": float(y), "x2": float(x + w), "y2": float(y + h)}
            name = int(random.integers(0, 2))
            objects.append({"image_id": i, "class_id": name, "crowd": bool(random.random() < 0.1), **box})
            for _ in range(random.integers(0, 3)):
                shift = random.integers(-5, 6, 4)
                moved = {c: v + float(s) for (c, v), s in zip(box.items(), shift, strict=True)}
                score = float(random.integers(1, 10)) / 10 + 0.001 * len([r for r in found if r["image_id"] == i])
                found.append({"image_id": i, "class_id": name if k else 1 - name, "score": score, **moved})
    return objects, found


def dataset_of(objects, count, groups=None):
    images = [{"image_id": i, "path": f"{i}.png", "width": SIDE, "height": SIDE} for i in range(count)]
    if groups is not None:
        images = [
            image | {"group": group, "frame": i} for i, (image, group) in enumerate(zip(images, groups, strict=True))
        ]
    classes = [{"class_id": i, "name": name} for i, name in enumerate(NAMES)]
    return dataset_from_rows(images, objects, classes, root=".", name="drawn", task="detect", format="coco")


def repeated(part, weights):
    """The rows of every image as often as its weight, each time as an image of its own, in the order of the images."""
    new_ids = np.cumsum(np.concatenate([[0], weights]))
    return [
        row | {"image_id": int(new_ids[row["image_id"]] + k)} for row in part for k in range(weights[row["image_id"]])
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_is_the_evaluation_of_the_images_drawn(seed):
    objects, found = rows(seed)
    weights = np.bincount(np.random.default_rng(seed).integers(12, size=12), minlength=12)
    dataset, predictions = dataset_of(objects, 12), predictions_from_rows(found, {})
    arrays = detection_arrays(dataset, predictions, "bbox")
    measure = detection_measure(arrays, match_detections(arrays, 3), class_count=3, max_det=100, conf=0.45)
    for counts in (np.ones(12, dtype=np.int64), weights):
        drawn = dataset_of(repeated(objects, counts), int(counts.sum()))
        whole = evaluate_detection(drawn, predictions_from_rows(repeated(found, counts), {}), conf=0.45)
        point = whole.operating_point
        wanted = {m: whole[m] for m in ("AP", "AP50", "AP75")}
        wanted |= {"precision": point.precision, "recall": point.recall, "f1": point.f1}
        assert measure(counts) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_the_result_and_its_file_have_intervals_around_the_numbers():
    objects, found = rows(1, images=40)
    dataset, predictions = dataset_of(objects, 40), predictions_from_rows(found, {})
    result = evaluate_detection(dataset, predictions, resamples=200)
    assert set(result.intervals) == {"AP", "AP50", "AP75", "precision", "recall", "f1"}
    frame = result.to_frame().drop_nulls("low")
    assert frame.filter((pl.col("low") > pl.col("value")) | (pl.col("high") < pl.col("value"))).is_empty()
    low, high = result.intervals["AP50"]
    assert 0.02 < high - low < 0.5
    assert result.to_dict()["intervals"]["AP50"] == [low, high]
    assert "bootstrap of 40 images, 200 draws" in result.conventions["intervals"]
    assert evaluate_detection(dataset, predictions, resamples=200).intervals == result.intervals
    assert "low" not in evaluate_detection(dataset, predictions).to_frame().columns


def test_groups_are_drawn_whole_and_few_of_them_are_not_enough():
    objects, found = rows(2, images=40)
    few = dataset_of(objects, 40, [f"video {i % 4}" for i in range(40)])
    result = evaluate_detection(few, predictions_from_rows(found, {}), resamples=50)
    assert not result.intervals
    assert "at least 10 groups" in result.conventions["intervals"]
    many = dataset_of(objects, 40, [f"video {i % 10}" for i in range(40)])
    for weights in _draws(_units(many), 10, 5):
        assert len({tuple(weights[k::10]) for k in range(10)}) <= 10
        assert all(len(set(weights[k::10].tolist())) == 1 for k in range(10))


@pytest.mark.parametrize("names", [("background", "crack"), ("a", "b", "c")])
def test_maps_have_intervals_of_their_pooled_metrics(tmp_path, names):
    random = np.random.default_rng(3)
    images, maps = [], []
    for k in range(12):
        truth = random.integers(0, len(names), (9, 14)).astype(np.uint8)
        Image.fromarray(truth).save(tmp_path / f"m{k}.png")
        guess = np.where(random.random(truth.shape) < 0.3 + k / 20, truth, 0)
        images.append({"image_id": 40 - k, "path": f"{k}.png", "width": 14, "height": 9, "mask_path": f"m{k}.png"})
        maps.append((40 - k, SemanticMap(guess, names)))
    classes = [{"class_id": i, "name": name, "source_id": i} for i, name in enumerate(names)]
    dataset = dataset_from_rows(images, [], classes, root=tmp_path, name="s", task="semantic", format="masks")
    result = evaluate_semantic_maps(dataset, maps, resamples=100)
    constant = {"foreground_precision", "foreground_specificity"} if len(names) == 2 else set()  # never false here
    constant |= {f"{name}_image_mean" for name in constant}
    assert set(result.intervals) == set(result.metrics) - constant
    assert all(low <= result[metric] <= high for metric, (low, high) in result.intervals.items())
    # One draw by hand: the metrics of the drawn maps, pooled.
    weights = next(_draws(_units(dataset), 12, 1))
    accumulator, alone, pixels = SemanticAccumulator(len(names)), [], {}
    for weight, (image_id, found) in zip(weights, sorted(maps, key=lambda pair: pair[0]), strict=True):
        truth = np.asarray(Image.open(tmp_path / f"m{40 - image_id}.png"))
        counts = SemanticAccumulator(len(names)).update(truth, found.class_ids)
        pixels[image_id] = np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)])
        for _ in range(weight):
            accumulator.update(truth, found.class_ids)
            alone.append(pixels[image_id])
    own = image_ratios(np.stack(alone))
    wanted = summary(accumulator.confusion) | {f"{name}_image_mean": values.mean() for name, values in own.items()}
    measure = _measure(pixels, image_ratios(np.stack([pixels[i] for i in sorted(pixels)])), None)
    assert measure(weights) == pytest.approx(wanted, abs=1e-12)


def test_numbers_that_no_draw_changes_have_no_interval():
    objects, _ = rows(1, images=40)
    result = evaluate_detection(dataset_of(objects, 40), predictions_from_rows([], {}), resamples=50)
    assert result["AP"] == 0.0
    assert not result.intervals
    assert result.conventions["intervals"] == "not measured: no draw differs from another"
