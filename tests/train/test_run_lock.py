"""A run folder belongs to one process at a time; the system frees it when that process is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sightline.core.errors import ConfigError
from sightline.core.files import locked_folder
from sightline.core.runs import RunFolder
from sightline.train import TrainConfig, resume, train

ALIVE = r"one process at a time, got one that another process works on"


def settings(data, **values):
    given = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 1, "precision": "fp32", "pictures_every": 0}
    return TrainConfig.load({"data": str(data), **given, **values})


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), process.poll()


@pytest.fixture
def alive(cracks, tmp_path):
    """The folder of a run that another process is training, with a loader process of its own; and that process."""
    options = ["--model", "unet-small", "--imgsz", "64", "--batch", "2", "--epochs", "100000", "--workers", "1"]
    command = [sys.executable, "-m", "sightline", "train", "--data", str(cracks), *options, "--name", "alive"]
    run = tmp_path / "runs" / "semantic" / "alive"
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as process:
        wait_for(run / "metrics.jsonl", process)
        yield run, process
        process.kill()


def test_a_run_that_is_alive_is_refused_and_free_once_it_is_killed(alive, cracks, tmp_path, watcher):
    run, process = alive
    settings_before = (run / "config.yaml").read_bytes()
    command = [sys.executable, "-m", "sightline", "train", "--resume", str(run)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "another process works on" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match=ALIVE):
        train(settings(cracks), RunFolder(run), watcher)
    assert (run / "config.yaml").read_bytes() == settings_before
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with locked_folder(run) as is_free:  # at once, though its loader process may still be there
        assert is_free


def test_what_a_killed_process_left_is_removed_when_the_run_goes_on(cracks, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "semantic")
    left = [run.path / ".run-abcd1234.json", run.weights / ".last-abcd1234.ckpt"]
    for path in left:
        path.write_bytes(b"half")
    kept = run.path / ".notes"
    kept.write_text("of the user")
    settings(cracks).save(run.path / "config.yaml")
    assert resume(run.path, watcher).epochs == 1
    assert [path for path in left if path.exists()] == []
    assert kept.exists()


def test_the_lock_lasts_to_the_end_of_the_final_evaluation(cracks, tmp_path, watcher):
    run = RunFolder.create(tmp_path, "semantic")
    seen = []

    def phase(name, total):
        with locked_folder(run.path) as is_free:
            seen.append((name, is_free))

    watcher.phase = phase
    train(settings(cracks), run, watcher)
    assert seen[-1] == ("evaluating the best weights", False)
    assert not any(is_free for _, is_free in seen)
    with locked_folder(run.path) as is_free:
        assert is_free
