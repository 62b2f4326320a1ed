"""From keypoints to keypoints: a small pose model is trained, measured, exported, run and drawn."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import supervision as sv
import yaml

import sightline
from sightline.core.errors import ConfigError, DataError, ModelError, ParityError
from sightline.core.keypoints import PERSON, Keypoints, keypoints_of
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.data import read_dataset, read_predictions, write_dataset
from sightline.deploy import check_parity
from sightline.draw import Drawer
from sightline.evaluate import evaluate_pose
from sightline.infer import (
    NetworkPredictor,
    TiledPredictor,
    Tiling,
    create_sinks,
    open_predictor,
    open_source,
    run_pipeline,
)
from sightline.models import MODELS
from sightline.models.blocks import ConvBnAct
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.plan import Row
from sightline.models.yolo.pose_head import PoseHead
from sightline.testing import check_predictor
from sightline.train.data.keypoint_targets import keypoint_targets
from sightline.train.strips import draw_strips

ROWS = tuple(
    Row(name, partial(ConvBnAct, kernel=3, stride=2), width)
    for name, width in (("stem", 8), ("down2", 16), ("out3", 16), ("out4", 24), ("out5", 32))
)
NAMES = ["left end", "right end", "middle"]


def build_small(
    class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 64, keypoints: Keypoints = PERSON
) -> YoloDetector:
    head, arguments = partial(PoseHead, keypoints=keypoints), {"imgsz": imgsz, "keypoints": keypoints}
    return YoloDetector("small-pose", ROWS, head, class_names, arguments)


def write_sticks(folder: Path, **values: object) -> Path:
    """A YOLO set of bright sticks with a point at each end and one between them; the last stick's ends are unknown."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(40, 60, (64, 80, 3), np.uint8)
            lines = []
            for top in (8, 36):
                left, width = int(rng.integers(4, 20)), int(rng.integers(24, 50))
                cv2.rectangle(image, (left, top), (left + width - 1, top + 15), (230, 230, 60), -1)
                x, y = np.array([left, left + width, left + width / 2]) / 80, (top + 8) / 64
                seen = (2, 1, 2) if number else (0, 0, 2)
                points = " ".join(f"{a:.6f} {y:.6f} {v}" for a, v in zip(x, seen, strict=True))
                lines.append(f"0 {x[2]:.6f} {y:.6f} {width / 80:.6f} {16 / 64:.6f} {points}\n")
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
            (folder / "labels" / split / f"{number}.txt").write_text("".join(lines))
    described = {"path": ".", "train": "images/train", "val": "images/val", "names": ["stick"], "kpt_shape": [3, 3]}
    (folder / "data.yaml").write_text(yaml.safe_dump({**described, "flip_idx": [1, 0, 2], **values}))
    return folder


@pytest.fixture(scope="module")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sticks(tmp_path_factory.mktemp("sticks"), kpt_names={0: NAMES})


@pytest.fixture(scope="module")
def trained(sticks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sightline.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "small-pose", build_small)
        model = sightline.Model("small-pose")
        settings = {"epochs": 2, "batch": 4, "precision": "fp32", "workers": 0, "augment.mosaic": 0.5}
        model.train(sticks, runs=tmp_path_factory.mktemp("runs"), **settings)
        yield model


def run_of(model: sightline.Model) -> Path:
    assert model.file is not None
    return model.file.parents[1]


def test_an_image_without_objects_is_shown_where_keypoints_have_no_names(tmp_path: Path) -> None:
    """A part of the data alone does not know how many keypoints there are; the strips are drawn image by image."""
    dataset = read_dataset(write_sticks(tmp_path / "set")).split("val")
    path, image_id = dataset.images.select("path", "image_id").row(1)
    bare = replace(dataset, objects=dataset.objects.filter(pl.col("image_id") != image_id))
    nothing = predictions_from_rows([], {"task": "pose", "class_names": list(dataset.class_names)})
    draw_strips(bare, nothing, tmp_path / "strips", [1], conf=0.5)
    assert [p for p in (tmp_path / "strips").glob("*.jpg") if Path(path).stem in p.stem]


