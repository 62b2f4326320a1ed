"""Optimisers, schedules, freezing, accumulation, loss factors: a value the user gave is used or refused."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder
from sightline.data import read_dataset
from sightline.models import create
from sightline.train import TrainConfig, resume, train
from sightline.train.config import OptimizerConfig, ScheduleConfig
from sightline.train.data.class_weights import balanced_weights
from sightline.train.loop import Learner, check_loss_factors
from sightline.train.machine import Arithmetic, choose_arithmetic
from sightline.train.optimizers import build_optimizer, freeze_stages, parameter_groups, stages_of


def factors(name, epochs=10, **values):
    schedule = ScheduleConfig(name=name, epochs=epochs, **values)
    return [schedule.factor(step, 10) for step in range(epochs * 10 + 1)]


def test_each_schedule_has_its_shape():
    assert factors("linear", warmup_epochs=0, final_lr_ratio=0.2)[50] == pytest.approx(0.6)
    assert factors("cosine", warmup_epochs=0, final_lr_ratio=0.0)[50] == pytest.approx(0.5)
    steps = factors("step", warmup_epochs=0, milestones=(0.5, 0.8))
    assert [steps[i] for i in (0, 49, 50, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert set(factors("constant", warmup_epochs=0)) == {1.0}
    cycle = factors("one-cycle")
    assert cycle[0] == pytest.approx(1 / 25)
    assert max(cycle) == cycle[30] == pytest.approx(1.0)
    assert cycle[100] == pytest.approx(0.01)


def test_one_cycle_falls_as_torch_does():
    """torch 2.14 `OneCycleLR` with the same peak, rise and end; its first step is ours."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=101, pct_start=31 / 101, div_factor=25, final_div_factor=4, cycle_momentum=False
    )
    ours = factors("one-cycle")
    for step in range(100):
        assert ours[step] == pytest.approx(reference.get_last_lr()[0], abs=0.02)
        optimizer.step()
        reference.step()


def test_a_setting_of_another_schedule_is_refused():
    with pytest.raises(ConfigError, match="milestones belong"):
        TrainConfig.load({"data": "x", "model": "y", "schedule": "cosine", "milestones": [0.5]})
    with pytest.raises(ConfigError, match="final_lr_ratio belongs"):
        TrainConfig.load({"data": "x", "model": "y", "schedule": "step", "final_lr_ratio": 0.1})


def test_stages_run_from_input_to_head_and_hold_every_weight():
    for name in ("yolo11n", "unet-small"):
        model = create(name, class_names=("background", "thing"))
        names = [stage for stage, _ in stages_of(model)]
        assert names[-1].split(".")[-1] == "head"
        assert len(names) > 10
        inside = {id(p) for _, part in stages_of(model) for p in part.parameters()}
        assert inside == {id(p) for p in model.parameters()}


