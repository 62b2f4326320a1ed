"""One training run: from a configuration to a folder with the best weights, their evaluation and all behind it."""

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic
from sightline.core.metadata import OperatingPoint
from sightline.core.runs import RunFolder, provenance
from sightline.evaluate import DetectionResult
from sightline.models import Model, create, load_model
from sightline.train.config import TrainConfig
from sightline.train.ema import WeightAverage
from sightline.train.images import NetworkImages, SeededBatches, build_loader, fits_in_memory
from sightline.train.module import TrainingModule, as_module
from sightline.train.precision import Arithmetic, choose_arithmetic
from sightline.train.recorder import Recorder, Watcher
from sightline.train.splits import TrainingData, prepare_data
from sightline.train.validation import Evaluation, Validator

__all__ = ["TrainResult", "resume", "train"]


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


@dataclass
class _Session:
    """The parts of one run, made once and used by fit and by the final evaluation."""

    config: TrainConfig
    run: RunFolder
    data: TrainingData
    arithmetic: Arithmetic
    module: TrainingModule
    loader: Any
    validator: Validator
    recorder: Recorder
    facts: dict[str, Any]


def train(config: TrainConfig, run: RunFolder, watcher: Watcher, command: list[str] | None = None) -> TrainResult:
    """Train from the start into `run`. KeyboardInterrupt leaves a run that `resume` continues."""
    config.save(run.path / "config.yaml")
    return _fit(_prepare(config, run, watcher, command), watcher, checkpoint=None)


def resume(run_path: str | Path, watcher: Watcher, command: list[str] | None = None) -> TrainResult:
    """Continue an interrupted run from its last finished epoch, with its own configuration."""
    run = RunFolder(Path(run_path))
    state, config_path = run.path / "weights" / "last.ckpt", run.path / "config.yaml"
    if not config_path.is_file() or not state.is_file():
        raise ConfigError(
            "must be the folder of an interrupted training run with config.yaml and weights/last.ckpt, got none",
            where=str(run_path),
        )
    config = TrainConfig.read(config_path)
    return _fit(_prepare(config, run, watcher, command), watcher, checkpoint=state)


def _prepare(config: TrainConfig, run: RunFolder, watcher: Watcher, command: list[str] | None) -> _Session:
    data = prepare_data(config)
    for line in data.notes:
        watcher.note(line)
    arithmetic = choose_arithmetic(config.device, config.precision)
    lightning.seed_everything(config.seed, verbose=False)
    model = _build_model(config, data.train)
    watcher.note(f"{config.model} in {arithmetic.precision} on {arithmetic.device}: {arithmetic.reason}")
    digest = data.whole.digest()
    cache = config.cache == "ram" or (config.cache == "auto" and fits_in_memory(len(data.whole), model.preprocess))
    workers = config.workers if config.workers is not None else 0
    images = NetworkImages(data.train, model.preprocess, config.augment, cache=cache)
    batches = SeededBatches(len(images), config.batch, config.seed, shuffle=True)
    validator = Validator(data.val, model, config.batch, cache, 0)
    module = TrainingModule(model, config, len(batches), data.train.images["path"].to_list())
    average = WeightAverage(as_module(model), config.ema_decay, config.ema_ramp_steps) if config.ema_decay else None
    recorder = Recorder(run, validator, average, arithmetic, digest, watcher)
    facts = provenance(seeds={"train": config.seed}, data_digest=digest, command=command)
    facts |= _describe(config, data, digest, model, arithmetic, cache)
    if cache:
        for part, name in ((images, "reading training images"), (validator.images, "reading validation images")):
            watcher.phase(name, len(part))
            part.fill_cache(2, watcher.advance)
    loader = build_loader(images, batches, workers)
    return _Session(config, run, data, arithmetic, module, loader, validator, recorder, facts)


def _build_model(config: TrainConfig, dataset: Dataset) -> Model:
    size = {} if config.imgsz is None else {"imgsz": config.imgsz}
    return create(config.model, class_names=dataset.class_names, weights=config.weights, **size)