def test_the_run_says_what_is_of_poses_and_what_of_boxes(trained: sightline.Model, sticks: Path) -> None:
    run = run_of(trained)
    assert (trained.task, run.parent.name) == ("pose", "pose")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    named = {"val/pose_mAP50-95", "val/box_mAP50-95", "train/points", "train/located", "valloss/points"}
    assert named <= rows[-1].keys()
    assert json.loads((run / "run.json").read_text())["best"]["metric"] == "pose_mAP50-95"
    found = Predictions.load(run / "predictions.parquet")
    assert set(found.table["keypoints"].list.len()) == {9}
    measured = evaluate_pose(read_dataset(sticks).split("val"), found)
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["iou_type"] == "keypoints"
    assert {k: v for k, v in evaluation["metrics"].items() if v is not None} == pytest.approx(
        {k: v for k, v in measured.metrics.items() if not np.isnan(v)}
    )
    assert trained.val(sticks).metrics.keys() == measured.metrics.keys()
    said = Keypoints.load(trained.predictor.metadata.arguments["keypoints"])
    assert (said.names, said.mirror, said.sigmas) == (tuple(NAMES), (1, 0, 2), (1 / 3,) * 3)


@pytest.mark.slow
def test_the_exported_file_gives_the_same_points(trained: sightline.Model, sticks: Path, tmp_path: Path) -> None:
    result = trained.export(tmp_path / "small.onnx", data=sticks, images=3)
    assert result.parity.max_abs_error.keys() == {"boxes_xyxy", "scores", "keypoints_xy", "keypoint_scores"}
    assert result.parity.detections > 0
    assert result.parity.max_keypoint_px < 0.05
    check_predictor(open_predictor(result.path, conf=0.001, max_det=20))


def test_what_is_seen_is_written_and_read_again(trained: sightline.Model, sticks: Path, tmp_path: Path) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=5)
    sinks = create_sinks(["coco", "parquet", "txt", "jsonl"], tmp_path, "seen")
    run_pipeline(open_source(str(sticks / "images" / "val")), predictor, None, list(sinks.values()))
    dataset = read_dataset(sticks).split("val")
    expected = Predictions.load(sinks["parquet"].path).table["keypoints"].to_list()
    assert len(expected) > 10
    for kind in ("coco", "txt", "jsonl"):
        read = read_predictions(sinks[kind].path, dataset)
        assert read.meta["task"] == "pose"
        assert np.allclose(read.table["keypoints"].to_list(), expected, atol=1e-4), kind


def test_points_follow_tiles_and_tracks_and_are_drawn(trained: sightline.Model, sticks: Path) -> None:
    inner = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (64, 120, 3), np.uint8)
    tiled = TiledPredictor(inner, Tiling(tile_hw=(64, 64), overlap=0.1, whole=False))([image])[0]
    parts = [(left, inner([np.ascontiguousarray(image[:, left : left + 64])])[0]) for left in (0, 56)]
    known = {tuple((pose + np.array([left, 0, 0])).ravel()) for left, part in parts for pose in part.data["keypoints"]}
    assert {tuple(pose.ravel()) for pose in tiled.data["keypoints"]} <= known
    seen = list(sightline.Model(trained.file, conf=0.001, max_det=3).track(sticks / "images" / "val", min_hits=1))
    assert all(s.keypoints.shape == (len(s), 3, 3) for s in seen)
    assert any(len(s) for s in seen)


def test_only_points_that_can_be_located_are_drawn_and_joined() -> None:
    pose = np.array([[[10, 50, 0.9], [90, 50, 0.8], [50, 10, 0.2]]])
    found = sv.Detections(np.array([[2.0, 2, 98, 98]]), class_id=np.array([0]), data={"keypoints": pose})
    found.metadata["skeleton"] = ((0, 1), (1, 2))
    blank = np.zeros((100, 100, 3), np.uint8)
    bare = sv.Detections(found.xyxy, class_id=found.class_id)
    changed = (Drawer((100, 100), ["a"]).draw(blank, found) != Drawer((100, 100), ["a"]).draw(blank, bare)).any(2)
    assert changed[50, 10:90].all(), "the line between the two points"
    assert not changed[5:16, 40:61].any(), "the third point"
    assert not changed[20:40].any(), "no line goes there"


