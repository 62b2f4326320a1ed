"""Measures a training step at growing batch; run as a process of its own, so that running out of memory harms nobody.

Reads the task as JSON from stdin and prints one JSON line per batch as soon as it is measured.
"""

import json
import sys
import time
from typing import Any

import torch

from sightline.models import create
from sightline.train.config import TrainConfig
from sightline.train.data.images import Batch
from sightline.train.memory import peak_bytes
from sightline.train.module import TrainingModule
from sightline.train.precision import Arithmetic, choose_arithmetic

__all__ = ["measure"]


def measure(task: dict[str, Any]) -> None:
    """Print batch, peak bytes and milliseconds per image for each of the task's batches, smallest first."""
    torch.set_num_threads(task["threads"])
    config = TrainConfig.load(task["config"])
    size: dict[str, Any] = {} if config.model.imgsz is None else {"imgsz": config.model.imgsz}
    model = create(config.model.name, class_names=tuple(task["class_names"]), **size)
    arithmetic = choose_arithmetic(config.device, config.precision)
    module = TrainingModule(model, config, 1, ["generated"]).to(arithmetic.device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    began = time.perf_counter()
    for count in task["batches"]:
        batch = _generated(module, count, task["objects"]).to(torch.device(arithmetic.device))
        _step(module, optimizer, batch, arithmetic)
        started = time.perf_counter()
        _step(module, optimizer, batch, arithmetic)
        spent = 1e3 * (time.perf_counter() - started) / count
        peak = torch.cuda.max_memory_allocated() if arithmetic.device == "cuda" else peak_bytes()
        print(json.dumps({"batch": count, "peak_bytes": peak, "ms_per_image": round(spent, 3)}), flush=True)  # noqa: T201
        # The next batch takes twice as long, twice.
        if time.perf_counter() - began + 4e-3 * spent * count > task["seconds"]:
            return


def _step(module: TrainingModule, optimizer: torch.optim.Optimizer, batch: Batch, arithmetic: Arithmetic) -> None:
    with arithmetic.autocast():
        loss = module.training_step(batch, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    if arithmetic.device == "cuda":
        torch.cuda.synchronize()


def _generated(module: TrainingModule, count: int, objects: int) -> Batch:
    """Noise with as many objects on each image as the fullest real one has."""
    preprocess = module.model.preprocess
    height, width = preprocess.size_hw
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, preprocess.channel_count, height, width), generator=generator)
    if module.model.task == "semantic":
        targets = {"mask": torch.zeros(count, height, width, dtype=torch.int64)}
    else:
        total = count * objects
        corners = torch.rand(total, 2, generator=generator) * torch.tensor([width / 2, height / 2])
        targets = {
            "boxes": torch.cat([corners, corners + torch.tensor([width / 4, height / 4])], 1),
            "labels": torch.zeros(total, dtype=torch.int64),
            "batch_index": torch.arange(count).repeat_interleave(objects),
        }
    return Batch(images.to(torch.uint8), targets, [0] * count)


if __name__ == "__main__":
    measure(json.loads(sys.stdin.read()))
