"""Ablation and search: the numbers against SciPy, the runs resumable, what is fixed left alone."""

import os
import signal
import subprocess
import sys
import time

import optuna
import polars as pl
import pytest
import yaml
from scipy import stats

from sightline.core.errors import ConfigError
from sightline.train import Ablation, TrainConfig, Tuning, run_ablation, run_tuning
from sightline.train.studies.ablation import _compare

TINY = {"model": "unet-small", "imgsz": 64, "batch": 4, "epochs": 1, "precision": "fp32", "pictures_every": 0}


def test_intervals_and_paired_differences_are_scipys():
    """SciPy 1.17: `t.interval` of the mean, `ttest_rel` of the pairs."""
    scores = {"a": [0.5, 0.6, 0.55, 0.7], "b": [0.58, 0.61, 0.63, 0.74]}
    rows = [("dice", None, v, seed, x) for v, xs in scores.items() for seed, x in enumerate(xs)]
    values = pl.DataFrame(rows, schema=["metric", "epoch", "variant", "seed", "value"], orient="row")
    first, second = _compare(values, ["a", "b"]).to_dicts()
    low, high = stats.t.interval(0.95, 3, loc=sum(scores["a"]) / 4, scale=stats.sem(scores["a"]))
    assert (first["low"], first["high"]) == pytest.approx((low, high))
    assert first["difference"] is None
    paired = stats.ttest_rel(scores["b"], scores["a"]).confidence_interval(0.95)
    assert (second["difference_low"], second["difference_high"]) == pytest.approx((paired.low, paired.high))


def test_a_variant_wins_over_the_base_and_a_seed_in_it_is_refused():
    ablation = Ablation(
        base={"data": "x", "model": "unet-small", "lr": 0.1}, variants={"a": {}, "b": {"lr": 0.2}}, seeds=(0,)
    )
    configs = ablation.configs({"schedule": {"epochs": 3}}, "file")
    assert [(c.optimizer.lr, c.schedule.epochs) for c in configs.values()] == [(0.1, 3), (0.2, 3)]
    with pytest.raises(ConfigError, match="seeds belong"):
        Ablation(base={"data": "x", "model": "y"}, variants={"a": {}, "b": {"seed": 1}}).configs({}, "file")
    with pytest.raises(ConfigError, match=r"'lrr'.*lr"):
        Ablation(base={"data": "x", "lrr": 1}, variants={"a": {}, "b": {}}).configs({}, "file")


def test_what_is_fixed_is_never_varied():
    fixed = {"optimizer": {"lr": 0.1}}
    assert "lr" not in Tuning(base={}).open_space(fixed, "file")
    with pytest.raises(ConfigError, match=r"optimizer\.lr' both fixed"):
        Tuning(base={}, space={"optimizer.lr": {"low": 0.1, "high": 1}}).open_space(fixed, "file")


@pytest.mark.slow
def test_an_ablation_runs_compares_and_is_not_run_twice(cracks, tmp_path):
    ablation = Ablation(
        base={"data": str(cracks), **TINY, "epochs": 2},
        variants={"bce": {"loss": {"dice": 0.0}}, "both": {}},
        seeds=(0, 1),
        metrics=("foreground_dice",),
        epoch_metrics=("train/dice",),
        at_epochs=(1, 2),
    )
    result = run_ablation(ablation, tmp_path / "out", threads=1)
    dice = result.table.filter((pl.col("metric") == "train/dice") & (pl.col("variant") == "bce"))
    assert dice["mean"].to_list() == [0.0, 0.0]
    assert result.table.height == 6
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("run.json")}
    assert len(stamps) == 4
    again = run_ablation(ablation, tmp_path / "out", threads=1)
    assert again.table.equals(result.table)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("run.json")} == stamps
    with pytest.raises(ConfigError, match="continued with its own settings"):
        run_ablation(ablation.model_copy(update={"base": {**ablation.base, "lr": 0.5}}), tmp_path / "out", threads=1)


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(cracks, tmp_path):
    """`kill -9` in the second trial: it goes on from its last epoch, and all is as in an unbroken search."""
    file = tmp_path / "search.yaml"
    space = {"lr": {"low": 0.001, "high": 0.01, "log": True}}
    file.write_text(yaml.safe_dump({"base": {"data": str(cracks), **TINY, "epochs": 4}, "space": space, "trials": 3}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sightline", "tune", str(file), "--out", str(out)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    log = out / "semantic" / "trial-1" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    study = optuna.load_study(study_name="sightline", storage=f"sqlite:///{out / 'study.db'}")
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params == study.trials[1].params
    assert study.trials[2].user_attrs["run"] == "semantic/trial-1"
    assert TrainConfig.read(out / "best.yaml").schedule.epochs == 4
    whole = [*command[:-1], str(tmp_path / "whole")]
    subprocess.run(whole, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    ended, unbroken = (pl.read_csv(folder / "tuning.csv").drop("trial") for folder in (out, tmp_path / "whole"))
    assert ended.equals(unbroken)
    assert ended["lr"].n_unique() == 3  # a sampler that starts over draws the same values again
    assert ended["epochs"].to_list() == [4, 4, 4]


@pytest.mark.slow
def test_a_search_varies_what_it_may(cracks, tmp_path, watcher):
    tuning = Tuning(
        base={"data": str(cracks), **TINY}, space={"lr": {"low": 0.001, "high": 0.01}, "batch": [2, 4]}, trials=2
    )
    result = run_tuning(tuning, tmp_path / "out", watcher)
    assert result.table.height == 2
    assert set(result.table["batch"]) <= {2, 4}
    assert (tmp_path / "out" / "best.yaml").is_file()
