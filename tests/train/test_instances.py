"""From outlines to masks and back: a small instance model is trained, measured, exported and run."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import sightline
from sightline.core.errors import ModelError, ParityError
from sightline.core.predictions import Predictions
from sightline.data import read_dataset
from sightline.deploy import check_parity
from sightline.evaluate import evaluate_detection, evaluate_instances
from sightline.infer import TiledPredictor, Tiling, create_sinks, open_predictor, open_source, run_pipeline
from sightline.infer.object_masks import mask_codes
from sightline.models import MODELS
from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.mask_head import MaskHead
from sightline.models.yolo.plan import Row
from sightline.ops import rle
from sightline.testing import check_predictor

ROWS = tuple(
    Row(name, partial(ConvBnAct, kernel=3, stride=2), width)
    for name, width in (("stem", 8), ("down2", 16), ("out3", 16), ("out4", 24), ("out5", 32))
)
SIZES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def build_small(class_names: tuple[str, ...], *, imgsz: int = 96) -> YoloDetector:
    return YoloDetector("small-seg", ROWS, MaskHead, class_names, {"imgsz": imgsz})


@pytest.fixture(scope="module")
def trained(traffic: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sightline.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "small-seg", build_small)
        model = sightline.Model("small-seg")
        settings = {"epochs": 2, "batch": 4, "precision": "fp32", "workers": 0, "augment.mosaic": 0.5}
        model.train(traffic, runs=tmp_path_factory.mktemp("runs"), **settings)
        yield model


def run_of(model: sightline.Model) -> Path:
    assert model.file is not None
    return model.file.parents[1]


def test_the_run_says_what_is_of_masks_and_what_of_boxes(trained: sightline.Model) -> None:
    run = run_of(trained)
    assert (trained.task, run.parent.name) == ("instance", "instance")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    named = {"val/mask_mAP50-95", "val/mask_mAP50", "val/box_mAP50-95", "val/box_mAP50", "train/mask", "valloss/mask"}
    assert named <= rows[-1].keys()
    assert json.loads((run / "run.json").read_text())["best"]["metric"] == "mask_mAP50-95"
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["iou_type"] == "segm"
    assert {"AP", "AP50", "box_AP", "box_AP50"} <= evaluation["metrics"].keys()


def test_masks_and_boxes_are_measured_as_alone_and_alike_everywhere(trained: sightline.Model, traffic: Path) -> None:
    validated = read_dataset(traffic).split("val")
    found = Predictions.load(run_of(trained) / "predictions.parquet")
    assert len(found)
    assert found.table["rle"].null_count() == 0
    both = evaluate_instances(validated, found)
    masks = evaluate_detection(validated, found, iou_type="segm")
    boxes = evaluate_detection(validated, found, conf=masks.operating_point.conf)
    assert {k: v for k, v in both.metrics.items() if not k.startswith("box_")} == pytest.approx(
        masks.metrics, nan_ok=True
    )
    assert [both[f"box_{k}"] for k in SIZES] == pytest.approx([boxes[k] for k in SIZES], nan_ok=True)
    assert trained.val(traffic).metrics == pytest.approx(both.metrics, nan_ok=True, abs=1e-6)


def test_the_exported_file_gives_the_same_masks(trained: sightline.Model, traffic: Path, tmp_path: Path) -> None:
    result = trained.export(tmp_path / "small.onnx", data=traffic, images=3)
    assert result.parity.max_abs_error.keys() == {"boxes_xyxy", "scores", "coefficients", "prototypes"}
    assert result.parity.detections > 0
    assert result.parity.least_mask_iou > 0.98
    check_predictor(open_predictor(result.path, conf=0.001, max_det=20))


def test_what_is_seen_is_drawn_and_written(trained: sightline.Model, traffic: Path, tmp_path: Path) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=5)
    sinks = create_sinks(["coco", "parquet", "csv", "jsonl"], tmp_path, "seen")
    run_pipeline(open_source(str(traffic / "images" / "val")), predictor, None, list(sinks.values()))
    table = Predictions.load(sinks["parquet"].path).table
    entries = json.loads(sinks["coco"].path.read_text())
    assert [e["segmentation"]["counts"].encode() for e in entries] == table["rle"].to_list()
    areas = [rle.area(code) for code in table["rle"]]
    assert pl.read_csv(sinks["csv"].path)["area_px"].to_list() == areas
    lines = [json.loads(line) for line in sinks["jsonl"].path.read_text().splitlines()]
    assert [d["area_px"] for line in lines for d in line["detections"]] == areas


def test_masks_are_tracked_and_shown(trained: sightline.Model, traffic: Path) -> None:
    model = sightline.Model(trained.file, conf=0.001, max_det=3)
    folder = traffic / "images" / "val"
    for seen in (*model.stream(folder), *model.track(folder, min_hits=1)):
        assert seen.masks.shape == (len(seen), *seen.frame.size_hw)
        assert [rle.encode(mask) for mask in seen.masks] == mask_codes(seen.prediction)
    covered = seen.masks.any(0)
    assert (seen.plot().pixels != seen.image).any(2)[covered].mean() > 0.5 * covered.any()


def test_tiles_put_masks_where_they_are(trained: sightline.Model) -> None:
    """What one tile shows, at its place in the whole image."""
    inner = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (96, 180, 3), np.uint8)
    tiled = TiledPredictor(inner, Tiling(tile_hw=(96, 96), overlap=0.1, whole=False))([image])[0]
    assert tiled.mask.shape == (len(tiled), 96, 180)
    codes = set(mask_codes(tiled))
    expected = set()
    for left in (0, 84):
        for mask in inner([np.ascontiguousarray(image[:, left : left + 96])])[0].mask:
            expected.add(rle.encode(np.pad(mask, ((0, 0), (left, 84 - left)))))
    assert codes <= expected


def test_pixels_that_rounding_decides_are_no_difference_of_masks(trained: sightline.Model) -> None:
    """As of a network that hardly learnt: whole masks lie at one half."""
    predictor = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    network, noise = predictor.network, np.random.default_rng(1)

    class Undecided:
        backend = "test"

        def __call__(self, pixels):
            boxes, scores, coefficients, prototypes = network(pixels)
            wave = np.where(noise.random(prototypes.shape) < 0.5, -1e-7, 1e-7)
            wave[:, 0], coefficients[..., 0] = 1.0, 0.0
            return boxes, scores, coefficients, wave.astype(np.float32)

    predictor.network = Undecided()
    other = predictor.at(predictor.thresholds)
    report = check_parity(predictor, other, [image])
    assert report.least_mask_iou is not None
    assert report.least_mask_iou < 0.9


def test_masks_that_differ_and_outputs_that_do_not_fit_are_refused(trained: sightline.Model, monkeypatch) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    other = predictor.at(predictor.thresholds)
    assert check_parity(predictor, other, [image]).least_mask_iou == 1.0
    finish = other.finish

    def without_masks(*given):
        answers = finish(*given)
        for found in answers:
            found.mask = ~np.asarray(found.mask)
        return answers

    monkeypatch.setattr(other, "finish", without_masks)
    with pytest.raises(ParityError, match=r"a mask may differ in 1\.0% of its \d+ pixels, got 11[45]\d\d"):
        check_parity(predictor, other, [image])
    network = predictor.network
    predictor.network = lambda pixels: [part[:, :5] if part.ndim == 4 else part for part in network(pixels)]
    with pytest.raises(ModelError, match=r"outputs must be for 1 images and 4 classes, got .*'prototypes'"):
        predictor([image])
