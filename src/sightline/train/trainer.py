"""One training run: from a configuration to a folder with the best weights, their evaluation and all behind it."""

import contextlib
import json
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.profilers import Profiler

from sightline.core.errors import ConfigError, DataError, InputError
from sightline.core.files import write_json_atomic
from sightline.core.metadata import OperatingPoint
from sightline.core.runs import RunFolder
from sightline.evaluate import DetectionResult
from sightline.models import load_model
from sightline.train.config import TrainConfig
from sightline.train.determinism import deterministic_operations
from sightline.train.distributed import ALONE, Processes
from sightline.train.memory import peak_memory
from sightline.train.module import as_module
from sightline.train.position import stop_at_next_step
from sightline.train.precision import Arithmetic
from sightline.train.recorder import Watcher
from sightline.train.session import Session, prepare_session
from sightline.train.state_file import StateFile
from sightline.train.validation import Evaluation

__all__ = ["TrainResult", "lightning_trainer", "resume", "run_trainer", "train"]


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

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**vars(self), "evaluation": self.evaluation.to_dict()}


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
    """
    with run.held() if processes.is_first else contextlib.nullcontext():
        if processes.is_first:
            config.save(run.path / "config.yaml")
        try:
            session = prepare_session(config, run, watcher, command, processes)
        except InputError:
            if processes.is_first:
                (run.path / "config.yaml").unlink()
                with contextlib.suppress(OSError):  # a folder that holds more than the settings stays
                    run.path.rmdir()
            raise
        return _fit(session, watcher, checkpoint=None)


def resume(
    run_path: str | Path, watcher: Watcher, command: list[str] | None = None, processes: Processes = ALONE
) -> TrainResult:
    """Continue an interrupted run from its last saved state, with its own configuration.

    A run cut before its first step starts over. Raises ConfigError for a folder that is no run or a finished one, and
    DataError where the data set is no longer the one the run began with.
    """
    run = RunFolder(Path(run_path))
    if not (run.path / "config.yaml").is_file():
        raise ConfigError(
            "must be the folder of an interrupted training run with its config.yaml, got none", where=str(run_path)
        )
    with run.held() if processes.is_first else contextlib.nullcontext():
        return _go_on(run, watcher, command, processes)


def _go_on(run: RunFolder, watcher: Watcher, command: list[str] | None, processes: Processes) -> TrainResult:
    state = run.path / "weights" / "last.ckpt"
    earlier = _earlier_record(run)
    if earlier.get("status") == "finished":
        raise ConfigError("must be the folder of an interrupted training run, got a finished one", where=str(run.path))
    config = _with_earlier_workers(TrainConfig.read(run.path / "config.yaml"), earlier)
    session = prepare_session(config, run, watcher, command, processes)
    facts = session.facts
    if earlier.get("data_digest", facts["data_digest"]) != facts["data_digest"]:
        raise DataError(
            "the data set must be the one the run began with, got another digest",
            where=session.config.data.path,
            do="start a new run",
        )
    this_time = {key: facts[key] for key in ("command", "started", "git")}
    facts |= {key: earlier[key] for key in ("command", "started") if key in earlier}
    facts["chosen"] = earlier.get("chosen", {}) | facts["chosen"]
    facts["resumed"] = [*earlier.get("resumed", []), this_time]
    return _fit(session, watcher, checkpoint=state if state.is_file() else None)


def _with_earlier_workers(config: TrainConfig, earlier: dict[str, Any]) -> TrainConfig:
    """The settings with the loader processes chosen before; a chosen batch size is in the settings already."""
    chosen = earlier.get("chosen", {}).get("workers")
    if config.data.workers != "auto" or chosen is None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"workers": chosen["value"]})})


def _earlier_record(run: RunFolder) -> dict[str, Any]:
    path = run.path / "run.json"
    try:
        record = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"must be JSON, got: {error}", where=str(path)) from None
    if not isinstance(record, dict):
        raise ConfigError(f"must be a JSON object, got a {type(record).__name__}", where=str(path))
    return record


def _fit(session: Session, watcher: Watcher, checkpoint: Path | None) -> TrainResult:
    recorder = session.recorder
    started = time.perf_counter()
    _record(session, {"status": "running"})
    trainer = lightning_trainer(session, recorder, session.config.schedule.epochs)
    status = "failed"
    try:
        with stop_at_next_step(recorder.stop):
            run_trainer(trainer, session, session.loader, checkpoint)
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        recorder.close_loggers(status == "finished")
        if status != "finished":
            _record(session, {"status": status, "epochs_done": len(recorder.rows), "watched": recorder.watched})
    return _finish(session, watcher, recorder.seconds_before + time.perf_counter() - started)


def _record(session: Session, outcome: dict[str, Any]) -> None:
    if session.processes.is_first:
        session.run.record({**session.facts, **outcome})


def run_trainer(trainer: lightning.Trainer, session: Session, loader: Any, checkpoint: Path | None) -> None:
    """Let Lightning train on the batches of `loader`; KeyboardInterrupt where it was stopped."""
    with warnings.catch_warnings(), deterministic_operations(session.config.deterministic) as exceptions:
        session.facts["not_deterministic"] = exceptions
        # Lightning advises more loader processes; with images in memory there is nothing for them to do.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Our batches know their place (SeededBatches.done), which Lightning cannot see.
        warnings.filterwarnings("ignore", message=".*ended before the epoch ended.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")  # frozen stages are, on purpose
        warnings.filterwarnings("ignore", message=".*tensorboardX.*|.*litlogger.*|.*LeafSpec.*")
        # Channels-last gradients are copied into the buffer that is sent: a matter of speed between machines alone.
        warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
        try:
            trainer.fit(session.module, train_dataloaders=loader, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # how Lightning ends what was interrupted
            raise KeyboardInterrupt from None
    if trainer.interrupted:
        raise KeyboardInterrupt


def lightning_trainer(
    session: Session, callback: lightning.Callback, epochs: int, profiler: Profiler | None = None
) -> lightning.Trainer:
    """Lightning's trainer for a session, with everything it would write or show by itself switched off."""
    # Lightning's own notes go to the log of whoever wants them, not into the user's terminal.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator="gpu" if session.arithmetic.device == "cuda" else "cpu",
        precision=session.arithmetic.lightning,
        max_epochs=epochs,
        accumulate_grad_batches=session.config.optimizer.accumulate,
        callbacks=[callback],
        plugins=[StateFile()],
        profiler=profiler,
        **session.processes.trainer_options(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=session.run.path,
    )


