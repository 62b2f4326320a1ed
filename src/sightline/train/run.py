"""One training run, top to bottom: data → network → loader → loop → best weights → final evaluation.

`train` begins a run and `resume` goes on with one; both make the parts of it (`prepare_session`), let the loop work
(`_fit`), and judge the best weights once more (`_finish`).
"""

import contextlib
import random
import signal
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from sightline.audit import beside_baseline
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError, InputError
from sightline.core.files import file_sha256, write_sealed_json
from sightline.core.keypoints import keypoints_of
from sightline.core.metadata import OperatingPoint
from sightline.core.process import keep_freed_memory, stop_at_next_step
from sightline.core.runs import RunFolder
from sightline.evaluate import RESAMPLES
from sightline.models import Model, create, load_model, own_point, takes_argument
from sightline.train.augment.policy import check_mirror, check_policy
from sightline.train.capacity import (
    Choice,
    choose_batch,
    choose_keeping,
    choose_workers,
    measure_loading,
    measure_step,
    measure_steps,
    memory_budget,
)
from sightline.train.config import TrainConfig
from sightline.train.data.class_weights import with_class_weights
from sightline.train.data.images import NetworkImages, SeededBatches, Wanted, build_loader, varied_sizes
from sightline.train.data.splits import TrainingData, prepare_data, require_keypoints, require_outlines
from sightline.train.data.store import Keeping, needed_bytes
from sightline.train.distributed import ALONE, Processes
from sightline.train.facts import cache_notes, describe_labels, earlier_record, run_facts
from sightline.train.loop import Learner, as_module, check_loss_factors, train_epochs
from sightline.train.machine import Arithmetic, choose_arithmetic, peak_memory, usable_cores
from sightline.train.recorder import Learnt, Recorder, Watcher
from sightline.train.state import deterministic_operations, read_state
from sightline.train.validation import Evaluation, Validator, chosen_conf

__all__ = ["Session", "TrainResult", "prepare_session", "resume", "train"]


@dataclass(frozen=True)
class TrainResult:
    """What a finished run gives back."""

    run: Path
    weights: Path
    evaluation: Evaluation
    best_epoch: int
    epochs: int
    seconds: float
    images_per_s: float


def train(
    config: TrainConfig,
    run: RunFolder,
    watcher: Watcher,
    command: list[str] | None = None,
    processes: Processes = ALONE,
) -> TrainResult:
    """Train from the start into `run`. KeyboardInterrupt leaves a run that `resume` continues.

    Each of several `processes` must call it with the same settings; the first one shows progress and writes.

    Input that cannot be used (InputError) before the first step leaves no run: a new folder is removed again.
    ConfigError where another process is training in `run`.
    """
    with run.held() if processes.is_first else contextlib.nullcontext():
        if processes.is_first:
            config.save(run.path / "config.yaml")
        try:
            session = prepare_session(config, run, watcher, command, processes)
        except InputError:
            if processes.is_first:
                _remove_settings(run)
            raise
        return _fit(session, state=None)


def _remove_settings(run: RunFolder) -> None:
    (run.path / "config.yaml").unlink()
    with contextlib.suppress(OSError):  # a folder that holds more than the settings stays
        run.path.rmdir()


def resume(
    run_path: str | Path, watcher: Watcher, command: list[str] | None = None, processes: Processes = ALONE
) -> TrainResult:
    """Continue an interrupted run from its last saved state, with its own configuration.

    A run cut before its first step starts over. Raises ConfigError for a folder that is no run, a finished one or one
    that another process is training, and DataError where the data set is no longer the one the run began with.
    """
    run = RunFolder(Path(run_path))
    if not (run.path / "config.yaml").is_file():
        raise ConfigError(
            "must be the folder of an interrupted training run with its config.yaml, got none", where=str(run_path)
        )
    with run.held() if processes.is_first else contextlib.nullcontext():
        earlier = earlier_record(run)
        if earlier.get("status") == "finished":
            raise ConfigError(
                "must be the folder of an interrupted training run, got a finished one", where=str(run_path)
            )
        path = run.path / "weights" / "last.ckpt"
        state = read_state(path) if processes.once(path.is_file) else None
        config = TrainConfig.read(run.path / "config.yaml")
        if state is not None:
            _check_settings(config, state, run)
        config = _with_earlier_workers(config, earlier)
        session = prepare_session(config, run, watcher, command, processes)
        _add_earlier(session, earlier)
        return _fit(session, state)


