"""From four corners to four corners: a small model of oriented boxes is trained, measured, exported, run and drawn."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml

import sightline
from sightline.core.errors import DataError, ModelError, ParityError
from sightline.core.predictions import Predictions
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset, read_predictions
from sightline.deploy import check_parity
from sightline.draw import JUDGED, Drawer, View, draw_judged, judge
from sightline.evaluate import evaluate_detection, evaluate_oriented, score_detection_images
from sightline.infer import TiledPredictor, Tiling, create_sinks, open_predictor, open_source, run_pipeline
from sightline.models import MODELS
from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.obb_head import ObbHead
from sightline.models.yolo.plan import Row
from sightline.ops.oriented import box_corners, fit_boxes, oriented_boxes, oriented_iou, upright
from sightline.testing import check_predictor
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Draw
from sightline.train.data.images import NetworkImages, Wanted

ROWS = tuple(
    Row(name, partial(ConvBnAct, kernel=3, stride=2), width)
    for name, width in (("stem", 8), ("down2", 16), ("out3", 16), ("out4", 24), ("out5", 32))
)


def build_small(class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 64) -> YoloDetector:
    return YoloDetector("small-obb", ROWS, ObbHead, class_names, {"imgsz": imgsz})


def write_cards(folder: Path) -> Path:
    """YOLO rows of a class and four corners, of bright cards turned any way."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(40, 60, (64, 80, 3), np.uint8)
            lines = []
            for middle in ((24, 32), (58, 32)):
                card = [*(np.array(middle) + rng.uniform(-3, 3, 2)), *rng.uniform((18, 6), (26, 12)), rng.uniform(0, 3)]
                ring = box_corners([card])[0]
                cv2.fillPoly(image, [np.round(ring).astype(np.int32)], (230, 230, 60))
                lines.append("0 " + " ".join(f"{v:.8f}" for v in (ring / (80, 64)).ravel()) + "\n")
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
            (folder / "labels" / split / f"{number}.txt").write_text("".join(lines))
    described = {"path": ".", "train": "images/train", "val": "images/val", "names": ["card"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(described))
    return folder


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def trained(cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sightline.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "small-obb", build_small)
        model = sightline.Model("small-obb")
        settings = {"epochs": 2, "batch": 4, "precision": "fp32", "workers": 0, "augment.mosaic": 0.5}
        model.train(cards, runs=tmp_path_factory.mktemp("runs"), **settings)
        yield model


def run_of(model: sightline.Model) -> Path:
    assert model.file is not None
    return model.file.parents[1]


def test_the_run_says_what_is_of_oriented_boxes_and_what_of_boxes(trained: sightline.Model, cards: Path) -> None:
    run = run_of(trained)
    assert (trained.task, run.parent.name) == ("obb", "obb")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"val/obb_mAP50-95", "val/box_mAP50-95", "train/box", "train/dfl", "valloss/box"} <= rows[-1].keys()
    assert json.loads((run / "run.json").read_text())["best"]["metric"] == "obb_mAP50-95"
    found = Predictions.load(run / "predictions.parquet")
    measured = evaluate_oriented(read_dataset(cards).split("val"), found)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["iou_type"] == "obb"
    assert {k: v for k, v in evaluation["metrics"].items() if v is not None} == pytest.approx(
        {k: v for k, v in measured.metrics.items() if not np.isnan(v)}
    )
    assert trained.val(cards).metrics.keys() == measured.metrics.keys()


@pytest.mark.parametrize(
    "policy",
    [
        {"flip_lr": 0.5, "flip_ud": 0.5},
        {"rotate": 90.0, "scale": 0.3, "translate": 0.3},
        {"mosaic": 1.0, "crop": 0.5, "min_visible": 0.0},
        {"shear": 20.0},
    ],
)
def test_targets_lie_on_their_cards_whatever_is_done(cards: Path, policy: dict[str, float]) -> None:
    """The share of a target that is bright, and the bright pixels that lie in one: both nearly all."""
    dataset = read_dataset(cards).split("train")
    changed = Augmentation.none().model_copy(update=policy)
    images = NetworkImages(dataset, Preprocess(size_hw=(96, 96)), changed, wanted=Wanted(oriented=True))
    seen = 0
    for seed in range(6):
        batch = images.collate([images[Draw(row, seed)] for row in range(len(images))])
        turned = batch.targets["oriented"].numpy()
        assert np.allclose(batch.targets["boxes"].numpy(), upright(box_corners(turned)), atol=1e-3)
        for image in range(len(images)):
            bright = batch.images[image, 1].numpy() > 150
            covered = np.zeros((96, 96), np.uint8)
            for ring in box_corners(turned[batch.targets["batch_index"].numpy() == image]):
                inside = np.zeros((96, 96), np.uint8)
                cv2.fillPoly(inside, [np.round(ring - 0.5).astype(np.int32)], 1)
                if inside.sum() > 60:
                    seen += 1
                    assert bright[inside > 0].mean() > (0.6 if "shear" in policy or "crop" in policy else 0.7)
                covered |= inside
            outside = bright & (cv2.dilate(covered, np.ones((5, 5), np.uint8)) == 0)
            assert outside.sum() < 30
    assert seen > 40


@pytest.mark.slow
def test_the_exported_file_gives_the_same_boxes(trained: sightline.Model, cards: Path, tmp_path: Path) -> None:
    result = trained.export(tmp_path / "small.onnx", data=cards, images=3)
    assert result.parity.max_abs_error.keys() == {"boxes_xyxy", "scores", "oriented_xywh", "angles"}
    assert result.parity.detections > 0
    check_predictor(open_predictor(result.path, conf=0.001, max_det=20))


