"""`sightline convert`: between any two formats, whole or not at all, read back, losses told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.core.dataset import dataset_from_rows
from sightline.data import read_dataset, write_dataset
from sightline.ops import rle


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Two images with a mask each, as COCO; one object is of two parts, one image holds none."""
    masks = np.zeros((2, 24, 32), dtype=bool)
    masks[0, 2:9, 3:12], masks[1, 4:10, 4:8], masks[1, 4:10, 12:20] = True, True, True
    images = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append({"image_id": i, "path": f"{i}.png", "width": 32, "height": 24, "split": "train"})
    rows = []
    for i, mask in enumerate(masks):
        counts = rle.encode(mask)
        corners = dict(zip(("x1", "y1", "x2", "y2"), rle.to_box(counts, mask.shape).tolist(), strict=True))
        rows.append({"image_id": i, "class_id": i, "rle": counts, **corners})
    classes = [{"class_id": 0, "name": "cell"}, {"class_id": 1, "name": "Zelle ü"}]
    dataset = dataset_from_rows(images, rows, classes, root=tmp_path, name="x", task="instance", format="x")
    write_dataset(dataset, tmp_path / "cells", "coco")
    return tmp_path / "cells"


def test_losses_are_told_and_the_result_is_read_back(sightline, cells, tmp_path):
    done = sightline("convert", cells, "deep/yolo", "--to", "yolo", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["read_back"] == {"images": 3, "objects": 2}
    assert {loss["code"]: loss["count"] for loss in result["losses"]} == {"loss-boxes": 1, "loss-parts": 1}
    done = sightline("convert", cells, "files", "--to", "instance-files")
    assert done.returncode == 0, done.stderr
    assert "read back: 3 images, 2 objects" in done.stdout
    assert "nothing of what was read is lost in instance-files" in done.stderr
    done = sightline("convert", "files", "again", "--to", "coco", "--json")
    assert json.loads(done.stdout)["losses"] == []
    assert read_dataset(tmp_path / "again").objects["rle"].to_list() == read_dataset(cells).objects["rle"].to_list()
    left = {p.name for p in tmp_path.iterdir() if p.name.startswith(".")}
    assert not left


def test_task_narrows_what_is_written(sightline, cells, tmp_path):
    done = sightline("convert", cells, "boxes", "--to", "yolo", "--task", "detect", "--json")
    assert done.returncode == 0, done.stderr
    assert {loss["code"] for loss in json.loads(done.stdout)["losses"]} == {"loss-masks"}
    assert read_dataset(tmp_path / "boxes").task == "detect"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--to", "yol"], "unknown format to write 'yol' (nearest: yolo"),
        (["--to", "mot"], "every object must have a track id, got 2 of 2 without"),
        (["--to", "yolo", "--no-copy-images"], "to be left where they are, got no"),
        (["--to", "coco", "--format", "voc"], "must"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(sightline, cells, tmp_path, options, sentence):
    before = sorted(p.name for p in tmp_path.iterdir())
    done = sightline("convert", cells, "out", *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert ".out-" not in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_folder_with_files_is_not_written_to(sightline, cells):
    done = sightline("convert", cells, cells, "--to", "yolo")
    assert done.returncode == 2
    assert "must be a new or empty folder" in done.stderr


def test_labels_alone(sightline, cells, tmp_path):
    done = sightline("convert", cells, "labels", "--to", "coco", "--no-copy-images", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["read_back"] is None
    assert [p.suffix for p in (tmp_path / "labels").rglob("*") if p.is_file()] == [".json"]


def test_ctrl_c_leaves_nothing(tmp_path):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(data / "images/0.png")
    for i in range(20_000):
        if i:
            os.link(data / "images/0.png", data / f"images/{i}.png")
        (data / f"labels/{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    command = [sys.executable, "-m", "sightline", "convert", str(data), "out", "--to", "coco"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob(".out-*/*/*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=100)
    assert process.returncode == 130, log
    assert "Traceback" not in log
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_what_could_not_be_read_is_named_before_nothing_is_said_to_be_lost(sightline, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / f"set/{folder}").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((32, 32, 3), 40 * i, np.uint8)).save(tmp_path / f"set/images/{i}.png")
        (tmp_path / f"set/labels/{i}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "set/images/1.png").write_bytes(b"")
    done = sightline("convert", tmp_path / "set", tmp_path / "out", "--to", "coco")
    assert done.returncode == 0, done.stderr
    assert "image-empty-file" in done.stdout
    assert "images/1.png" in done.stdout
    assert "read back: 2 images, 2 objects" in done.stdout
