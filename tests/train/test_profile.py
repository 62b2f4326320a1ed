"""Where the time of training goes: every part gets its own time, the parts sum to the whole, advice needs numbers."""

from dataclasses import replace

import pytest
import torch

from sightline.core.errors import ConfigError
from sightline.models.yolo.detector import YoloDetector
from sightline.train import TrainConfig
from sightline.train import loop as loop_module
from sightline.train.data.images import Batch, NetworkImages
from sightline.train.loop import Learner
from sightline.train.optimizers import WeightAverage
from sightline.train.profile import PARTS, Laps, Loading, Machine, advise, profile_training
from sightline.train.rules import GradientMeter

COSTS_MS = {
    (NetworkImages, "__getitem__"): 3,  # of each image
    (Batch, "to"): 50,
    (loop_module, "normalise_batch"): 70,
    (YoloDetector, "forward"): 1100,
    (YoloDetector, "loss"): 130,
    (torch.Tensor, "backward"): 1700,
    (GradientMeter, "clip"): 190,
    (WeightAverage, "update"): 230,
}


class Time:
    """A clock that moves only when something that costs time is done."""

    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns

    def charge(self, monkeypatch, owner, name, ms):
        work = getattr(owner, name)

        def charged(*args, **kwargs):
            self.ns += ms * 10**6
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, charged)


def settings(data, **values):
    given = {"model": "yolo11n", "imgsz": 64, "batch": 4, "precision": "fp32", "workers": 0}
    return TrainConfig.load({"data": str(data), **given, **values})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_time_of_everything_is_booked_on_its_part(traffic, watcher, monkeypatch, tmp_path, accumulate):
    clock = Time()
    for (owner, name), ms in {**COSTS_MS, (type(watcher), "advance"): 290}.items():
        clock.charge(monkeypatch, owner, name, ms)
    monkeypatch.chdir(tmp_path)
    result = profile_training(settings(traffic, accumulate=accumulate), watcher, steps=4, clock=clock)
    # Six training images make batches of 4 and 2; three or four come before the measured ones.
    assert result.conventions["images"] == 2 + 4 + 2 + 4
    booked = dict(zip(result.parts["part"], (result.parts["ms_per_image"] * 12).round(6), strict=True))
    updates = 4 // accumulate
    assert booked == {
        "loader wait": 12 * 3,
        "to device": 4 * 50,
        "normalise": 4 * 70,
        "forward": 4 * 1100,
        "loss": 4 * 130,
        "backward": 4 * 1700,
        "optimiser": updates * (190 + 230),
        "other": 4 * 290,
    }
    assert result.bottleneck == "backward"
    assert result.ms_per_image * 12 == pytest.approx(sum(booked.values()))
    assert result.images_per_s == pytest.approx(12e3 / sum(booked.values()))
    assert not list(tmp_path.iterdir())


def test_the_parts_sum_to_the_time_of_the_loop(cracks, watcher):
    result = profile_training(settings(cracks, model="unet-small"), watcher, steps=2)
    assert result.parts["part"].to_list() == list(PARTS)
    assert result.parts["ms_per_image"].min() > 0  # every part was entered
    assert result.parts["ms_per_image"].sum() == pytest.approx(result.ms_per_image, rel=1e-12)
    assert result.parts["share"].sum() == pytest.approx(1, rel=1e-12)
    assert result.loading.loading_ms > 0
    assert result.to_dict()["loading"]["reading_scaled_ms"] is None  # the images are kept in memory


def test_the_parts_sum_to_the_wall_to_the_nanosecond():
    ticks = iter(range(0, 10_000, 7))
    laps = Laps(lambda: next(ticks))
    laps.turn_to("normalise")  # before the clock runs
    laps.begin()
    laps.turn_to("other")
    laps.turn_to("normalise")
    laps.turn_to("normalise")
    laps.turn_to("backward")
    laps.end()
    laps.turn_to("optimiser")  # when the clock has stopped
    assert sum(laps.spent_ns.values()) == laps.wall_ns == 35
    assert laps.spent_ns == dict.fromkeys(PARTS, 0) | {"normalise": 21, "other": 7, "backward": 7}


def test_a_gpu_is_waited_for_before_each_reading():
    waits = []
    laps = Laps(lambda: len(waits), lambda: waits.append(1))
    laps.turn_to("backward")
    assert not waits  # unmeasured steps are not slowed down
    laps.begin()
    laps.turn_to("optimiser")
    laps.end()
    assert len(waits) == 3


def test_settings_that_cannot_be_used_are_refused(traffic, watcher):
    with pytest.raises(ConfigError, match="must fit data of task"):
        profile_training(settings(traffic, model="unet-small"), watcher)


def test_ctrl_c_ends_it(traffic, watcher, monkeypatch):
    def interrupt(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        profile_training(settings(traffic), watcher)


MACHINE = Machine(
    device="cpu",
    cores=4,
    threads=4,
    workers=0,
    batch=16,
    images=1000,
    fits_in_memory=True,
    precision="bf16",
    bf16="it does",
)
QUICK = Loading(1.0, 0.5, 0.5)


def groups(**given):
    return {"loader": 1.0, "host": 1.0, "forward": 40.0, "backward": 56.0, "optimiser": 2.0} | given


def test_advice_needs_numbers_behind_it():
    assert advise(groups(), QUICK, MACHINE) == ()
    slow = Loading(loading_ms=60.0, reading_ms=50.0, reading_scaled_ms=20.0)
    waiting = groups(loader=60.0)
    workers, cache, decode = advise(waiting, slow, MACHINE)
    assert workers.startswith("workers=1: loading takes 60.00 ms an image, a step 99.00 ms")
    assert cache == "cache=ram: reading takes 50.00 of the 60.00 ms of loading an image"
    assert decode.startswith("decode=scaled: reading then takes 20.00 ms instead of 50.00")
    assert advise(waiting, slow, replace(MACHINE, fits_in_memory=False))[1].startswith("cache=disk")
    # With images in memory only augmentation is left to be made cheaper.
    kept = Loading(loading_ms=60.0, reading_ms=0.1, reading_scaled_ms=None)
    assert [line.split(":")[0] for line in advise(waiting, kept, replace(MACHINE, workers=1))] == [
        "fewer augmentations (augment.*)"
    ]
    # Nothing is said of loading where the steps do not wait for it.
    assert advise(groups(loader=5.0), slow, MACHINE) == ()


def test_advice_on_arithmetic_threads_and_batch():
    assert advise(groups(), QUICK, replace(MACHINE, precision="fp32")) == (
        "precision=bf16: it does, and forward and backward take 96.00 ms an image",
    )
    assert advise(groups(), QUICK, replace(MACHINE, precision="fp32", bf16=None)) == ()
    said = advise(groups(), QUICK, replace(MACHINE, threads=2))
    assert said == ("OMP_NUM_THREADS=4: torch computes on 2 of 4 cores",)
    updating = groups(optimiser=40.0)
    assert advise(updating, QUICK, MACHINE)[0].startswith("batch=32: ")
    assert advise(updating, QUICK, replace(MACHINE, images=319)) == ()
