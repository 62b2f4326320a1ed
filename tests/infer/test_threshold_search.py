"""The search for thresholds measures what the predictor would give at each point, and finds the best of them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sightline.core.dataset import dataset_from_rows
from sightline.core.errors import ConfigError
from sightline.core.metadata import OperatingPoint
from sightline.evaluate import best_conf_by_size, evaluate_detection
from sightline.infer import NetworkPredictor, ThresholdGrid, predict_dataset, search_thresholds

from .artefacts import metadata

TRUE, TWICE, FALSE = 0.875, 0.75, 0.25


class Stammering:
    """Each white rectangle with a box of its own and one moved to an IoU of about 0.6; and a box where nothing is."""

    backend = "test"

    def __call__(self, pixels):
        boxes, scores = np.zeros((len(pixels), 9, 4), np.float32), np.zeros((len(pixels), 9, 2), np.float32)
        for i, image in enumerate(pixels):
            _, _, found, _ = cv2.connectedComponentsWithStats((image.mean(axis=0) > 0.7).astype(np.uint8))
            for k, (x, y, w, h, _) in enumerate(found[1:5]):
                boxes[i, 2 * k : 2 * k + 2] = [[x, y, x + w, y + h], [x + w // 4, y, x + w + w // 4, y + h]]
                scores[i, 2 * k : 2 * k + 2, 0] = TRUE, TWICE
            boxes[i, 8], scores[i, 8, 0] = [1, 50, 9, 60], FALSE
        return boxes, scores


@pytest.fixture
def predictor():
    return NetworkPredictor(Stammering(), metadata(), OperatingPoint(conf=0.2), where="stammering.onnx")


@pytest.fixture
def dataset(tmp_path):
    images, objects = [], []
    for number, rectangles in enumerate([[(4, 4, 24, 20), (40, 10, 60, 30)], [(30, 20, 70, 40)]]):
        picture = np.zeros((64, 96, 3), np.uint8)
        for x1, y1, x2, y2 in rectangles:
            picture[y1:y2, x1:x2] = 255
            half = [x1, y1, (x1 + x2) // 2, y1, (x1 + x2) // 2, y2, x1, y2]
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            objects.append({"image_id": number, "class_id": 0, **box, "polygon": [half]})
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        images.append({"image_id": number, "path": f"{number}.png", "width": 96, "height": 64})
    classes = [{"class_id": 0, "name": "car"}, {"class_id": 1, "name": "bus"}]
    return dataset_from_rows(images, objects, classes, name="scene", format="test", task="detect", root=tmp_path)


def test_each_point_is_what_the_predictor_gives_there(predictor, dataset):
    ways = ("nms", "soft-linear", "soft-gaussian")
    grid = ThresholdGrid(conf=(0.1, 0.85), iou=(0.4, 0.8), max_det=(2, 300), suppression=ways, sigma=(0.2, 0.5, 2.0))
    result = search_thresholds(predictor, dataset, grid)
    assert len(result.table) == (2 + 2 + 3) * 4, "the Gaussian knows no IoU but a sigma"
    for row in result.table.iter_rows(named=True):
        point = OperatingPoint(**{key: row[key] for key in OperatingPoint.model_fields if key in row})
        found = predict_dataset(predictor.at(point), dataset)
        expected = evaluate_detection(dataset, found, conf=point.conf, max_dets=(1, 10, max(11, point.max_det)))
        assert (row["AP"], row["F1"]) == (expected["AP"], expected.operating_point.f1)
    assert result.value == 1.0
    assert (result.best.iou, result.best.conf) == (0.4, TRUE), "the highest confidence that finds all and nothing else"
    assert result.to_frame()["F1"][0] == 1.0


class Halves(Stammering):
    """The same with masks: of each rectangle the left half."""

    def __call__(self, pixels):
        boxes, scores = super().__call__(pixels)
        maps = np.full((len(pixels), 1, *pixels.shape[2:]), -20, np.float32)
        for own, found in zip(maps[:, 0], boxes, strict=True):
            for x1, y1, x2, y2 in found[:8:2].astype(int):
                own[y1:y2, x1 : (x1 + x2) // 2] = 20
        return boxes, scores, np.ones((len(pixels), 9, 1), np.float32), maps


def test_of_a_model_with_masks_the_masks_are_judged(dataset):
    predictor = NetworkPredictor(Halves(), metadata("instance"), OperatingPoint(conf=0.2), where="halves.onnx")
    labelled = replace(dataset, task="instance")
    grid = ThresholdGrid(conf=(0.1, 0.5), iou=(0.4, 0.8), max_det=(300,))
    result = search_thresholds(predictor, labelled, grid, by_size=True)
    for row in result.table.iter_rows(named=True):
        found = predict_dataset(predictor.at(OperatingPoint(conf=row["conf"], iou=row["iou"])), labelled)
        expected = evaluate_detection(labelled, found, iou_type="segm", conf=row["conf"])
        assert (row["AP"], row["F1"]) == (expected["AP"], expected.operating_point.f1)
    assert (result.value, result.best.iou, result.best.conf_by_size) == (1.0, 0.4, (TRUE, TRUE, TRUE))
    assert result.conventions["iou_type"] == "segm"


def test_by_size_and_what_cannot_be_sought(predictor, dataset):
    result = search_thresholds(predictor, dataset, ThresholdGrid(conf=(0.1,), iou=(0.4,)), criterion="AP", by_size=True)
    assert result.best.conf_by_size == (TRUE, 0.1, 0.1), "of medium and large objects there are none"
    assert best_conf_by_size(dataset, predict_dataset(predictor, dataset)) == {
        "small": TRUE,
        "medium": None,
        "large": None,
    }
    with pytest.raises(ConfigError, match="least one value and none twice"):
        ThresholdGrid.load({"conf": (0.1, 0.1)})
    with pytest.raises(ConfigError, match="less than or equal to 1"):
        ThresholdGrid.load({"iou": (1.5,)})
    with pytest.raises(ConfigError, match="criterion must be one of"):
        search_thresholds(predictor, dataset, criterion="mAP")
