"""Kept images: what is found again is what would be read anew, and nothing stale or damaged is ever used."""

import json
import os
import shutil

import numpy as np
import pytest

from sightline.core.preprocess import Preprocess
from sightline.core.runs import RunFolder
from sightline.data import read_dataset
from sightline.train import TrainConfig, train
from sightline.train.data.store import ImageStore, Keeping, PixelCache


@pytest.fixture
def copied(traffic, tmp_path):
    shutil.copytree(traffic, tmp_path / "data")
    return tmp_path / "data"


def store(data, folder, side=64, **values):
    return ImageStore(read_dataset(data), Preprocess(size_hw=(side, side)), Keeping(folder=folder, **values))


def entries(folder):
    return sorted(folder.rglob("*.pixels"))


def test_what_is_kept_on_disk_equals_what_is_read(copied, tmp_path):
    folder = tmp_path / "cache"
    fresh = ImageStore(read_dataset(copied), Preprocess(size_hw=(64, 64)), Keeping())
    for _ in range(2):
        kept = store(copied, folder)
        for row in range(len(kept)):
            assert np.array_equal(kept.load(row)["image"], fresh.load(row)["image"])
    assert len(entries(folder)) == len(fresh)


def test_a_changed_image_or_setting_is_another_entry(copied, tmp_path):
    folder = tmp_path / "cache"
    before = store(copied, folder).load(0)["image"]
    dataset = read_dataset(copied)
    first, second = (dataset.root / dataset.images["path"][i] for i in range(2))
    times = first.stat()
    first.write_bytes(second.read_bytes())
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not np.array_equal(store(copied, folder).load(0)["image"], before)
    assert store(copied, folder, side=96).load(0)["image"].shape == (96, 96, 3)
    assert len(entries(folder)) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_made_again(copied, tmp_path, damage):
    folder = tmp_path / "cache"
    before = store(copied, folder).load(0)["image"]
    (path,) = entries(folder)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"cut": bytes(data[:-9]), "flipped": bytes(data), "empty": b""}[damage])
    again = store(copied, folder)
    assert np.array_equal(again.load(0)["image"], before)
    assert again.disk.remade == 1
    assert np.array_equal(store(copied, folder).load(0)["image"], before)


def test_a_folder_that_takes_nothing_is_said_once_and_reading_goes_on(copied, tmp_path):
    (tmp_path / "file").write_text("in the way")
    kept = store(copied, tmp_path / "file")
    assert kept.load(0)["image"].shape == (64, 64, 3)
    assert kept.disk.fault is not None
    assert PixelCache(tmp_path / "nothing").get("0" * 64) is None


def test_a_run_measures_its_batch_and_keeps_it(cracks, tmp_path, watcher):
    values = {"model": "unet-small", "imgsz": 32, "epochs": 1, "precision": "fp32", "pictures_every": 0}
    run = RunFolder.create(tmp_path, "semantic")
    train(TrainConfig.load({"data": str(cracks), "batch": "auto", **values}), run, watcher)
    chosen = json.loads((run.path / "run.json").read_text())["chosen"]["batch"]
    assert TrainConfig.read(run.path / "config.yaml").batch == chosen["value"]
    assert any(line.startswith(f"batch {chosen['value']}: ") for line in watcher.notes)


def test_scaled_decoding_is_near_the_full_one_and_never_shares_its_entries(copied, tmp_path):
    folder = tmp_path / "cache"
    full, scaled = (store(copied, folder, side=32, decode=decode) for decode in ("full", "scaled"))
    difference = np.abs(full.load(0)["image"].astype(int) - scaled.load(0)["image"]).mean()
    assert 0 < difference < 8
    assert len(entries(folder)) == 2
