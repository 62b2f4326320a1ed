"""The watching rules: each speaks on the course it is made for, and none on a healthy one."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline.core.runs import RunFolder
from sightline.models import create
from sightline.models.segment.segmenter import Segmenter
from sightline.train import TrainConfig, train
from sightline.train import run as run_module
from sightline.train.rules import RULES, GradientMeter, OutputMeter, RunFacts, has_passed, watch

SCRIPT = importlib.util.spec_from_file_location(
    "rules_table", Path(__file__).parents[2] / "benchmarks" / "rules_table.py"
)
TABLE = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(TABLE)
SEMANTIC = RunFacts(
    "semantic", epochs=30, class_count=2, class_term="bce", clip_norm=10.0, peak_lr=0.002, loss_terms=("bce",)
)
DETECT = RunFacts(
    "detect", epochs=30, class_count=3, class_term="cls", clip_norm=10.0, peak_lr=0.002, loss_terms=("cls",)
)


def healthy(count, term="bce"):
    """Losses that fall, a metric that rises, gradients of one size."""
    rows = []
    for i in range(count):
        share = math.exp(-i / 8)
        rows.append(
            {
                "epoch": i + 1, "lr": 0.002 * (1 - i / 30),
                f"train/{term}": 0.1 + share, f"valloss/{term}": 0.2 + share,
                "watch/metric": 0.8 * (1 - share), "watch/accuracy": 0.97,
                "watch/foreground_iou": 0.02 + 0.7 * (1 - share),
                "watch/gradient_median": 2.0, "watch/gradient_max": 5.0, "watch/gradient_dead": 0.0,
                "watch/output_min": 1e-5, "watch/output_max": 0.9, "watch/output_spread": 0.05, "watch/found": 0.02,
            }
        )  # fmt: skip
    return rows


def spoken(rows, facts):
    """Codes in the order they are said over a run."""
    told = []
    for end in range(1, len(rows) + 1):
        told += [f.code for f in watch(rows[:end], facts, set(told))]
    return told


def changed(rows, start, **values):
    return [
        {**row, **({k.replace("__", "/"): v for k, v in values.items()} if i >= start else {})}
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(("facts", "term"), [(SEMANTIC, "bce"), (DETECT, "cls")])
def test_a_healthy_course_is_silent(facts, term):
    assert spoken(healthy(30, term), facts) == []


@pytest.mark.parametrize(
    ("code", "start", "values"),
    [
        ("foreground-collapse", 3, {"watch__foreground_iou": 0.04}),
        ("class-loss-plateau", 0, {"train__bce": 0.69, "lr": 0.002}),
        ("gradient-exploding", 12, {"watch__gradient_median": 900.0}),
        ("gradient-dead", 4, {"watch__gradient_dead": 0.4}),
        ("activation-twice", 0, {"watch__output_min": 0.5, "watch__output_max": 0.731}),
        ("prediction-empty", 2, {"watch__found": 0.0}),
        ("prediction-constant", 2, {"watch__output_spread": 1e-7}),
    ],
)
def test_each_rule_speaks_once_on_its_own_symptom(code, start, values):
    assert spoken(changed(healthy(30), start, **values), SEMANTIC) == [code]


@pytest.mark.parametrize("key", ["train/bce", "valloss/bce"])
@pytest.mark.parametrize("loss", [4e5, math.inf, math.nan])
def test_a_run_that_explodes_from_its_first_epoch_is_named(key, loss):
    rows = healthy(4)
    rows[1] |= {key: loss}
    assert spoken(rows, SEMANTIC) == ["gradient-exploding"]
    rows[1] |= {key: 20 * rows[0]["train/bce"]}
    assert spoken(rows, SEMANTIC) == []


def test_a_validation_loss_that_is_huge_in_the_first_epoch_is_an_explosion():
    rows = changed(healthy(1), 0, valloss__bce=2e6)
    assert spoken(rows, SEMANTIC) == ["gradient-exploding"]


@pytest.mark.parametrize(("low", "high"), [(math.inf, -math.inf), (math.nan, math.nan), (math.inf, math.nan)])
def test_outputs_that_are_not_numbers_are_no_double_activation(low, high):
    rows = changed(healthy(4), 0, watch__output_min=low, watch__output_max=high)
    assert spoken(rows, SEMANTIC) == []


def test_a_detector_may_say_the_same_everywhere_in_its_first_epochs():
    rows = [{**row, "watch/output_spread": 1e-11 if i < 9 else 0.01} for i, row in enumerate(healthy(30, "cls"))]
    assert spoken(rows, DETECT) == []


def test_a_detector_with_low_scores_on_the_right_boxes_is_not_empty():
    rows = changed(healthy(30, "cls"), 0, watch__found=0.0, watch__output_max=0.2)
    assert spoken(changed(rows, 0, watch__metric=0.09), DETECT) == []
    assert spoken(changed(rows, 0, watch__metric=0.0), DETECT) == ["prediction-empty"]


def test_outputs_that_still_grow_are_waited_for():
    rows = healthy(30, "cls")
    for i, row in enumerate(rows):
        row |= {"watch/output_spread": min(1e-17 * 10**i, 0.01)}
        row |= {"watch/metric": 0.0, "watch/found": float(i > 17), "watch/output_max": min(0.002 * 1.3**i, 0.3)}
    assert spoken(rows, DETECT) == []
    stuck = [{**row, "watch/output_spread": min(row["watch/output_spread"], 1e-6)} for row in rows]
    assert spoken(stuck, DETECT) == ["prediction-constant"]
    stuck = [{**row, "watch/found": 0.0, "watch/output_max": min(row["watch/output_max"], 0.1)} for row in rows]
    assert spoken(stuck, DETECT) == ["prediction-empty"]


def test_divergence_needs_a_metric_that_no_longer_improves():
    rows = healthy(30)
    for i in range(10, 30):
        rows[i] |= {"valloss/bce": rows[9]["valloss/bce"] * (1 + 0.05 * (i - 9))}
    assert spoken(rows, SEMANTIC) == []
    for i in range(10, 30):
        rows[i] |= {"watch/metric": rows[9]["watch/metric"] - 0.01}
    assert spoken(rows, SEMANTIC) == ["train-val-divergence"]


def test_a_resumed_run_is_judged_like_the_whole():
    rows = changed(healthy(30), 3, watch__foreground_iou=0.04)
    first = next(f for end in range(1, 31) for f in watch(rows[:end], SEMANTIC, set()))
    assert watch(rows[: first.epoch], SEMANTIC, set()) == [first]
    assert watch(rows, SEMANTIC, {first.code}) == []


def test_the_gradient_meter_clips_as_torch_does_and_finds_what_is_dead():
    """torch 2.14 `clip_grad_norm_` is the reference."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)) for _ in range(2)]
    for model in models:
        for i, p in enumerate(model.parameters()):
            p.grad = torch.full_like(p, 0.0 if i == 0 else float(i))
    meter = GradientMeter()
    meter.clip(models[0], 1.0)
    expected = torch.nn.utils.clip_grad_norm_(models[1].parameters(), 1.0)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert meter.take() == {
        "gradient_median": float(expected), "gradient_max": float(expected), "gradient_dead": 0.25
    }  # fmt: skip