_MAY_CHANGE = ("data.path", "data.workers", "device", "logging", "checkpoint.save_every_s")
"""Settings that change where and how a run works and not what it learns; the data are compared by their digest."""


def _check_settings(config: TrainConfig, state: dict[str, Any], run: RunFolder) -> None:
    """ConfigError where the settings are no longer those of the state that is gone on with."""
    began = TrainConfig.load(state["settings"], where=str(run.path / "weights" / "last.ckpt"))
    before, now = (_flat(settings.model_dump(mode="json")) for settings in (began, config))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE):
            raise ConfigError(
                f"'{key}' must be what the run began with ({before.get(key)!r:.40}), got {now.get(key)!r:.40}",
                where=str(run.path / "config.yaml"),
                do="put it back, or start a new run",
            )


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def _with_earlier_workers(config: TrainConfig, earlier: dict[str, Any]) -> TrainConfig:
    """The settings with the loader processes chosen before; a chosen batch size is in the settings already."""
    chosen = earlier.get("chosen", {}).get("workers", {}).get("value")
    if config.data.workers != "auto" or not isinstance(chosen, int):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"workers": chosen})})


def _add_earlier(session: "Session", earlier: dict[str, Any]) -> None:
    """Keep what the record of a resumed run said of its beginning; DataError where its data have changed."""
    facts = session.facts
    if earlier.get("data_digest", facts["data_digest"]) != facts["data_digest"]:
        raise DataError(
            "the data set must be the one the run began with, got another digest",
            where=session.config.data.path,
            do="start a new run",
        )
    this_time = {key: facts[key] for key in ("command", "started", "code", "git")}
    facts |= {key: earlier[key] for key in ("command", "started", "code", "git") if key in earlier}
    facts["chosen"] = earlier.get("chosen", {}) | facts["chosen"]
    facts["resumed"] = [*earlier.get("resumed", []), this_time]


@dataclass
class Session:
    """The parts of one run, made once and used by the loop and by the final evaluation."""

    config: TrainConfig
    run: RunFolder
    learner: Learner
    images: NetworkImages
    loader: DataLoader[Any]
    validator: Validator
    recorder: Recorder
    facts: dict[str, Any]