def test_frozen_stages_keep_weights_and_statistics():
    model = create("unet-small", class_names=("background", "thing"), imgsz=64)
    config = TrainConfig(data="x", model="unet-small", freeze=2)
    learner = Learner(model, config, Arithmetic("cpu", "fp32", "asked for"), 1, ["a"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    learner.set_training_mode()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    frozen = [name for name, _ in stages_of(model)[:2]]
    for key, value in model.state_dict().items():
        if key.startswith(tuple(frozen)):
            assert torch.equal(value, before[key])
    for name, p in model.named_parameters():
        assert (p.grad is None) == name.startswith(tuple(frozen))
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items() if "running_mean" in k)


def test_freezing_everything_is_refused():
    model = create("yolo11n", class_names=("thing",))
    with pytest.raises(ConfigError, match="must leave a stage"):
        freeze_stages(model, 99)


def test_layer_decay_slows_the_early_stages():
    model = create("yolo11n", class_names=("thing",))
    groups = parameter_groups(model, OptimizerConfig(lr=0.01, layer_decay=0.5))
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    stages = stages_of(model)
    for position, (_, part) in enumerate(reversed(stages)):
        for p in (p for p in part.parameters() if p.requires_grad):
            assert rates[id(p)] == pytest.approx(0.01 * 0.5**position)
    assert len(rates) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_optimiser_updates_every_weight_once(name):
    torch.manual_seed(0)
    model = create("yolo11n", class_names=("thing",))
    optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.01))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    for p in trained.values():
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert [n for n, p in trained.items() if torch.equal(p, before[n])] == []
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_muon_steps_like_torch_on_the_kernel_as_a_matrix():
    """torch 2.14 `Muon` on the flattened kernel gives the same weights, in any memory layout."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1))
    reference = [nn.Parameter(m.weight.detach().clone().reshape(m.weight.shape[0], -1)) for m in model]
    theirs = torch.optim.Muon(reference, lr=0.01, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    ours = build_optimizer(model, OptimizerConfig(name="muon", lr=0.01, momentum=0.9, weight_decay=0.01))
    for _ in range(3):
        for layer, flat in zip(model, reference, strict=True):
            gradient = torch.randn_like(layer.weight)
            layer.weight.grad, layer.bias.grad = gradient, torch.randn_like(layer.bias)
            flat.grad = gradient.reshape(flat.shape)
        theirs.step()
        ours.step()
    for layer, flat in zip(model, reference, strict=True):
        assert torch.equal(layer.weight.reshape(flat.shape), flat)


def test_muon_state_survives_saving():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    first, second = (build_optimizer(m, OptimizerConfig(name="muon")) for m in models)
    gradients = [[torch.randn_like(p) for p in models[0].parameters()] for _ in range(2)]

    def step(model, optimizer, values):
        for p, g in zip(model.parameters(), values, strict=True):
            p.grad = g.clone()
        optimizer.step()

    step(models[0], first, gradients[0])
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step(models[0], first, gradients[1])
    step(models[1], second, gradients[1])
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_factor_on_an_unknown_loss_term_names_the_known():
    model = create("unet-small", class_names=("background", "thing"), imgsz=64)
    check_loss_factors(model, {"dice": 0.0})
    with pytest.raises(ConfigError, match=r"'dise'.*dice"):
        check_loss_factors(model, {"dise": 0.0})


def test_loss_factors_and_accumulation_reach_the_run(cracks, tmp_path, watcher):
    values = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 1, "precision": "fp32", "pictures_every": 0}
    config = TrainConfig.load({"data": str(cracks), **values, "loss": {"dice": 0.0}, "accumulate": 2})
    run = RunFolder.create(tmp_path, "semantic")
    train(config, run, watcher)
    row = watcher.epochs[0]
    assert row["train/dice"] == 0.0
    assert row["train/bce"] > 0
    state = torch.load(run.path / "weights" / "last.ckpt", weights_only=True)
    # Six images in twos make three batches: a step behind the second, and one behind the last.
    assert state["learner"]["place"]["steps"] == state["learner"]["average"]["steps"] == 2


def test_frozen_stages_keep_their_statistics_through_a_run(cracks, tmp_path, watcher):
    values = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 2, "precision": "fp32", "pictures_every": 0}
    config = TrainConfig.load({"data": str(cracks), **values, "freeze": 2, "workers": 0})
    run = train(config, RunFolder.create(tmp_path, "semantic"), watcher).run
    weights = torch.load(run / "weights" / "last.ckpt", weights_only=True)["learner"]["weights"]
    model = create("unet-small", class_names=("background", "crack"), imgsz=64)
    for name, _ in stages_of(model)[:2]:
        means = [value for key, value in weights.items() if key.startswith(f"{name}.") and "running_mean" in key]
        assert means
        assert not any(mean.any() for mean in means), name  # as they are made


def test_half_precision_needs_a_gpu():
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        choose_arithmetic("cpu", "fp16")


def test_balanced_class_weights_are_counted_on_the_training_masks(cracks, tmp_path, watcher):
    """A third image shows one class alone: it does not count for the other's frequency."""
    dataset = read_dataset(cracks)
    ids = [np.asarray(Image.open(dataset.image_path(p))) > 0 for p in dataset.images["mask_path"].drop_nulls()]
    crack = sum(m.sum() for m in ids) / sum(m.size for m in ids if m.any())
    ground = sum((~m).sum() for m in ids) / sum(m.size for m in ids)
    middle = (crack + ground) / 2
    assert balanced_weights(dataset) == pytest.approx((middle / ground, middle / crack), rel=1e-5)

    values = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 1, "precision": "fp32", "pictures_every": 0}
    config = TrainConfig.load({"data": str(cracks), **values, "arguments": {"class_weights": "balanced"}})
    run = train(config, RunFolder.create(tmp_path, "semantic"), watcher).run
    given = json.loads((run / "run.json").read_text())["model"]["arguments"]["class_weights"]
    assert given[0] < 1 < given[1]
    assert sum("class weights" in note for note in watcher.notes) == 1


def test_a_run_with_balanced_class_weights_goes_on(cracks, tmp_path, watcher):
    """Its settings hold the numbers from then on; other weights than it began with are refused."""
    values = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 3, "precision": "fp32", "pictures_every": 0}
    config = TrainConfig.load({"data": str(cracks), **values, "arguments": {"class_weights": "balanced"}})
    run = RunFolder.create(tmp_path, "semantic")

    class Leaves(type(watcher)):
        def epoch(self, *args, **named):
            super().epoch(*args, **named)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, run, Leaves())
    settings = run.path / "config.yaml"
    text = settings.read_text()
    assert "balanced" not in text
    counted = TrainConfig.read(settings).arguments["class_weights"]
    settings.write_text(text.replace(repr(counted[1]), "1.0"))
    with pytest.raises(ConfigError, match=r"arguments.class_weights' must be what the run began with"):
        resume(run.path, watcher)
    settings.write_text(text)
    assert resume(run.path, watcher).run == run.path
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 3
