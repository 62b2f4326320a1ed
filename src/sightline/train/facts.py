"""What a run says of itself before its first step: the facts of `run.json` and the notes worth reading."""

from typing import Any

import torch

from sightline.core.errors import ConfigError
from sightline.core.runs import RunFolder, provenance, read_record
from sightline.train.capacity import copies_note
from sightline.train.config import TrainConfig
from sightline.train.data.images import NetworkImages
from sightline.train.data.splits import TrainingData
from sightline.train.data.store import Keeping
from sightline.train.loop import Learner, as_module

__all__ = ["cache_notes", "describe_labels", "earlier_record", "run_facts"]


def run_facts(
    learner: Learner, data: TrainingData, digest: str, keeping: Keeping, command: list[str] | None
) -> dict[str, Any]:
    """What made the run, its data, network and arithmetic, for `run.json`."""
    config, model, arithmetic = learner.config, learner.model, learner.arithmetic
    return {
        **provenance(seeds={"train": config.seed}, data_digest=digest, command=command),
        "task": model.task,
        "model": {
            "name": model.name,
            "arguments": model.arguments,
            "parameters": sum(p.numel() for p in as_module(model).parameters()),
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
        "precision": {
            "precision": arithmetic.precision,
            "measured_in": arithmetic.measuring().precision,
            "device": arithmetic.device,
            "reason": arithmetic.reason,
        },
        "threads": torch.get_num_threads(),
        "cached_in_memory": keeping.in_memory,
        "cache_folder": keeping.folder,
        "decode": keeping.decode,
        "notes": list(data.notes),
        "processes": learner.processes.describe(arithmetic.device),
    }


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


def cache_notes(images: NetworkImages, workers: int) -> list[str]:
    """What must be said about the images that are kept: a disk that takes no more, entries found damaged, copies."""
    disk, said = images.store.disk, []
    if disk is not None and disk.fault is not None:
        said.append(f"the disk cache could not be written, training goes on without: {disk.fault}")
    if disk is not None and disk.remade:
        said.append(f"{disk.remade} damaged entries of the disk cache were made again")
    copies = copies_note(workers, images.store.keeping)
    return [*said, copies] if copies else said


def earlier_record(run: RunFolder) -> dict[str, Any]:
    """The `run.json` of a run that is gone on with, empty where it was cut before; ConfigError where it is damaged."""
    path = run.path / "run.json"
    try:
        return read_record(path) if path.exists() else {}
    except OSError as error:
        raise ConfigError(f"cannot read the file ({error.strerror})", where=str(path)) from None
