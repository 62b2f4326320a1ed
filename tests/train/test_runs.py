"""Whole runs on tiny data: what they leave behind, resuming, refusing."""

import json
import shutil

import polars as pl
import pytest
import torch

from sightline.core.errors import ConfigError, DataError, SightlineError
from sightline.core.predictions import Predictions
from sightline.core.runs import RunFolder
from sightline.data import read_dataset
from sightline.evaluate import evaluate_detection
from sightline.models import load_model
from sightline.models.yolo11 import YOLO11
from sightline.train import TrainConfig, resume, train
from sightline.train.recorder import Recorder


def settings(data, **values):
    given = {"model": "yolo11n", "imgsz": 64, "batch": 4, "epochs": 2, "precision": "fp32", "pictures_every": 1}
    return TrainConfig.load({"data": str(data), **given, **values})


def test_a_run_leaves_everything_behind(traffic, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "detect", "one")
    result = train(settings(traffic), run, watcher)
    files = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert files == {
        "config.yaml", "run.json", "metrics.jsonl", "results.csv", "evaluation.json", "predictions.parquet",
        "weights/best.safetensors", "weights/last.ckpt", "figures/epoch-0001.jpg", "figures/epoch-0002.jpg",
    }  # fmt: skip
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train/box", "train/cls", "train/dfl", "val/mAP50", "val/mAP50-95"} <= rows[0].keys()
    assert pl.read_csv(run.path / "results.csv").height == 2
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["data_digest"] == read_dataset(traffic).digest()
    assert TrainConfig.read(run.path / "config.yaml") == settings(traffic)
    saved = Predictions.load(run.path / "predictions.parquet")
    again = evaluate_detection(read_dataset(traffic).split("val"), saved)
    assert again.to_dict()["metrics"] == result.evaluation.to_dict()["metrics"]
    assert load_model(result.weights).class_names == read_dataset(traffic).class_names


def interrupt_in_second_epoch(recorder, trainer, pl_module, outputs, batch, batch_idx):
    if trainer.current_epoch == 1:
        raise KeyboardInterrupt
    step_done(recorder, trainer, pl_module, outputs, batch, batch_idx)


step_done = Recorder.on_train_batch_end


def assert_same(left, right):
    leaves, shape = torch.utils._pytree.tree_flatten(left)
    others, other_shape = torch.utils._pytree.tree_flatten(right)
    assert shape == other_shape
    assert all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(leaves, others, strict=True)
    )


def test_a_resumed_run_equals_one_that_was_never_cut(traffic, tmp_path, watcher, monkeypatch):
    whole = train(settings(traffic, epochs=3), RunFolder.create(tmp_path, "detect", "whole"), watcher)
    cut = RunFolder.create(tmp_path, "detect", "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", interrupt_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(settings(traffic, epochs=3), cut, watcher)
    assert json.loads((cut.path / "run.json").read_text())["status"] == "interrupted"
    assert len((cut.path / "metrics.jsonl").read_text().splitlines()) == 1
    resumed = resume(cut.path, watcher)
    assert resumed.evaluation.to_dict()["metrics"] == whole.evaluation.to_dict()["metrics"]
    left, right = (torch.load(r.run / "weights" / "last.ckpt", weights_only=True) for r in (whole, resumed))
    assert_same(left["state_dict"], right["state_dict"])
    assert_same(left["optimizer_states"], right["optimizer_states"])
    assert_same(left["callbacks"]["Recorder"]["average"], right["callbacks"]["Recorder"]["average"])
    assert len((cut.path / "metrics.jsonl").read_text().splitlines()) == 3


def test_segmentation_trains_and_reports_the_foreground(cracks, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "semantic")
    result = train(settings(cracks, model="unet-small", imgsz=64), run, watcher)
    assert {"foreground_dice", "foreground_sensitivity", "foreground_specificity"} <= result.evaluation.metrics.keys()
    assert "val/dice" in watcher.epochs[0]


def test_the_same_images_on_both_sides_are_refused(traffic, tmp_path, watcher):
    with pytest.raises(ConfigError, match="split_val"):
        settings(traffic, split_val="train")
    copied = tmp_path / "copied"
    shutil.copytree(traffic, copied)
    train_image = next((copied / "images" / "train").glob("*.jpg"))
    for image in (copied / "images" / "val").glob("*.jpg"):
        shutil.copy(train_image, image)
    with pytest.raises(DataError, match="train"):
        train(settings(copied), RunFolder.create(tmp_path, "detect"), watcher)


def test_a_loss_that_is_not_a_number_names_the_images(traffic, tmp_path, watcher, monkeypatch):
    monkeypatch.setattr(YOLO11, "loss", lambda self, raw, targets: {"box": raw[0].sum() * float("nan")})
    with pytest.raises(SightlineError, match=r"loss term 'box' must be a number, got nan in epoch 1.*\.jpg"):
        train(settings(traffic), RunFolder.create(tmp_path, "detect"), watcher)


def test_resuming_what_is_no_run_is_refused(tmp_path, watcher):
    with pytest.raises(ConfigError, match=r"last\.ckpt"):
        resume(tmp_path, watcher)
