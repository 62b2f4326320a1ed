"""Proposed anchors: clusters that are there are found, sizes are the network's, and what is written trains."""

import numpy as np
import pytest
import yaml

from sightline import models
from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError, DataError
from sightline.train import TrainConfig, propose_anchors

SHAPES = [(12, 20), (30, 14), (24, 60), (50, 50), (90, 40), (60, 130), (150, 90), (120, 250), (300, 200)]


def objects_of(shapes, each=20, spread=0.03, side=640):
    """Objects of these shapes, a little different, on images of this side."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (width, height) in enumerate(shapes):
        for _ in range(each):
            w, h = np.array((width, height)) * (1 + spread * rng.standard_normal(2))
            rows.append({"image_id": number % 2, "class_id": 0, "x1": 5.0, "y1": 5.0, "x2": 5.0 + w, "y2": 5.0 + h})
    images = [{"image_id": i, "path": f"{i}.png", "width": side, "height": side, "split": "train"} for i in range(2)]
    classes = [{"class_id": 0, "name": "thing"}]
    return dataset_from_rows(images, rows, classes, root=".", name="shapes", task="detect", format="made")


def test_the_shapes_that_are_there_are_found_by_size():
    found = propose_anchors(objects_of(SHAPES), "yolo5n", 640)
    flat = np.array([size for level in found.anchors for size in level])
    assert [len(level) for level in found.anchors] == [3, 3, 3]
    assert np.allclose(flat, sorted(SHAPES, key=lambda s: s[0] * s[1]), rtol=0.05)
    assert found.after.mean_iou > 0.93 > found.before.mean_iou
    assert found.after.recall == 1.0
    assert found.objects == 180
    assert found.anchors == propose_anchors(objects_of(SHAPES), "yolo5n", 640).anchors


def test_sizes_are_those_that_the_network_sees():
    """An image of 1280 halves for 640; the numbers beside the model's own fit by hand."""
    found = propose_anchors(objects_of([(40, 80)], each=60, spread=0.1, side=1280), "yolo5n", 640, per_level=1)
    assert all(17 < w < 24 and 34 < h < 47 for level in found.anchors for w, h in level)
    tiny = propose_anchors(objects_of([(2, 2)], each=60, spread=0.1), "yolo5n", 640, per_level=1)
    assert tiny.before.recall == 0.0  # 10 x 13 is more than four times as large
    assert tiny.after.recall == 1.0


def test_what_is_written_makes_a_model_with_these_anchors():
    found = propose_anchors(objects_of(SHAPES), "yolo3", 416, per_level=2)
    settings = yaml.safe_load(yaml.safe_dump(found.settings()))
    config = TrainConfig.load({**settings, "data": "somewhere"})
    model = models.build_shapes(config.model.name, ["thing"], config.model_arguments)
    assert model.arguments["anchors"] == found.anchors
    assert model.preprocess.size_hw == (416, 416)
    assert tuple(model.head.anchors.shape) == (3, 2, 2)


def test_what_has_no_anchors_or_too_few_objects_is_refused():
    with pytest.raises(ConfigError, match="the model must have anchors, got 'yolo11n'"):
        propose_anchors(objects_of(SHAPES), "yolo11n")
    with pytest.raises(DataError, match="9 anchors need as many objects of different sizes, got 3"):
        propose_anchors(objects_of(SHAPES[:3], each=1), "yolo5n")
    with pytest.raises(ValueError, match=r"must be given as imgsz, not as arguments\.imgsz"):
        TrainConfig(data="x", model="yolo5n", arguments={"imgsz": 64})
