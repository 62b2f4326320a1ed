"""The parts of the trainer: averaging, schedule, batches, augmentation, images."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sightline.audit.splits import hold_out
from sightline.core.errors import ConfigError, DataError
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.data.splits.division import exclude_images
from sightline.train.config import TrainConfig
from sightline.train.data.images import NetworkImages, SeededBatches, normalise_batch
from sightline.train.data.store import Keeping
from sightline.train.machine import choose_arithmetic
from sightline.train.optimizers import WeightAverage


def config(**values):
    return TrainConfig(data="x", model="yolo11n", **values)


def test_average_follows_the_closed_form():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.9, ramp_steps=5)
    expected = float(model.weight.detach())
    for step in range(1, 8):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update(model)
        decay = 0.9 * (1 - np.exp(-step / 5))
        expected = decay * expected + (1 - decay) * step
    assert float(average.module.weight) == pytest.approx(expected, abs=1e-6)


def test_average_copies_integer_buffers_and_survives_saving():
    model = nn.BatchNorm1d(3)
    average = WeightAverage(model, decay=0.5, ramp_steps=1)
    model.train()(torch.randn(8, 3))
    average.update(model)
    assert int(average.module.num_batches_tracked) == 1
    other = WeightAverage(nn.BatchNorm1d(3), decay=0.5, ramp_steps=1)
    other.load_state_dict(average.state_dict())
    assert other.steps == 1
    assert torch.equal(other.module.running_mean, average.module.running_mean)


def test_learning_rate_rises_then_falls_to_its_last_value():
    settings = config(epochs=10, warmup_epochs=2, final_lr_ratio=0.05)
    factors = [settings.schedule.factor(step, 10) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 21)
    assert max(factors) == factors[20] == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(factors[:21]))
    assert all(a > b for a, b in itertools.pairwise(factors[20:]))
    assert settings.schedule.factor(100, 10) == pytest.approx(0.05)


def test_batches_cover_every_image_once_and_depend_on_seed_and_epoch_alone():
    batches = SeededBatches(10, 4, seed=1, shuffle=True)
    first = [key for batch in batches for key in batch]
    again = [key for batch in SeededBatches(10, 4, seed=1, shuffle=True) for key in batch]
    batches.set_epoch(1)
    later = [key for batch in batches for key in batch]
    assert sorted(draw.row for draw in first) == list(range(10))
    assert first == again
    assert later != first
    assert len(batches) == 3


def test_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match="epochs"):
        TrainConfig.load({"data": "x", "model": "y", "epoch": 3})
    with pytest.raises(ConfigError, match="multiple of 32"):
        TrainConfig.load({"data": "x", "model": "y", "imgsz": 100})
    with pytest.raises(ConfigError, match=r"'flip'.*flip_lr"):
        TrainConfig.load({"data": "x", "model": "y", "augment": {"flip": 0.3}})


def test_images_at_network_size_equal_the_preprocessing(traffic):
    dataset = read_dataset(traffic).split("train")
    preprocess = Preprocess(size_hw=(64, 64), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    images = NetworkImages(dataset, preprocess)
    sample = images[0, 0]
    ready = normalise_batch(torch.from_numpy(sample["image"]).permute(2, 0, 1)[None], preprocess)[0].numpy()
    expected = preprocess.normalise(sample["image"])
    assert np.abs(ready - expected).max() < 1e-6
    count = dataset.usable_objects.filter(dataset.usable_objects["image_id"] == dataset.images["image_id"][0]).height
    assert len(sample["labels"]) == count
    assert sum(len(images[i, 0]["labels"]) for i in range(len(images))) == dataset.usable_objects.height


def test_cached_images_equal_fresh_ones(cracks):
    dataset = read_dataset(cracks)
    preprocess = Preprocess(size_hw=(64, 96))
    fresh, cached = NetworkImages(dataset, preprocess), NetworkImages(dataset, preprocess, None, Keeping(True))
    cached.store.fill(2, lambda done: None)
    for row in range(len(fresh)):
        assert np.array_equal(fresh[row, 0]["image"], cached[row, 0]["image"])
        assert np.array_equal(fresh[row, 0]["mask"], cached[row, 0]["mask"])


def test_asking_for_a_missing_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match="CUDA"):
        choose_arithmetic("cuda", "auto")
    assert choose_arithmetic("cpu", "fp32").precision == "fp32"


def test_hold_out_and_exclude(traffic):
    dataset = read_dataset(traffic)
    same, said = hold_out(dataset, train="train", val="val", fraction=0.5, seed=0)
    assert same is dataset
    assert said == []
    name = dataset.images["path"][2].rsplit("/", 1)[-1].rsplit(".", 1)[0]
    assert len(exclude_images(dataset, (name,))) == len(dataset) - dataset.images["path"].str.contains(name).sum()
    with pytest.raises(DataError, match="image to leave out"):
        exclude_images(dataset, ("nothing-like-it",))
