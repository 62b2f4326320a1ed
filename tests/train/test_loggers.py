"""The adapters write what the real tools read back."""

import json
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.core.errors import MissingExtraError
from sightline.core.runs import RunFolder
from sightline.train import TrainConfig, resume, train
from sightline.train.loggers import open_loggers
from sightline.train.recorder import Recorder

# MLflow 3.17 still uses an option that SQLAlchemy 2.1 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*", "ignore::DeprecationWarning")


def settings(data, **values):
    given = {"model": "unet-small", "imgsz": 64, "batch": 4, "epochs": 2, "precision": "fp32", "pictures_every": 0}
    return TrainConfig.load({"data": str(data), **given, **values})


def rows_of(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_both_tools_hold_the_numbers_of_metrics_jsonl(cracks, tmp_path, watcher):
    from mlflow import MlflowClient

    run = RunFolder.create(tmp_path, "semantic", "logged")
    train(settings(cracks, loggers=["tensorboard", "mlflow"]), run, watcher)
    rows = rows_of(run)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    dice = events.Scalars("val/dice")
    assert [e.step for e in dice] == [1, 2]
    assert [e.value for e in dice] == pytest.approx([row["val/dice"] for row in rows], rel=1e-6)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sightline")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["model.name"] == "unet-small"
    history = client.get_metric_history(kept.info.run_id, "val/dice")
    assert [(m.step, m.value) for m in history] == [(row["epoch"], row["val/dice"]) for row in rows]


@pytest.mark.slow  # MLflow builds its store by migrations
def test_a_resumed_run_goes_on_in_the_same_mlflow_run(cracks, tmp_path, watcher, monkeypatch):
    from mlflow import MlflowClient

    run = RunFolder.create(tmp_path, "semantic", "cut")
    step_done = Recorder.after_batch

    def interrupt(recorder, batch):
        if recorder.learner.epoch == 1:
            raise KeyboardInterrupt
        step_done(recorder, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after_batch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings(cracks, loggers=["mlflow"]), run, watcher)
    resume(run.path, watcher)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (kept,) = client.search_runs([client.get_experiment_by_name("sightline").experiment_id])
    assert kept.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(kept.info.run_id, "val/dice")] == [1, 2]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="sightline\\[loggers\\]"):
        open_loggers(["tensorboard"], tmp_path, {}, 0)