def prepare_session(
    config: TrainConfig, run: RunFolder, watcher: Watcher, command: list[str] | None, processes: Processes = ALONE
) -> Session:
    """Make everything a run needs; InputError where it cannot be used."""
    data = prepare_data(config)
    config, weighed = processes.once(lambda: with_class_weights(config, data.train, run))
    data = replace(data, notes=(*data.notes, *weighed))
    _note_all(watcher, data.notes)
    arithmetic = choose_arithmetic(config.device, config.precision)
    keeps = arithmetic.device == "cpu" and keep_freed_memory()
    _seed_everything(config.seed)
    model = _build_model(config, data.train)
    if (started := getattr(model, "started", None)) is not None:
        watcher.note(started)
        data = replace(data, notes=(*data.notes, started))
    check_loss_factors(model, config.loss)
    check_policy(config.augment, data.train)
    if model.task in ("instance", "obb"):
        for part in (data.train, data.val):
            require_outlines(part, model.name, masks=model.task == "instance")
    if model.task == "pose":
        for part in (data.train, data.val):
            require_keypoints(part, model)
        check_mirror(config.augment, data.train)
    processes.prepare(as_module(model), arithmetic.device)
    as_module(model).to(arithmetic.device)
    watcher.note(f"{config.model.name} in {arithmetic.precision} on {arithmetic.device}: {arithmetic.reason}")

    keeping, keeping_val, reason = processes.once(
        lambda: choose_keeping(config, len(data.whole), model.preprocess, processes.launch.local_world)
    )
    watcher.note(reason)
    config, choices = processes.once(lambda: _resolve_batch(config, run, data, model, arithmetic, keeping))
    if config.images_per_step < processes.world:
        raise ConfigError(f"batch must be at least the {processes.world} processes, got {config.images_per_step}")
    images = NetworkImages(data.train, model.preprocess, config.augment, keeping, wanted=Wanted.of(model))
    unlearnt = describe_labels(images, config)
    _note_all(watcher, unlearnt)
    data = replace(data, notes=(*data.notes, *unlearnt))
    batches = _build_batches(config, model, len(images), processes)
    validator = Validator(data.val, model, config.images_per_step, keeping_val, 0, processes)

    names = data.train.images["path"].to_list()
    learner = Learner(model, config, arithmetic, len(batches), names, processes)
    learnt = Learnt.of(data.whole, data.train, config.model.weights)
    recorder = Recorder(run, learner, validator, batches, learnt, watcher)
    if keeping.in_memory or keeping.folder is not None:
        _fill_stores(images, validator, watcher)
    workers = _resolve_workers(learner, images, choices)
    chosen = [f"{name} {choice.value}: {choice.reason}" for name, choice in choices.items()]
    said = [*chosen, *cache_notes(images, workers)]
    _note_all(watcher, said)
    facts = run_facts(learner, data, learnt.data_digest, keeping, command) | {"keeps_freed_memory": keeps}
    facts["notes"] += said
    facts["chosen"] = dict(choices)
    loader = build_loader(images, batches, workers, pin_memory=arithmetic.device == "cuda")
    return Session(config, run, learner, images, loader, validator, recorder, facts)


def _note_all(watcher: Watcher, lines: Any) -> None:
    for line in lines:
        watcher.note(line)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - third-party code may draw from it
    torch.manual_seed(seed)


def _build_model(config: TrainConfig, dataset: Dataset) -> Model:
    arguments = {"class_names": dataset.class_names, "weights": config.model.weights, **config.model_arguments}
    if "keypoints" not in arguments and takes_argument(config.model.name, "keypoints"):
        labelled = keypoints_of(dataset)
        arguments |= {} if labelled is None else {"keypoints": labelled}
    model = create(config.model.name, **arguments)
    if (model.task == "semantic") != (dataset.task == "semantic"):
        raise ConfigError(
            f"the model must fit data of task '{dataset.task}', got '{model.name}' of task '{model.task}'",
            where=config.data.path,
            do="'sightline models' lists models and their tasks",
        )
    return model


def _resolve_batch(
    config: TrainConfig, run: RunFolder, data: TrainingData, model: Model, arithmetic: Arithmetic, keeping: Keeping
) -> tuple[TrainConfig, dict[str, Choice]]:
    """The settings with a batch size in numbers; a chosen one is saved at once, so that a resumed run keeps it."""
    if config.batch != "auto":
        return config, {}
    kept = needed_bytes(len(data.whole), model.preprocess) if keeping.in_memory else 0
    budget = memory_budget(arithmetic.device, kept)
    choice = choose_batch(measure_steps(config, data.train), budget, len(data.train), arithmetic.device)
    config = config.model_copy(update={"batch": choice.value})
    config.save(run.path / "config.yaml")
    return config, {"batch": choice}


