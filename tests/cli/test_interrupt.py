"""Ctrl-C in training, as the terminal sends it: a resumable run, exit code 130, and how to go on."""

import json
import signal
import subprocess
import sys
import time

import pytest

from sightline.train import TrainConfig


def test_ctrl_c_leaves_a_run_that_resume_finishes(sightline, traffic, tmp_path):
    options = [
        "--model",
        "yolo11n",
        "--imgsz",
        "64",
        "--batch",
        "2",
        "--epochs",
        "4",
        "--name",
        "cut",
        "--precision",
        "fp32",
    ]
    command = [sys.executable, "-m", "sightline", "train", "--data", str(traffic), *options]
    run = tmp_path / "runs" / "detect" / "cut"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while not (run / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=200)
    if json.loads((run / "run.json").read_text())["status"] == "finished":
        pytest.skip("this machine finished before it could be interrupted")
    assert process.returncode == 130
    assert "sightline train --resume runs/detect/cut" in log
    assert "Traceback" not in log
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert not (run / "evaluation.json").exists()
    done = sightline("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, TrainConfig.read(run / "config.yaml").schedule.epochs + 1))
