"""Files that may grow no further: one sentence, the state before intact, a run that can be continued."""

import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest
import torch

from sightline.core.predictions import PREDICTED_IMAGES_SCHEMA, predictions_from_rows
from sightline.core.runs import RunFolder
from sightline.train import TrainConfig, resume, train
from sightline.train.recorder import Recorder

resource = pytest.importorskip("resource", reason="limits of processes are POSIX")

LIMITED = """
import resource, signal, sys
from sightline.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit is then an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(sys.argv[2:])
"""


def limited(limit, *arguments):
    command = [sys.executable, "-c", LIMITED, str(limit), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings(data):
    given = {"model": "yolo11n", "imgsz": 64, "batch": 4, "epochs": 1, "precision": "fp32", "workers": 0}
    return TrainConfig.load({"data": str(data), **given, "pictures_every": 0})


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.fixture
def cut(traffic, tmp_path, watcher, monkeypatch):
    """A run cut in its first epoch: its state has no moments of the optimiser yet, and there are no best weights."""
    run = RunFolder.create(tmp_path, "detect", "cut")
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after_batch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings(traffic), run, watcher)
    return run


def test_a_file_that_does_not_fit_leaves_the_state_before(cut, traffic, tmp_path, watcher):
    state, weights = cut.weights / "last.ckpt", cut.weights / "best.safetensors"
    kept = state.read_bytes()
    for limit, named in ((len(kept) // 4, weights), (len(kept) + 2**20, state)):
        done = limited(limit, "train", "--resume", cut.path)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-2:] == [
            f"the run stopped; continue with: sightline train --resume {cut.path}",
            f"error: {named}: cannot be written or read (File too large).",
        ]
        assert state.read_bytes() == kept
        assert weights.exists() == (named == state)
        assert {path.name for path in cut.weights.iterdir()} <= {"last.ckpt", "best.safetensors"}
    resumed = resume(cut.path, watcher)
    whole = train(settings(traffic), RunFolder.create(tmp_path, "detect", "whole"), watcher)
    left, right = (
        torch.load(r.run / "weights" / "last.ckpt", weights_only=True)["learner"]["weights"] for r in (whole, resumed)
    )
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_the_state_takes_no_way_through_the_temporary_folder(traffic, tmp_path, watcher, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # may be another disk, and too small
    run = RunFolder.create(tmp_path, "detect")
    train(settings(traffic), run, watcher)
    assert (run.weights / "last.ckpt").is_file()


@contextmanager
def small_files():
    """No file of this process may grow beyond 500 bytes."""
    handler, limits = signal.getsignal(signal.SIGXFSZ), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_predictions_are_written_whole_or_not_at_all(tmp_path):
    nothing = pl.DataFrame(schema=PREDICTED_IMAGES_SCHEMA)
    predictions = replace(predictions_from_rows([], {"class_names": ("car",)}), images=nothing)
    predictions.save(tmp_path / "whole.parquet")
    path = tmp_path / "predictions.parquet"
    with small_files(), pytest.raises(OSError, match="File too large") as caught:
        predictions.save(path)
    assert caught.value.filename == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.parquet"]