def _finish(session: Session, watcher: Watcher, seconds: float) -> TrainResult:
    """Judge the best weights once more in fp32, as `sightline eval` does, and choose the operating point."""
    run, recorder, validator = session.run, session.recorder, session.validator
    weights = run.weights / "best.safetensors"
    best = load_model(weights)
    plain_arithmetic = Arithmetic(session.arithmetic.device, "fp32", "final evaluation")
    as_module(best).to(plain_arithmetic.device)
    watcher.phase("evaluating the best weights", len(validator.images))
    predictions = validator.predict(best, plain_arithmetic, watcher.advance)
    evaluation = validator.evaluate(predictions)
    # Where nothing was found right there is no best threshold; the model then runs at the usual one.
    if isinstance(evaluation, DetectionResult) and evaluation.operating_point.true_positives:
        recorder.save_best(best, OperatingPoint(conf=evaluation.operating_point.conf))
    if session.processes.is_first:
        predictions.save(run.path / "predictions.parquet")
        write_json_atomic(run.path / "evaluation.json", evaluation.to_dict())
    rows = recorder.rows
    speed = sum(r["images_per_s"] for r in rows[1:] or rows) / max(1, len(rows[1:] or rows))
    outcome = {
        "status": "finished",
        "epochs_done": len(rows),
        "watched": recorder.watched,
        "best": {"epoch": recorder.best_epoch, "metric": recorder.metric, "value": recorder.best_value},
        "duration_s": round(seconds, 1),
        "images_per_s": round(speed, 2),
        "peak_memory_mb": peak_memory(session.arithmetic.device),
    }
    _record(session, outcome)
    return TrainResult(run.path, weights, evaluation, recorder.best_epoch, len(rows), seconds, speed)