def _resolve_workers(learner: Learner, images: NetworkImages, choices: dict[str, Choice]) -> int:
    """How many processes load images; one that is chosen joins the `choices`."""
    config, processes, device = learner.config, learner.processes, learner.arithmetic.device
    if config.data.workers != "auto":
        return config.data.workers
    loading_ms = measure_loading(images)
    step_ms = measure_step(learner.model, images, config, learner.arithmetic)
    cores = max(1, usable_cores() // processes.launch.local_world)
    choices["workers"] = processes.once(
        lambda: choose_workers(loading_ms, step_ms, cores, torch.get_num_threads(), device)
    )
    return choices["workers"].value


def _build_batches(config: TrainConfig, model: Model, count: int, processes: Processes) -> SeededBatches:
    sizes = varied_sizes(model.preprocess.size_hw, config.augment.multi_scale)
    heavy = config.augment.heavy_until * config.schedule.epochs
    return SeededBatches(
        count,
        config.images_per_step,
        config.seed,
        shuffle=True,
        sizes=sizes,
        heavy_epochs=heavy,
        share=processes.share,
    )


def _fill_stores(images: NetworkImages, validator: Validator, watcher: Watcher) -> None:
    for part, name in ((images, "reading training images"), (validator.images, "reading validation images")):
        watcher.phase(name, len(part))
        part.store.fill(2, watcher.advance)


def _fit(session: Session, state: dict[str, Any] | None) -> TrainResult:
    """Let the loop work, from the start or from a state, and keep the record of the run right whatever happens."""
    recorder = session.recorder
    started = time.perf_counter()
    _record(session, {"status": "running"})
    status = "failed"
    try:
        with (
            stop_at_next_step(recorder.stop, signal.SIGINT, signal.SIGTERM),
            warnings.catch_warnings(),
            deterministic_operations(session.config.deterministic) as exceptions,
        ):
            session.facts["not_deterministic"] = exceptions
            recorder.begin(state)
            train_epochs(session.learner, session.loader, recorder)
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        recorder.close_loggers(status == "finished")
        if status != "finished":
            _record(session, {"status": status, "epochs_done": len(recorder.rows), "watched": recorder.watched})
    return _finish(session, recorder.seconds_before + time.perf_counter() - started)


def _record(session: Session, outcome: dict[str, Any]) -> None:
    if session.learner.processes.is_first:
        settings = {"config_sha256": file_sha256(session.run.path / "config.yaml")}
        session.run.record({**session.facts, **settings, **outcome})


def _finish(session: Session, seconds: float) -> TrainResult:
    """Judge the best weights once more in fp32, as `sightline eval` does, and choose the operating point."""
    run, recorder, validator = session.run, session.recorder, session.validator
    watcher = recorder.watcher
    weights = run.weights / "best.safetensors"
    best = load_model(weights)
    measuring = session.learner.arithmetic.measuring()
    as_module(best).to(measuring.device)
    watcher.phase("evaluating the best weights", len(validator.images))
    predictions, foreground = validator.predict_best(best, measuring, watcher.advance)
    evaluation: Evaluation = beside_baseline(
        validator.evaluate(predictions, RESAMPLES, foreground),
        session.images.dataset,
        validator.dataset,
        size_hw=best.preprocess.size_hw,
        steps=session.learner.steps,
    )
    evaluation = replace(evaluation, conventions=evaluation.conventions | {"model_file": "weights/best.safetensors"})
    for line in evaluation.warnings:
        watcher.note(f"warning: {line}")
    if (conf := chosen_conf(evaluation)) is not None:
        recorder.save_best(best, (own_point(best) or OperatingPoint()).model_copy(update={"conf": conf}))
    if session.learner.processes.is_first:
        predictions.save(run.path / "predictions.parquet")
        write_sealed_json(run.path / "evaluation.json", evaluation)
    rows = recorder.rows
    speed = sum(r["images_per_s"] for r in rows[1:] or rows) / max(1, len(rows[1:] or rows))
    outcome = {
        "status": "finished",
        "epochs_done": len(rows),
        "watched": recorder.watched,
        "best": {"epoch": recorder.best_epoch, "metric": recorder.metric, "value": recorder.best_value},
        "duration_s": round(seconds, 1),
        "images_per_s": round(speed, 2),
        "peak_memory_mb": peak_memory(session.learner.arithmetic.device),
    }
    _record(session, outcome)
    return TrainResult(run.path, weights, evaluation, recorder.best_epoch, len(rows), seconds, speed)
