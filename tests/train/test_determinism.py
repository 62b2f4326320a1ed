"""One seed, one result: runs repeat to the last bit, and what cannot be made to repeat is recorded."""

import json

import pytest
import torch

from sightline.core.runs import RunFolder
from sightline.models.segment.segmenter import Segmenter
from sightline.train import TrainConfig, train
from sightline.train.state import deterministic_operations

SMALL = {"imgsz": 64, "batch": 2, "epochs": 2, "pictures_every": 0, "seed": 5, "augment": {"mosaic": 0.5}}


def left_behind(run):
    """Weights, averaged weights and the rows without their times."""
    state = torch.load(run / "weights" / "last.ckpt", weights_only=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in row.items() if k not in {"seconds", "images_per_s", "seal"}} for row in rows]
    tensors = {
        **state["learner"]["weights"],
        **{f"average.{k}": v for k, v in state["learner"]["average"]["weights"].items()},
    }
    return tensors, timeless


@pytest.mark.parametrize("changed", [{}, {"workers": 2}, {"deterministic": True}])
def test_two_runs_with_one_seed_are_equal(traffic, tmp_path, watcher, changed):
    runs = []
    for name, more in (("first", {"workers": 0}), ("second", {"workers": 0} | changed)):
        config = TrainConfig.load({"data": str(traffic), "model": "yolo11n", **SMALL, **more})
        runs.append(left_behind(train(config, RunFolder.create(tmp_path, "detect", name), watcher).run))
    (first, first_rows), (second, second_rows) = runs
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert json.dumps(first_rows) == json.dumps(second_rows)


def test_what_cannot_be_repeated_is_recorded(cracks, tmp_path, watcher, monkeypatch):
    loss = Segmenter.loss

    def with_scatter(self, raw, targets, *rest):
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))  # which of two values stays is open
        return loss(self, raw, targets, *rest)

    monkeypatch.setattr(Segmenter, "loss", with_scatter)
    values = {"data": str(cracks), "model": "unet-small", "imgsz": 64, "epochs": 1, "pictures_every": 0}
    for asked, found in ((True, ["put_"]), (False, None)):
        config = TrainConfig.load({**values, "deterministic": asked})
        run = train(config, RunFolder.create(tmp_path, "semantic", f"asked-{asked}"), watcher).run
        assert json.loads((run / "run.json").read_text())["not_deterministic"] == found


def test_torch_is_left_as_it_was():
    with deterministic_operations(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