def test_what_is_seen_is_written_and_read_again(trained: sightline.Model, cards: Path, tmp_path: Path) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=5)
    sinks = create_sinks(["coco", "parquet", "txt", "jsonl"], tmp_path, "seen")
    run_pipeline(open_source(str(cards / "images" / "val")), predictor, None, list(sinks.values()))
    dataset = read_dataset(cards).split("val")
    expected = box_corners(Predictions.load(sinks["parquet"].path).table["oriented"].to_list())
    assert len(expected) > 5
    for kind in ("coco", "txt", "jsonl"):
        read = read_predictions(sinks[kind].path, dataset)
        corners = box_corners(read.table["oriented"].to_list())
        gaps = np.abs(corners[:, :, None] - expected[:, None]).max(-1)
        assert gaps.min(2).max() < 1e-3, kind
        assert evaluate_detection(dataset, read, iou_type="obb").iou_type == "obb"


def test_tiles_put_oriented_boxes_where_they_are(trained: sightline.Model) -> None:
    inner = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (64, 120, 3), np.uint8)
    tiled = TiledPredictor(inner, Tiling(tile_hw=(64, 64), overlap=0.1, whole=False))([image])[0]
    parts = [(left, inner([np.ascontiguousarray(image[:, left : left + 64])])[0]) for left in (0, 56)]
    known = np.array([box + np.array([left, 0, 0, 0, 0]) for left, part in parts for box in part.data["oriented"]])
    away = np.abs(tiled.data["oriented"][:, None] - known).max(2)
    assert away.min(1).max() < 1e-2  # both tiles went through the network at once there
    assert np.allclose(tiled.data["xyxyxyxy"], box_corners(tiled.data["oriented"]))
    seen = sightline.Model(trained.file, conf=0.001, max_det=3).predict(image)[0]
    assert seen.oriented.shape == (len(seen), 5)


def test_the_box_is_drawn_as_it_lies() -> None:
    corners = box_corners([[50, 50, 60, 20, np.pi / 4]])
    found = sv.Detections(upright(corners), class_id=np.array([0]), data={"xyxyxyxy": corners})
    drawn = Drawer((100, 100), [""]).draw(np.zeros((100, 100, 3), np.uint8), found).any(2)
    for start, stop in zip(corners[0], np.roll(corners[0], -1, 0), strict=True):
        x, y = ((start + stop) / 2).round().astype(int)
        assert drawn[y - 2 : y + 3, x - 2 : x + 3].any()
    assert not drawn[24:30, 70:].any(), "no corner of the upright box"


def test_judged_boxes_are_drawn_as_they_lie(trained: sightline.Model, cards: Path) -> None:
    """The line of a missed card goes along its edge, and none goes around the upright box."""
    found = Predictions.load(run_of(trained) / "predictions.parquet")
    dataset = read_dataset(cards).split("val")
    (first, *_) = score_detection_images(dataset, found, conf=2.0, iou_type="obb")
    truth, _ = judge(first, ("",))
    assert [box.kind for box in truth] == ["missed", "missed"]
    view = View((0, 0, 80, 64), (256, 320))
    scene = draw_judged(np.zeros((64, 80, 3), np.uint8), view, truth) == JUDGED["missed"]
    drawn = cv2.dilate(scene.all(2).astype(np.uint8), np.ones((15, 15), np.uint8))
    for box in truth:
        for x, y in (box.corners * 4).round().astype(int):
            assert drawn[y - 1, x - 1]
        x1, y1, *_ = (box.box_xyxy * 4).round().astype(int)
        assert not scene[y1 : y1 + 3, x1 : x1 + 3].any()


def test_boxes_that_differ_and_outputs_that_do_not_fit_are_refused(trained: sightline.Model, monkeypatch) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    other = predictor.at(predictor.thresholds)
    assert check_parity(predictor, other, [image]).max_box_px == 0
    finish = other.finish

    def turned(*given):
        answers = finish(*given)
        for found in answers:
            found.data["oriented"] = found.data["oriented"] + (0, 0, 0, 0, 0.3)
        return answers

    monkeypatch.setattr(other, "finish", turned)
    with pytest.raises(ParityError, match=r"got 8 beside 0 that agree"):  # none has a partner
        check_parity(predictor, other, [image])
    network = predictor.network
    predictor.network = lambda pixels: [part[..., :4] if part.shape[-1] == 5 else part for part in network(pixels)]
    with pytest.raises(ModelError, match=r"outputs must be for 1 images and 1 classes, got .*'oriented'"):
        predictor([image])


def test_objects_without_corners_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(MODELS, "small-obb", build_small)
    folder = write_cards(tmp_path / "cards")
    (folder / "labels" / "train" / "3.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=r"3.txt:1: every object must have a polygon to train 'small-obb', got 1 of 15"):
        sightline.Model("small-obb").train(folder, runs=tmp_path / "runs", epochs=1)


def test_of_no_box_there_are_no_corners() -> None:
    nothing = fit_boxes(np.zeros((0, 4, 2)))
    assert nothing.shape == (0, 5)
    assert box_corners(nothing).shape == (0, 4, 2)
    assert oriented_iou(nothing, [[0, 0, 1, 1, 0]]).shape == (0, 1)


def test_labels_of_four_corners_are_the_boxes_they_were(cards: Path) -> None:
    dataset = read_dataset(cards)
    boxes = oriented_boxes(dataset.objects)
    assert np.diag(oriented_iou(boxes, boxes)) == pytest.approx(1)
    assert boxes[:, 2] * boxes[:, 3] == pytest.approx(dataset.objects["area"].to_numpy(), rel=1e-4)
    assert (boxes[:, 4] >= 0).all()
    assert (boxes[:, 4] < np.pi / 2).all()