def test_a_part_cut_off_from_the_loss_is_dead_and_a_frozen_one_is_not():
    body, cut, frozen = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    meter = GradientMeter()
    for _ in range(2):
        with torch.no_grad():
            detached = cut(torch.ones(1, 2))
        frozen(body(torch.ones(1, 2)) + detached).sum().backward()
        meter.clip(nn.ModuleList([body, cut, frozen]), 10.0)
    assert meter.take()["gradient_dead"] == 0.5


def test_a_part_without_gradient_in_one_step_alone_is_not_dead():
    parts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    meter = GradientMeter()
    for part in parts:
        parts.zero_grad()
        part(torch.ones(1, 2)).sum().backward()
        meter.clip(parts, 10.0)
    assert meter.take()["gradient_dead"] == 0.0


def test_the_output_meter_sees_range_spread_and_foreground():
    meter = OutputMeter("semantic")
    foreground = torch.zeros(2, 1, 32, 32)
    foreground[1, :, :16] = 0.9
    meter.update(torch.cat((1 - foreground, foreground), 1))
    seen = meter.take()
    assert (seen["output_min"], seen["output_max"]) == (0.0, pytest.approx(0.9))
    assert seen["found"] == pytest.approx(0.25)
    assert seen["output_spread"] > 0.1


class EndsInSigmoid(Segmenter):
    """A U-Net whose author applied the sigmoid that the loss applies too."""

    def forward(self, images):
        return super().forward(images).sigmoid()


