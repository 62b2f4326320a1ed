"""Training in several processes under torchrun: the same run as in one, told and written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sightline.core.files import write_sealed_json
from sightline.core.predictions import Predictions
from sightline.core.process import Launch, read_launch
from sightline.core.runs import RunFolder
from sightline.train import TrainConfig, resume, train
from sightline.train.rules import OutputMeter

SCRIPT = Path(__file__).with_name("two_processes.py")
SETTINGS = {
    "model": "unet-small", "imgsz": [64, 96], "batch": 4, "epochs": 2, "precision": "fp32", "pictures_every": 1,
    "seed": 3,
}  # fmt: skip


def torchrun(*arguments, code=0):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert (done.returncode != 0) == bool(code), done.stderr[-3000:]
    return done


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_launch_is_what_torchrun_says_and_nothing_else():
    told = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert read_launch(told) == Launch()
    assert read_launch({**told, "TORCHELASTIC_RUN_ID": "x"}) == Launch(3, 4, 1, 2)
    assert not read_launch({**told, "TORCHELASTIC_RUN_ID": "x"}).is_first


@pytest.mark.parametrize(("task", "model"), [("semantic", "unet-small"), ("detect", "yolo11n")])
def test_a_step_on_shares_is_the_step_on_the_whole_batch(task, model, traffic, cracks):
    data = cracks if task == "semantic" else traffic
    done = torchrun(str(SCRIPT), task, model, str(data))
    for found in json.loads(done.stdout):
        assert found["terms"] < 1e-4
        assert found["statistics"] < 1e-4
        assert found["gradients"] < 2e-2  # rounding, enlarged by networks of random weights


def test_two_processes_train_validate_and_resume_as_one(cracks, tmp_path, watcher):
    config = TrainConfig.load({"data": str(cracks), **SETTINGS})
    config.save(tmp_path / "run.yaml")
    runs = str(tmp_path / "runs")
    torchrun("-m", "sightline", "train", "--config", str(tmp_path / "run.yaml"), "--runs", runs, "--name", "two")
    two = tmp_path / "runs" / "semantic" / "two"
    one = train(config, RunFolder.create(runs, "semantic", "one"), watcher).run
    for ours, theirs in zip(rows(one), rows(two), strict=True):
        assert theirs["val/dice"] == pytest.approx(ours["val/dice"], abs=0.02)
        assert theirs["train/bce"] == pytest.approx(ours["train/bce"], rel=0.01)
        assert theirs["valloss/bce"] == pytest.approx(ours["valloss/bce"], rel=0.01)
    record = json.loads((two / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["processes"] == {"count": 2, "backend": "gloo"}
    table = Predictions.load(two / "predictions.parquet").table
    assert table.select("image_id", "class_id").is_duplicated().sum() == 0
    assert len(list((two / "figures").iterdir())) == len(list((one / "figures").iterdir()))
    # A run of two goes on in one: weights, optimiser and place do not depend on how many there were.
    record["status"] = "interrupted"
    write_sealed_json(two / "run.json", record)
    longer = TrainConfig.load({"data": str(cracks), **SETTINGS, "epochs": 3})
    longer.save(two / "config.yaml")
    state = torch.load(two / "weights" / "last.ckpt", weights_only=True)
    torch.save({**state, "settings": longer.model_dump(mode="json")}, two / "weights" / "last.ckpt")
    before = state["learner"]["place"]["steps"]
    assert resume(two, watcher).epochs == 3
    assert len(rows(two)) == 3
    assert torch.load(two / "weights" / "last.ckpt", weights_only=True)["learner"]["place"]["steps"] == before * 3 // 2


def test_an_error_is_said_once(tmp_path):
    arguments = ["train", "--data", str(tmp_path / "none"), "--model", "unet-small", "--runs", str(tmp_path / "runs")]
    done = torchrun("-m", "sightline", *arguments, code=1)
    said = [line for line in done.stderr.splitlines() if "error:" in line and "none" in line]
    assert len(said) == 1, done.stderr
    assert "exitcode  : 2" in done.stderr
    assert not list((tmp_path / "runs").rglob("config.yaml"))


def test_other_verbs_are_refused(tmp_path, monkeypatch, capsys):
    from sightline.cli.main import main

    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(tmp_path)])
    assert ended.value.code == 2
    assert "got 2 of 'sightline audit'" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["semantic", "detect"])
def test_meters_of_two_shares_say_what_one_would_even_if_one_is_empty(task):
    def seen(scores):
        meter = OutputMeter(task)
        meter.update(scores if task == "semantic" else (torch.zeros(len(scores), 6, 4), scores))
        return meter

    torch.manual_seed(0)
    scores = torch.rand(3, 3, 32, 32) if task == "semantic" else torch.rand(3, 6, 3)
    whole = seen(scores).take()
    for cut in (1, 3):
        joined = OutputMeter(task)
        for share in (scores[:cut], scores[cut:]):
            joined.add(seen(share))
        assert joined.take() == pytest.approx(whole)
