"""A run that is cut by a signal and resumed equals one that was never cut; `benchmarks/` has more cuts."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.core.process import StopRequest
from sightline.train.data.images import SeededBatches
from sightline.train.state import random_state, restore_random_state

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "resume_table.py"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("resume_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state_of(run):
    return torch.load(run / "weights" / "last.ckpt", weights_only=True)["learner"]["place"]


@pytest.mark.parametrize("point", ["SIGKILL inside an epoch, a state saved in it", "SIGINT inside an epoch"])
def test_a_cut_run_goes_on_from_the_next_batch(table, point, cracks, tmp_path):
    assert table.run_child("semantic", str(cracks), str(tmp_path), "cut-0", point, False) != 0
    position = state_of(tmp_path / "semantic" / "cut-0")
    # Six images make three batches an epoch: the sixth batch is the last of the second epoch, whose end is waited for.
    assert (position["epoch"], position["done"]) == ((1, 2) if "SIGKILL" in point else (2, 0))
    found = table.check_point(point, "semantic", cracks, tmp_path / "runs")
    assert not any(found.values()), found


@pytest.mark.slow
def test_every_planned_cut_leaves_an_equal_run(table, traffic, tmp_path):
    for point in table.POINTS:
        found = table.check_point(point, "detect", traffic, tmp_path / "runs")
        assert not any(found.values()), (point, found)


def test_the_comparison_sees_a_difference(table):
    left = {"a": [torch.ones(3), 1.0], "b": {"c": float("nan")}}
    right = {"a": [torch.ones(3), 1.0], "b": {"c": float("nan")}}
    assert table.differences(left, right) == []
    right["a"][0][1] = 2
    assert table.differences(left, right) == ["/a/0"]
    assert table.differences({"a": 1}, {}) == ["/a"]


def test_batches_that_are_done_are_not_given_again():
    batches = SeededBatches(11, 3, 5, shuffle=True)
    batches.set_epoch(2)
    whole = list(batches)
    batches.set_epoch(2, done=2)
    assert list(batches) == whole[2:]
    batches.set_epoch(3)
    assert len(list(batches)) == len(whole) == len(batches)


def test_random_numbers_go_on_where_they_were():
    state = random_state()
    first = (random.random(), np.random.rand(), torch.rand(2).tolist())  # noqa: NPY002
    restore_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == first  # noqa: NPY002


def test_the_second_request_to_stop_is_obeyed_at_once():
    stop = StopRequest()
    stop(2, None)
    assert stop.made
    with pytest.raises(KeyboardInterrupt):
        stop(2, None)
