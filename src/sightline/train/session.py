"""The parts of one run, made from its configuration: data, network, loader, validator, recorder."""

import math
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder, provenance
from sightline.models import Model, create
from sightline.train.allocator import keep_freed_memory
from sightline.train.augment.policy import check_policy
from sightline.train.config import TrainConfig
from sightline.train.ema import WeightAverage
from sightline.train.image_store import fits_in_memory
from sightline.train.images import NetworkImages, SeededBatches, build_loader, varied_sizes
from sightline.train.module import TrainingModule, as_module, check_loss_factors
from sightline.train.precision import Arithmetic, choose_arithmetic
from sightline.train.recorder import Recorder, Watcher
from sightline.train.splits import TrainingData, prepare_data
from sightline.train.validation import Validator

__all__ = ["Session", "prepare_session"]


@dataclass
class Session:
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


def prepare_session(config: TrainConfig, run: RunFolder, watcher: Watcher, command: list[str] | None) -> Session:
    """Make everything a run needs; InputError where it cannot be used."""
    data = prepare_data(config)
    for line in data.notes:
        watcher.note(line)
    arithmetic = choose_arithmetic(config.device, config.precision)
    keeps = arithmetic.device == "cpu" and keep_freed_memory()
    lightning.seed_everything(config.seed, verbose=False)
    model = _build_model(config, data.train)
    check_loss_factors(model, config.loss)
    check_policy(config.augment, data.train)
    watcher.note(f"{config.model.name} in {arithmetic.precision} on {arithmetic.device}: {arithmetic.reason}")
    digest = data.whole.digest()
    cache = config.data.cache == "ram" or (
        config.data.cache == "auto" and fits_in_memory(len(data.whole), model.preprocess)
    )
    workers = config.data.workers if config.data.workers is not None else 0
    images = NetworkImages(data.train, model.preprocess, config.augment, cache=cache)
    said = describe_labels(images, config)
    for line in said:
        watcher.note(line)
    data = replace(data, notes=(*data.notes, *said))
    sizes = varied_sizes(model.preprocess.size_hw, config.augment.multi_scale)
    heavy = config.augment.heavy_until * config.schedule.epochs
    batches = SeededBatches(len(images), config.batch, config.seed, shuffle=True, sizes=sizes, heavy_epochs=heavy)
    validator = Validator(data.val, model, config.batch, cache, 0)
    steps = math.ceil(len(batches) / config.optimizer.accumulate)
    module = TrainingModule(model, config, steps, data.train.images["path"].to_list())
    average = (
        WeightAverage(as_module(model), config.checkpoint.ema_decay, config.checkpoint.ema_ramp_steps)
        if config.checkpoint.ema_decay
        else None
    )
    recorder = Recorder(run, validator, batches, average, arithmetic, digest, watcher)
    facts = provenance(seeds={"train": config.seed}, data_digest=digest, command=command)
    facts |= _describe(config, data, digest, model, arithmetic, cache)
    facts["keeps_freed_memory"] = keeps
    if cache:
        for part, name in ((images, "reading training images"), (validator.images, "reading validation images")):
            watcher.phase(name, len(part))
            part.store.fill(2, watcher.advance)
    loader = build_loader(images, batches, workers)
    return Session(config, run, data, arithmetic, module, loader, validator, recorder, facts)


def _build_model(config: TrainConfig, dataset: Dataset) -> Model:
    size = {} if config.model.imgsz is None else {"imgsz": config.model.imgsz}
    model = create(config.model.name, class_names=dataset.class_names, weights=config.model.weights, **size)
    if (model.task == "semantic") != (dataset.task == "semantic"):
        raise ConfigError(
            f"the model must fit data of task '{dataset.task}', got '{model.name}' of task '{model.task}'",
            where=config.data.path,
            do="'sightline models' lists models and their tasks",
        )
    return model


def describe_labels(images: NetworkImages, config: TrainConfig) -> list[str]:
    """What the network does not learn from, though it is labelled."""
    if images.dataset.task == "semantic":
        return []
    notes = []
    ignored = images.dataset.objects.height - images.dataset.usable_objects.height
    if ignored:
        notes.append(f"{ignored} crowd or ignored objects of the training split count as background")
    sides = images.store.objects.boxes
    small = int(((sides[:, 2:] - sides[:, :2]) < config.augment.min_side_px).any(axis=1).sum())
    if small:
        notes.append(
            f"{small} training objects are below {config.augment.min_side_px:g} pixels at the network's size "
            "and left out where augmentation does not enlarge them"
        )
    return notes


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
            "path": config.data.path,
            "format": data.whole.format,
            "name": data.whole.name,
            "digest": digest,
            "images_by_split": {"train": len(data.train), "val": len(data.val)},
            "objects_by_class": data.whole.counts_by_class(),
            "excluded": list(config.data.exclude),
        },
        "preprocess": model.preprocess.model_dump(mode="json"),
        "precision": {"precision": arithmetic.precision, "device": arithmetic.device, "reason": arithmetic.reason},
        "threads": torch.get_num_threads(),
        "cached_in_memory": cache,
        "notes": list(data.notes),
    }
