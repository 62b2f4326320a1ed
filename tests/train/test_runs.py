"""Whole runs on tiny data: what they leave behind, resuming, refusing."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import sightline
from sightline.core.errors import ConfigError, DataError, SightlineError
from sightline.core.predictions import Predictions
from sightline.core.preprocess import Preprocess
from sightline.core.runs import RunFolder
from sightline.data import read_dataset, write_dataset
from sightline.evaluate import evaluate_detection
from sightline.models import create, load_model, save_weights
from sightline.models.weights_file import read_weights, read_weights_meta
from sightline.models.yolo.detector import YoloDetector
from sightline.train import TrainConfig, resume, train
from sightline.train import loop as loop_module
from sightline.train import recorder as recorder_module
from sightline.train import run as run_module
from sightline.train.data import splits as splits_module
from sightline.train.data.images import NetworkImages
from sightline.train.data.splits import prepare_data
from sightline.train.data.store import ImageStore
from sightline.train.facts import describe_labels
from sightline.train.recorder import Recorder
from sightline.train.rules import GradientMeter
from sightline.train.state import read_state
from sightline.train.validation import Validator


def settings(data, **values):
    given = {"model": "yolo11n", "imgsz": 64, "batch": 4, "epochs": 2, "precision": "fp32", "pictures_every": 1}
    return TrainConfig.load({"data": str(data), **given, **values})


def test_a_run_leaves_everything_behind(traffic, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "detect", "one")
    result = train(settings(traffic, val_fraction=0.35, seed=7), run, watcher)
    files = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    stems = [Path(path).stem for path in read_dataset(traffic).split("val").images["path"]]
    shown = list(enumerate(stems, start=1))
    assert files == {
        "config.yaml", "run.json", "metrics.jsonl", "results.csv", "evaluation.json", "predictions.parquet",
        "weights/best.safetensors", "weights/last.ckpt", *(f"figures/strip-{n}-{stem}.jpg" for n, stem in shown),
        *(f"figures/panels/{n}-{epoch:06d}.jpg" for n, _ in shown for epoch in (1, 2)),
    }  # fmt: skip
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"train/box", "train/cls", "train/dfl", "val/mAP50", "val/mAP50-95"} <= rows[0].keys()
    assert pl.read_csv(run.path / "results.csv").height == 2
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["data_digest"] == read_dataset(traffic).digest()
    assert TrainConfig.read(run.path / "config.yaml") == settings(traffic, val_fraction=0.35, seed=7)
    saved = Predictions.load(run.path / "predictions.parquet")
    again = evaluate_detection(read_dataset(traffic).split("val"), saved)
    assert again.to_dict()["metrics"] == result.evaluation.to_dict()["metrics"]
    assert load_model(result.weights).class_names == read_dataset(traffic).class_names
    assert read_weights_meta(result.weights).division.model_dump() == {"val_fraction": 0.35, "seed": 7}


def test_a_run_learns_by_the_arguments_it_is_given_and_counts_what_is_learnt(traffic, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "detect")
    chosen = settings(traffic, epochs=1, pictures_every=0, arguments={"assigner": "simota", "box_loss": "giou"})
    result = train(chosen, run, watcher)
    assert json.loads((run.path / "run.json").read_text())["model"]["arguments"]["assigner"] == "simota"
    assert read_weights_meta(result.weights).arguments["box_loss"] == "giou"
    row = json.loads((run.path / "metrics.jsonl").read_text())
    assert row["watch/learnt_share"] > 0.9
    assert 0 < row["watch/positive_share"] < 0.5
    with pytest.raises(ConfigError, match="unknown argument of model 'yolo11n' 'box_los'"):
        train(settings(traffic, arguments={"box_los": "giou"}), RunFolder.create(tmp_path, "detect"), watcher)


def test_models_are_measured_in_fp32_whatever_they_are_trained_in(traffic, tmp_path, watcher, monkeypatch):
    predict, seen = Validator.predict, []

    def watched(validator, model, arithmetic, *arguments, **more):
        seen.append(arithmetic.precision)
        return predict(validator, model, arithmetic, *arguments, **more)

    monkeypatch.setattr(Validator, "predict", watched)
    run = RunFolder.create(tmp_path, "detect")
    train(settings(traffic, epochs=1, pictures_every=0, precision="bf16"), run, watcher)
    assert seen == ["fp32", "fp32"]  # behind the epoch, and of the best weights
    row = json.loads((run.path / "metrics.jsonl").read_text())
    judged = json.loads((run.path / "evaluation.json").read_text())
    assert row["val/mAP50-95"] == judged["metrics"]["AP"]
    facts = json.loads((run.path / "run.json").read_text())["precision"]
    assert (facts["precision"], facts["measured_in"]) == ("bf16", "fp32")


@pytest.mark.parametrize("found", [0, 3])
def test_an_operating_point_is_kept_only_where_something_was_found(traffic, tmp_path, watcher, monkeypatch, found):
    def evaluate(validator, predictions, resamples=0, foreground=None):
        result = evaluate_detection(validator.dataset, predictions)
        return replace(result, operating_point=replace(result.operating_point, conf=0.4, true_positives=found))

    monkeypatch.setattr(Validator, "evaluate", evaluate)
    result = train(settings(traffic, epochs=1, pictures_every=0), RunFolder.create(tmp_path, "detect"), watcher)
    assert not (result.run / "figures").exists()
    point = read_weights(result.weights)[0].operating_point
    assert (None if point is None else point.conf) == (0.4 if found else None)


def test_what_training_started_from_stays_with_the_weights(traffic, tmp_path, watcher):
    start = tmp_path / "start.safetensors"
    save_weights(start, create("yolo11n", class_names=["thing"], imgsz=64), {"licence": "AGPL-3.0"})
    values = {"epochs": 1, "pictures_every": 0, "weights": str(start)}
    result = train(settings(traffic, **values), RunFolder.create(tmp_path, "detect"), watcher)
    meta = read_weights_meta(result.weights)
    assert meta.licence == "AGPL-3.0"
    assert meta.training["started_from"]["model_digest"] == read_weights_meta(start).model_digest


def interrupt_in_second_epoch(recorder, batch):
    if recorder.learner.epoch == 1:
        raise KeyboardInterrupt
    step_done(recorder, batch)


step_done = Recorder.after_batch


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
        patch.setattr(Recorder, "after_batch", interrupt_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(settings(traffic, epochs=3), cut, watcher)
    assert json.loads((cut.path / "run.json").read_text())["status"] == "interrupted"
    assert len((cut.path / "metrics.jsonl").read_text().splitlines()) == 1
    resumed = resume(cut.path, watcher)
    assert resumed.evaluation.to_dict()["metrics"] == whole.evaluation.to_dict()["metrics"]
    left, right = (torch.load(r.run / "weights" / "last.ckpt", weights_only=True) for r in (whole, resumed))
    for part in ("weights", "optimizer", "average", "place"):
        assert_same(left["learner"][part], right["learner"][part])
    lines = (cut.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert all(type(json.loads(line)["epoch"]) is int for line in lines), "the report takes no other"
    pictures = [{p.name: p.read_bytes() for p in (r.run / "figures").rglob("*.jpg")} for r in (whole, resumed)]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 2 * (1 + 3), "of two images a strip and three panels"


def test_segmentation_trains_and_reports_the_foreground(cracks, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "semantic")
    result = train(settings(cracks, model="unet-small", imgsz=64), run, watcher)
    assert {"foreground_dice", "foreground_sensitivity", "foreground_specificity"} <= result.evaluation.metrics.keys()
    assert "val/dice" in watcher.epochs[0]
    assert_threshold_is_chosen_and_kept(result, cracks)


def assert_threshold_is_chosen_and_kept(result, data):
    """Of all thresholds the one with the best Dice, which the weights then run and are measured with."""
    chosen, curves = result.evaluation.operating_point, result.evaluation.curves
    assert chosen.origin == "best Dice on these very images, and so flattering"
    assert result.evaluation["foreground_dice"] >= np.nanmax(curves.dice)
    model = sightline.Model(result.weights, device="cpu")
    assert model.predictor.foreground_conf == chosen.conf
    measured = model.val(data)
    assert measured.operating_point.origin == "the model's own, chosen on its validation images"
    for name in ("foreground_dice", "foreground_iou", "foreground_average_precision", "mcc_image_mean"):
        assert measured[name] == pytest.approx(result.evaluation[name], abs=1e-3)
    other = model.val(data, conf=1.0)
    assert (other.operating_point.conf, other.operating_point.origin) == (1.0, "given")
    assert other["foreground_roc_auc"] == measured["foreground_roc_auc"]


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
    monkeypatch.setattr(YoloDetector, "loss", lambda self, raw, targets, total: {"box": raw[0].sum() * float("nan")})
    with pytest.raises(SightlineError, match=r"loss term 'box' must be a number, got nan in epoch 1.*\.jpg"):
        train(settings(traffic), RunFolder.create(tmp_path, "detect"), watcher)


def test_a_gradient_that_is_not_a_number_names_the_weights_and_the_images(traffic, tmp_path, watcher, monkeypatch):
    """The root of zero is finite, its slope times zero is not: the loss alone shows nothing."""
    monkeypatch.setattr(YoloDetector, "loss", lambda self, raw, targets, total: {"box": ((raw[0] * 0).sum()).sqrt()})
    with pytest.raises(SightlineError, match=r"gradients must be finite.*weight.*in epoch 1, step 1 \(.*\.jpg"):
        train(settings(traffic), RunFolder.create(tmp_path, "detect"), watcher)


def test_steps_that_fp16_skips_are_an_error_when_they_do_not_end(cracks, tmp_path, watcher, monkeypatch):
    """Six images in twos: three steps an epoch, each skipped; the fourth in a row is one too many."""
    monkeypatch.setattr(loop_module, "loss_scaler", lambda arithmetic: torch.amp.GradScaler("cpu"))
    monkeypatch.setattr(loop_module, "MOST_SKIPPED", 4)
    monkeypatch.setattr(GradientMeter, "clip", lambda self, network, limit: ["head.weight"])
    with pytest.raises(SightlineError, match=r"gradients must be finite.*head\.weight.*in epoch 2, step 4"):
        train(settings(cracks, model="unet-small", batch=2), RunFolder.create(tmp_path, "semantic"), watcher)


def test_scaled_losses_train_as_plain_ones(cracks, tmp_path, watcher, monkeypatch):
    """The scale is a power of two, which rounds nothing; only fused optimisers round apart from plain ones."""
    config = settings(cracks, model="unet-small", epochs=1, pictures_every=0, optimizer={"name": "sgd"})
    states = []
    for scale in (None, 2.0**10):
        with monkeypatch.context() as patch:
            made = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
            patch.setattr(loop_module, "loss_scaler", lambda arithmetic, made=made: made)
            run = train(config, RunFolder.create(tmp_path, "semantic"), watcher).run
        states.append(torch.load(run / "weights" / "last.ckpt", weights_only=True)["learner"])
    assert states[0]["scaler"] is None
    assert states[1]["scaler"]["scale"] == 2.0**10
    for name, value in states[0]["weights"].items():
        assert torch.allclose(value, states[1]["weights"][name], rtol=1e-5, atol=1e-7), name


def test_a_state_that_cannot_be_gone_on_from_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6"}, path)
    with pytest.raises(ConfigError, match=r"must be the state of this run, got one of another version of sightline"):
        read_state(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="must be the state of this run, got"):
        read_state(path)


def test_resuming_what_is_no_run_is_refused(tmp_path, watcher):
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        resume(tmp_path, watcher)


def test_a_run_cut_before_its_first_step_starts_over(traffic, tmp_path, watcher, monkeypatch):
    def interrupt(self, workers, progress):
        raise KeyboardInterrupt

    run = RunFolder.create(tmp_path, "detect")
    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "fill", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings(traffic, epochs=1), run, watcher)
    assert not (run.weights / "last.ckpt").exists()
    assert resume(run.path, watcher).epochs == 1


def test_a_resumed_run_keeps_its_first_command_and_its_data(traffic, tmp_path, watcher, monkeypatch):
    copied = tmp_path / "copied"
    shutil.copytree(traffic, copied)
    run = RunFolder.create(tmp_path, "detect")
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after_batch", interrupt_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(settings(copied), run, watcher, ["sightline", "train", "first"])
    first = json.loads((run.path / "run.json").read_text())
    image = next((copied / "images" / "train").glob("*.jpg"))
    whole = image.read_bytes()
    image.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="must be the one the run began with"):
        resume(run.path, watcher)
    image.write_bytes(whole)
    resume(run.path, watcher, ["sightline", "train", "--resume"])
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "finished"
    assert (facts["command"], facts["started"]) == (["sightline", "train", "first"], first["started"])
    assert [r["command"] for r in facts["resumed"]] == [["sightline", "train", "--resume"]]
    assert facts["duration_s"] >= sum(row["seconds"] for row in watcher.epochs[:1])
    with pytest.raises(ConfigError, match="got a finished one"):
        resume(run.path, watcher)


def metrics_of(*values):
    """A stand-in for the headline numbers: one value for each epoch."""
    left = iter(values)
    return lambda evaluation: {"mAP50-95": next(left)}


def test_a_metric_that_is_not_a_number_does_not_block_a_later_best(traffic, tmp_path, watcher, monkeypatch):
    monkeypatch.setattr(recorder_module, "headline", metrics_of(float("nan"), 0.1, float("nan")))
    run = RunFolder.create(tmp_path, "detect")
    assert train(settings(traffic, epochs=3, pictures_every=0), run, watcher).best_epoch == 2
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["best"] == {"epoch": 2, "metric": "mAP50-95", "value": 0.1}
    assert "nan" not in (run.path / "metrics.jsonl").read_text().lower()


def test_training_stops_early_and_does_not_go_on_when_resumed(traffic, tmp_path, watcher, monkeypatch):
    monkeypatch.setattr(recorder_module, "headline", metrics_of(0.1, 0.3, 0.2, 0.3, 0.9, 0.9))
    run = RunFolder.create(tmp_path, "detect")

    def interrupt(session, seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings(traffic, epochs=9, patience=2, pictures_every=0), run, watcher)
    assert [row["epoch"] for row in watcher.epochs] == [1, 2, 3, 4]
    assert "stopping early" in watcher.notes[-1]
    result = resume(run.path, watcher)
    assert (result.epochs, result.best_epoch) == (4, 2)
    assert json.loads((run.path / "run.json").read_text())["best"]["metric"] == "mAP50-95"


def test_a_full_disk_leaves_the_last_state_as_it_was(traffic, tmp_path, watcher, monkeypatch):
    run = RunFolder.create(tmp_path, "detect")
    kept = []

    def fail(path, data):
        if path.suffix == ".ckpt" and watcher.epochs:
            kept.append((run.weights / "last.ckpt").read_bytes())
            write(path, b"half of a state")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        train(settings(traffic, pictures_every=0), run, watcher)
    assert [path.name for path in sorted(run.weights.iterdir())] == ["best.safetensors", "last.ckpt"]
    assert (run.weights / "last.ckpt").read_bytes() == kept[0]
    assert json.loads((run.path / "run.json").read_text())["status"] == "failed"


def test_data_of_another_task_is_refused_and_leaves_no_run(traffic, cracks, tmp_path, watcher):
    for data, model in ((cracks, "yolo11n"), (traffic, "unet-small")):
        run = RunFolder.create(tmp_path, "any", "one")
        with pytest.raises(ConfigError, match=r"must fit data of task"):
            train(settings(data, model=model), run, watcher)
        assert not run.path.exists()


def test_what_is_labelled_and_not_learned_is_counted(traffic, tmp_path, watcher):
    dataset = read_dataset(traffic).split("train")
    dataset = replace(dataset, objects=dataset.objects.with_columns(ignore=pl.int_range(pl.len()) < 2))
    images = NetworkImages(dataset, Preprocess(size_hw=(192, 192)))  # twice the images' own size
    sides = dataset.usable_objects.select(
        pl.min_horizontal(pl.col("x2") - pl.col("x1"), pl.col("y2") - pl.col("y1"))
    ).to_series()
    limit = 2 * float(sides.median()) + 0.25
    small = int((sides * 2 < limit).sum())
    assert 0 < small < dataset.usable_objects.height
    first, second = describe_labels(images, settings(traffic, augment={"min_side_px": limit}))
    assert first.startswith("2 crowd or ignored objects of the training split")
    assert second.startswith(f"{small} training objects are below")


def test_a_split_without_objects_or_images_of_no_split_are_said(traffic, tmp_path, monkeypatch):
    made = tmp_path / "yolo"
    write_dataset(read_dataset(traffic), made, "yolo")
    for label in (made / "labels" / "val").glob("*.txt"):
        label.write_text("")
    with pytest.raises(DataError, match="split 'val' must have usable objects"):
        prepare_data(settings(made))
    whole = read_dataset(traffic)
    third = whole.images.with_columns(split=pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise(pl.col("split")))
    monkeypatch.setattr(splits_module, "read_dataset", lambda path: replace(whole, images=third))
    assert prepare_data(settings(traffic)).notes == ("1 images are in neither 'train' nor 'val' and not used",)
