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
from sightline.train.capacity import (
    Choice,
    choose_batch,
    choose_keeping,
    choose_workers,
    copies_note,
    measure_loading,
    measure_step,
    measure_steps,
    memory_budget,
)
from sightline.train.config import TrainConfig
from sightline.train.data.images import NetworkImages, SeededBatches, build_loader, varied_sizes
from sightline.train.data.splits import TrainingData, prepare_data
from sightline.train.data.store import Keeping, needed_bytes
from sightline.train.distributed import ALONE, Processes
from sightline.train.ema import WeightAverage
from sightline.train.memory import usable_cores
from sightline.train.module import TrainingModule, as_module, check_loss_factors
from sightline.train.precision import Arithmetic, choose_arithmetic
from sightline.train.recorder import Recorder, Watcher
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
    processes: Processes
    facts: dict[str, Any]


def prepare_session(
    config: TrainConfig, run: RunFolder, watcher: Watcher, command: list[str] | None, processes: Processes = ALONE
) -> Session:
    """Make everything a run needs; InputError where it cannot be used."""
    data = prepare_data(config)
    for line in data.notes:
        watcher.note(line)
    arithmetic = choose_arithmetic(config.device, config.precision)
    keeps = arithmetic.device == "cpu" and keep_freed_memory()
    lightning.seed_everything(config.seed, verbose=False)
    model = _build_model(config, data.train)
    processes.prepare(as_module(model), arithmetic.device)
    check_loss_factors(model, config.loss)
    check_policy(config.augment, data.train)
    watcher.note(f"{config.model.name} in {arithmetic.precision} on {arithmetic.device}: {arithmetic.reason}")
    digest = data.whole.digest()
    keeping, keeping_val, reason = processes.once(
        lambda: choose_keeping(config, len(data.whole), model.preprocess, processes.launch.local_world)
    )
    watcher.note(reason)
    config, choices = processes.once(lambda: _resolve_batch(config, run, data, model, arithmetic, keeping))
    if config.images_per_step < processes.world:
        raise ConfigError(f"batch must be at least the {processes.world} processes, got {config.images_per_step}")
    images = NetworkImages(data.train, model.preprocess, config.augment, keeping)
    said = describe_labels(images, config)
    for line in said:
        watcher.note(line)
    data = replace(data, notes=(*data.notes, *said))
    batch = config.images_per_step
    sizes = varied_sizes(model.preprocess.size_hw, config.augment.multi_scale)
    heavy = config.augment.heavy_until * config.schedule.epochs
    batches = SeededBatches(
        len(images), batch, config.seed, shuffle=True, sizes=sizes, heavy_epochs=heavy, share=processes.share
    )
    validator = Validator(data.val, model, batch, keeping_val, 0, processes)
    steps = math.ceil(len(batches) / config.optimizer.accumulate)
    module = TrainingModule(model, config, steps, data.train.images["path"].to_list(), processes)
    average = (
        WeightAverage(as_module(model), config.checkpoint.ema_decay, config.checkpoint.ema_ramp_steps)
        if config.checkpoint.ema_decay
        else None
    )
    recorder = Recorder(run, validator, batches, average, arithmetic, digest, watcher, processes)
    facts = provenance(seeds={"train": config.seed}, data_digest=digest, command=command)
    facts |= _describe(config, data, digest, model, arithmetic, keeping)
    facts["keeps_freed_memory"] = keeps
    facts["processes"] = processes.describe(arithmetic.device)
    if keeping.in_memory or keeping.folder is not None:
        _fill_stores(images, validator, watcher)
    workers = config.data.workers
    if workers == "auto":
        loading_ms, step_ms = measure_loading(images), measure_step(module, images, arithmetic)
        cores = max(1, usable_cores() // processes.launch.local_world)
        choices["workers"] = processes.once(
            lambda: choose_workers(loading_ms, step_ms, cores, torch.get_num_threads(), arithmetic.device)
        )
        workers = choices["workers"].value
    facts["chosen"] = {name: choice.to_dict() for name, choice in choices.items()}
    for line in (*(f"{name} {c.value}: {c.reason}" for name, c in choices.items()), *_cache_notes(images, workers)):
        watcher.note(line)
        facts["notes"].append(line)
    loader = build_loader(images, batches, workers, pin_memory=arithmetic.device == "cuda")
    return Session(config, run, data, arithmetic, module, loader, validator, recorder, processes, facts)


def _fill_stores(images: NetworkImages, validator: Validator, watcher: Watcher) -> None:
    for part, name in ((images, "reading training images"), (validator.images, "reading validation images")):
        watcher.phase(name, len(part))
        part.store.fill(2, watcher.advance)


def _resolve_batch(
    config: TrainConfig,
    run: RunFolder,
    data: TrainingData,
    model: Model,
    arithmetic: Arithmetic,
    keeping: Keeping,
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


def _cache_notes(images: NetworkImages, workers: int) -> list[str]:
    """What must be said about the images that are kept: a disk that takes no more, entries found damaged, copies."""
    disk, said = images.store.disk, []
    if disk is not None and disk.fault is not None:
        said.append(f"the disk cache could not be written, training goes on without: {disk.fault}")
    if disk is not None and disk.remade:
        said.append(f"{disk.remade} damaged entries of the disk cache were made again")
    copies = copies_note(workers, images.store.keeping)
    return [*said, copies] if copies else said


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
    config: TrainConfig, data: TrainingData, digest: str, model: Model, arithmetic: Arithmetic, keeping: Keeping
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
        "cached_in_memory": keeping.in_memory,
        "cache_folder": keeping.folder,
        "decode": keeping.decode,
        "notes": list(data.notes),
    }