def test_a_double_sigmoid_is_named_in_the_run(cracks, tmp_path, watcher, monkeypatch):
    def build(name, **arguments):
        model = create(name, **arguments)
        model.__class__ = EndsInSigmoid
        return model

    monkeypatch.setattr(run_module, "create", build)
    values = {"model": "unet-small", "imgsz": 64, "batch": 4, "epochs": 3, "precision": "fp32", "pictures_every": 0}
    run = RunFolder.create(tmp_path, "semantic")
    train(TrainConfig.load({"data": str(cracks), **values}), run, watcher)
    found = json.loads((run.path / "run.json").read_text())["watched"]
    assert [f["code"] for f in found] == ["activation-twice"]
    assert sum("activation-twice" in line for line in watcher.notes) == 1


def test_every_rule_has_a_run_that_is_built_to_trigger_it_and_three_have_none():
    assert sorted(case.rule or "" for case in TABLE.CASES.values()) == sorted(["", "", "", *RULES])


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE.CASES)
def test_a_real_run_makes_its_rule_speak_and_a_healthy_one_none(name, tmp_path):
    found = TABLE.found_by(name, tmp_path)
    assert TABLE.is_right(TABLE.CASES[name], found), found


def test_every_rule_has_advice():
    assert all(rule.do(SEMANTIC) and rule.severity in {"warning", "error"} for rule in RULES.values())


def test_objects_that_nothing_learns_are_said_at_once_and_what_to_change():
    rows = changed(healthy(3, "cls"), 0, watch__learnt_share=0.3, watch__positive_share=1e-5)
    (found,) = watch(rows[:1], DETECT, set())
    assert found.message == "70% of the objects are learnt by nothing: 1e-05 of all anchors stand for an object"
    assert "imgsz" in found.do
    with_anchors = replace(DETECT, anchor_ratio=4.0)
    advice = watch(rows[:1], with_anchors, set())[0].do
    assert all(word in advice for word in ("sightline anchors", "arguments.anchors", "imgsz", "anchor_ratio above 4"))
    assert spoken(changed(rows, 0, watch__learnt_share=0.9), DETECT) == []
    assert spoken(changed(rows, 0, watch__learnt_share=math.nan), DETECT) == []


def test_small_scores_that_differ_are_not_constant():
    rows = changed(healthy(30, "cls"), 0, watch__output_max=0.02, watch__output_spread=5e-5, watch__metric=0.0)
    assert "prediction-constant" not in spoken(rows, DETECT)
    rows = changed(rows, 0, watch__output_spread=1e-6)
    assert "prediction-constant" in spoken(rows, DETECT)


def test_advice_knows_the_run():
    rows = changed(healthy(30), 3, watch__foreground_iou=0.04)
    said = {True: "Weight the foreground, crop", False: "Train with a Dice term"}
    for has_dice, advice in said.items():
        facts = replace(SEMANTIC, loss_terms=("bce", "dice") if has_dice else ("bce",))
        assert watch(rows[:8], facts, set())[0].do.startswith(advice)
    rows = changed(healthy(30, "cls"), 0, train__cls=0.69, lr=0.002)
    for count, word in ((1, "labels belong to the images"), (3, "mix-ups")):
        found = watch(rows[:12], replace(DETECT, class_count=count), set())
        assert word in found[0].do


def test_what_was_a_phase_is_resolved_after_three_epochs_without_it():
    rows = changed(healthy(30), 5, watch__foreground_iou=0.04)
    rows = changed(rows, 15, watch__foreground_iou=0.6)
    passed = [end for end in range(9, 31) if has_passed("foreground-collapse", rows[:end], SEMANTIC)]
    assert passed[0] == 18
    plateau = changed(healthy(30), 0, train__bce=0.69, lr=0.002)
    low = changed(plateau, 15, lr=1e-6)
    assert not any(has_passed("class-loss-plateau", low[:end], SEMANTIC) for end in range(12, 31))


def test_a_loss_below_zero_is_no_explosion_and_no_divergence():
    """The boundary term falls below zero where a class is found within its boundary."""
    rows = healthy(30)
    for row in rows:
        row["train/bce"] -= 1.2
        row["valloss/bce"] -= 1.3
    assert spoken(rows, SEMANTIC) == []
    rows[-1]["valloss/bce"] = 200.0
    assert spoken(rows, SEMANTIC) == ["gradient-exploding"]


@pytest.mark.parametrize("term", ["dice", "dice_image", "tversky", "lovasz"])
def test_a_collapse_is_not_told_to_take_what_it_has(term):
    facts = replace(SEMANTIC, loss_terms=("bce", term))
    assert "Dice" not in RULES["foreground-collapse"].do(facts)
    assert "Dice" in RULES["foreground-collapse"].do(replace(facts, loss_terms=("bce",)))
