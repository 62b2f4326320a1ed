"""Oriented boxes judged: upright ones have the reference's numbers, turned ones an answer that is known."""

import numpy as np
import polars as pl
import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.predictions import predictions_from_rows
from sightline.evaluate import evaluate_detection, evaluate_oriented
from sightline.ops.oriented import box_corners, upright


def scene(seed, turned):
    """Objects, ignored ones and crowds, and detections near and far with tied scores; as `turned` by at most."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(12):
        for _ in range(rng.integers(0, 5)):
            box = np.concatenate([rng.uniform(40, 160, 2), rng.uniform(10, 60, 2), rng.uniform(0, turned, 1)])
            ring = box_corners([box])
            ends = dict(zip(("x1", "y1", "x2", "y2"), upright(ring)[0].tolist(), strict=True))
            entry = {"image_id": image, "class_id": int(rng.integers(0, 2))}
            aside = {"crowd": bool(rng.random() < 0.1), "ignore": bool(rng.random() < 0.1)}
            objects.append({**entry, **ends, **aside, "polygon": [ring.ravel().tolist()]})
            for _ in range(rng.integers(0, 4)):
                near = box + rng.normal(0, 1, 5) * (4, 4, 2, 2, turned / 10) * rng.choice([0, 1, 3])
                near[2:4] = np.maximum(near[2:4], 2)
                ends = dict(zip(("x1", "y1", "x2", "y2"), upright(box_corners([near]))[0].tolist(), strict=True))
                score = float(np.round(rng.random(), 1))
                found.append({**entry, **ends, "score": score, "oriented": near.tolist()})
    images = [{"image_id": i, "path": f"{i}.jpg", "width": 200, "height": 200} for i in range(12)]
    classes = [{"class_id": i, "name": f"c{i}"} for i in range(2)]
    dataset = dataset_from_rows(images, objects, classes, root=".", name="turned", task="detect", format="made")
    return dataset, predictions_from_rows(found, {"task": "obb"}).of(dataset)


def test_of_upright_boxes_the_numbers_are_the_reference_s():
    for seed in range(12):
        dataset, found = scene(seed, turned=0.0)
        turned = evaluate_detection(dataset, found, iou_type="obb", resamples=5)
        boxes = evaluate_detection(dataset, found)
        for name in ("AP", "AP50", "AP75", "AR100"):
            assert turned[name] == pytest.approx(boxes[name], abs=1e-9, nan_ok=True), (seed, name)
        shared = ["AP", "AP50", "AP75", "AR", "tp", "fp", "fn"]
        rows = [result.per_class.select(shared).to_numpy() for result in (turned, boxes)]
        assert np.allclose(*rows, equal_nan=True)
        assert np.array_equal(turned.confusion, boxes.confusion)


def test_turned_boxes_are_judged_as_they_lie():
    dataset, found = scene(1, turned=1.5)
    result = evaluate_oriented(dataset, found)
    assert result.iou_type == "obb"
    assert result["box_AP50"] >= result["AP50"] > 0
    assert result.title == "COCO oriented boxes, 12 images"
    rows = dataset.objects.filter(~dataset.objects["crowd"] & ~dataset.objects["ignore"])
    perfect = [
        {**row, "score": 0.9, "oriented": None}
        for row in rows.select("image_id", "class_id", "x1", "y1", "x2", "y2").iter_rows(named=True)
    ]
    with pytest.raises(DataError, match=rf"needs an oriented box for every detection, got {len(perfect)} without"):
        evaluate_oriented(dataset, predictions_from_rows(perfect, {}).of(dataset))
    turned = [[*box[:4], box[4] + np.pi / 2] for box in found.table["oriented"].to_list()]
    quarter = found.table.with_columns(pl.Series("oriented", turned))
    assert evaluate_oriented(dataset, predictions_from_rows(quarter, {}).of(dataset))["AP50"] < result["AP50"]


def test_nothing_found_is_an_average_precision_of_zero():
    dataset, _ = scene(0, turned=1.0)
    nothing = evaluate_oriented(dataset, predictions_from_rows([], {"task": "obb"}).of(dataset))
    assert [nothing[name] for name in ("AP", "AP50", "AR100")] == [0, 0, 0]


def test_oriented_boxes_that_are_no_five_numbers_are_refused():
    row = {"image_id": 0, "class_id": 0, "x1": 0, "y1": 0, "x2": 1, "y2": 1, "score": 1.0}
    for numbers in ([1, 2, 3], [1, 2, 3, 4, float("nan")]):
        with pytest.raises(DataError, match="'oriented' must be finite numbers, cx, cy, w, h and angle"):
            predictions_from_rows([{**row, "oriented": numbers}], {})