def test_points_that_differ_and_outputs_that_do_not_fit_are_refused(trained: sightline.Model, monkeypatch) -> None:
    predictor = open_predictor(trained.file, conf=0.001, max_det=4)
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    other = predictor.at(predictor.thresholds)
    assert check_parity(predictor, other, [image]).max_keypoint_px == 0
    finish = other.finish

    def moved(*given):
        answers = finish(*given)
        for found in answers:
            found.data["keypoints"] = found.data["keypoints"] + (0.1, 0, 0)
        return answers

    monkeypatch.setattr(other, "finish", moved)
    with pytest.raises(ParityError, match=r"keypoints must be within 0\.05 px .*, got 0\.1 and 0"):
        check_parity(predictor, other, [image])
    network = predictor.network
    predictor.network = lambda pixels: [part[..., :2] if part.ndim == 4 else part for part in network(pixels)]
    with pytest.raises(ModelError, match=r"outputs must be for 1 images and 1 classes, got .*'keypoints'"):
        predictor([image])


def test_a_file_that_does_not_say_its_keypoints_is_refused(trained: sightline.Model) -> None:
    bare = trained.predictor.metadata.model_copy(update={"arguments": {}})
    with pytest.raises(ModelError, match=r"must say its keypoints \(arguments\.keypoints\), got none"):
        NetworkPredictor(trained.predictor.network, bare, trained.predictor.thresholds, where="x")


def test_labels_that_say_too_little_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(MODELS, "small-pose", build_small)
    model, runs = sightline.Model("small-pose"), tmp_path / "runs"
    unsaid = write_sticks(tmp_path / "unsaid", flip_idx=[])
    with pytest.raises(ConfigError, match=r"the 3 keypoints must have names with left and right, .* Write flip_idx"):
        model.train(unsaid, runs=runs, epochs=1, **{"augment.flip_lr": 0.5})
    wrong = read_dataset(write_sticks(tmp_path / "wrong", flip_idx=[0, 1, 1]))
    assert "'flip_idx' must be the 3 keypoints 0..2 in their order in a mirror" in wrong.findings[0].message
    assert keypoints_of(wrong).mirror == (0, 1, 2)
    few = {"names": ["a", "b"]}
    with pytest.raises(DataError, match="at most the 2 keypoints that 'small-pose' gives, got 3"):
        model.train(unsaid, runs=runs, epochs=1, **{"augment.flip_lr": 0, "arguments.keypoints": few})
    for file in (unsaid / "labels").rglob("*.txt"):
        rows = [line.split()[:5] for line in file.read_text().splitlines()]
        file.write_text("".join(" ".join(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="objects must have keypoints to train 'small-pose', got 16 objects without"):
        model.train(unsaid, runs=runs, epochs=1)


def test_the_order_in_a_mirror_is_kept_by_formats_and_derived_from_names(tmp_path: Path) -> None:
    dataset = read_dataset(write_sticks(tmp_path / "plain"))
    assert keypoints_of(dataset) == Keypoints(names=("0", "1", "2"), mirror=(1, 0, 2))
    for kind in ("yolo", "coco"):
        write_dataset(dataset, tmp_path / kind, kind)
        assert keypoints_of(read_dataset(tmp_path / kind)).mirror == (1, 0, 2)
    named = read_dataset(write_sticks(tmp_path / "named", kpt_names={0: NAMES}, flip_idx=[]))
    write_dataset(named, tmp_path / "again", "yolo")
    assert yaml.safe_load((tmp_path / "again" / "data.yaml").read_text())["flip_idx"] == [1, 0, 2]
    assert PERSON.mirror == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


def test_objects_with_fewer_points_are_filled_up() -> None:
    one = {"labels": np.zeros(2), "keypoints": np.ones((2, 2, 3), np.float32)}
    targets = keypoint_targets([one, {"labels": np.zeros(1)}], 3)
    assert targets.shape == (3, 3, 3)
    assert targets.sum(-1).tolist() == [[3, 3, 0], [3, 3, 0], [0, 0, 0]]