def _fit(session: _Session, watcher: Watcher, checkpoint: Path | None) -> TrainResult:
    run, recorder = session.run, session.recorder
    started = time.perf_counter()
    run.record({**session.facts, "status": "running"})
    trainer = _lightning_trainer(session)
    status = "failed"
    try:
        with warnings.catch_warnings():
            # Lightning advises more loader processes; with images in memory there is nothing for them to do.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*tensorboardX.*|.*litlogger.*|.*LeafSpec.*")
            trainer.fit(session.module, train_dataloaders=session.loader, ckpt_path=checkpoint, weights_only=True)
        if trainer.interrupted:
            raise KeyboardInterrupt
        status = "finished"
    except (KeyboardInterrupt, SystemExit):
        status = "interrupted"
        raise KeyboardInterrupt from None
    finally:
        if status != "finished":
            run.record({**session.facts, "status": status, "epochs_done": len(recorder.rows)})
    return _finish(session, watcher, time.perf_counter() - started)


def _lightning_trainer(session: _Session) -> lightning.Trainer:
    # Lightning's own notes go to the log of whoever wants them, not into the user's terminal.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator="gpu" if session.arithmetic.device == "cuda" else "cpu",
        devices=1,
        precision=session.arithmetic.lightning,
        max_epochs=session.config.epochs,
        callbacks=[session.recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=session.run.path,
    )


def _finish(session: _Session, watcher: Watcher, seconds: float) -> TrainResult:
    """Judge the best weights once more in fp32, as `sightline eval` does, and choose the operating point."""
    run, recorder, validator = session.run, session.recorder, session.validator
    weights = run.weights / "best.safetensors"
    best = load_model(weights)
    plain_arithmetic = Arithmetic(session.arithmetic.device, "fp32", "final evaluation")
    as_module(best).to(plain_arithmetic.device)
    watcher.phase("evaluating the best weights", len(validator.images))
    predictions = validator.predict(best, plain_arithmetic, watcher.advance)
    evaluation = validator.evaluate(predictions)
    if isinstance(evaluation, DetectionResult):
        recorder.save_best(best, OperatingPoint(conf=evaluation.operating_point.conf))
    predictions.save(run.path / "predictions.parquet")
    write_json_atomic(run.path / "evaluation.json", evaluation.to_dict())
    rows = recorder.rows
    speed = sum(r["images_per_s"] for r in rows[1:] or rows) / max(1, len(rows[1:] or rows))
    outcome = {
        "status": "finished",
        "epochs_done": len(rows),
        "best": {"epoch": recorder.best_epoch, "metric": recorder.metric, "value": recorder.best_value},
        "duration_s": round(seconds, 1),
        "images_per_s": round(speed, 2),
    }
    run.record({**session.facts, **outcome})
    return TrainResult(run.path, weights, evaluation, recorder.best_epoch, len(rows), seconds, speed)


def _describe(
    config: TrainConfig, data: TrainingData, digest: str, model: Model, arithmetic: Arithmetic, cache: bool
) -> dict[str, Any]:
    return {
        "task": model.task,
        "model": {
            "name": model.name,
            "arguments": model.arguments,
            "parameters": sum(p.numel() for p in model.parameters()),
            "class_names": list(model.class_names),
        },
        "data": {
            "path": str(config.data),
            "format": data.whole.format,
            "name": data.whole.name,
            "digest": digest,
            "images_by_split": {"train": len(data.train), "val": len(data.val)},
            "objects_by_class": data.whole.counts_by_class(),
            "excluded": list(config.exclude),
        },
        "preprocess": model.preprocess.model_dump(mode="json"),
        "precision": {"precision": arithmetic.precision, "device": arithmetic.device, "reason": arithmetic.reason},
        "threads": torch.get_num_threads(),
        "cached_in_memory": cache,
        "notes": list(data.notes),
    }
