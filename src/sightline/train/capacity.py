"""What this machine can carry: batch size from a step's measured memory, loader processes from measured times.

The measuring and the choosing are apart: the rules are plain functions of what was measured. A value the user gave is
never touched.
"""

import copy
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sightline.core.cache import user_cache
from sightline.core.dataset import Dataset
from sightline.core.errors import SightlineError
from sightline.core.plugins import given_files
from sightline.core.preprocess import Preprocess
from sightline.models import MASK_STRIDE, Model, create
from sightline.train.config import TrainConfig
from sightline.train.data.images import Batch, NetworkImages, Wanted
from sightline.train.data.store import ImageStore, Keeping, fits_in_memory, needed_bytes
from sightline.train.loop import as_module, loss_terms
from sightline.train.machine import Arithmetic, available_bytes, choose_arithmetic, peak_bytes
from sightline.train.optimizers import build_optimizer, freeze_stages

__all__ = [
    "STEPS_PER_EPOCH",
    "Choice",
    "StepCost",
    "choose_batch",
    "choose_keeping",
    "choose_workers",
    "copies_note",
    "measure_loading",
    "measure_reading",
    "measure_step",
    "measure_steps",
    "memory_budget",
    "print_costs",
]

_TRIED_BATCHES = (2, 4, 8)
_MEASURE_SECONDS = 20.0  # no larger batch is tried after this
_LARGEST = {"cpu": 64, "cuda": 256}  # beyond, a step only takes longer
_SHARE = {"cpu": 0.5, "cuda": 0.8}  # of the free memory; on the CPU others live there too
STEPS_PER_EPOCH = 10  # fewer, larger steps learn less from the same images
_STEP_IMAGES = 4  # of the batch whose step is timed against loading
_CHEAP_LOADING = 0.1  # of a step's time: worker processes would gain less than this


@dataclass(frozen=True)
class StepCost:
    """What one training step took: images, the peak memory of the process or the device, milliseconds per image."""

    batch: int
    peak_bytes: int
    ms_per_image: float


@dataclass(frozen=True)
class Choice:
    """A value chosen for the user, why, and from which numbers."""

    value: int
    reason: str
    measured: tuple[dict[str, float], ...] = ()


def choose_batch(costs: Sequence[StepCost], budget_bytes: float, images: int, device: str) -> Choice:
    """The largest power of two whose step fits `budget_bytes`, that leaves ten steps an epoch and is worth its time.

    Memory is taken to be a fixed part and a part for each image: the slope of the least-squares line through the
    measured steps, raised until no measured step lies above it.
    """
    batches = np.array([c.batch for c in costs], np.float64)
    peaks = np.array([c.peak_bytes for c in costs], np.float64)
    slope = max(float(np.polyfit(batches, peaks, 1)[0]), 1.0) if len(costs) > 1 else float(peaks[0] / batches[0])
    fixed = float((peaks - slope * batches).max())
    most = {
        "memory": (budget_bytes - fixed) / slope,
        f"{STEPS_PER_EPOCH} steps an epoch from {images} images": images / STEPS_PER_EPOCH,
        f"the most that gains speed on {device}": float(_LARGEST[device]),
    }
    limit = min(most, key=lambda name: most[name])
    value = 2 ** int(math.log2(max(1.0, most[limit])))
    reason = (
        f"a step needs {fixed / 2**20:.0f} MiB and {slope / 2**20:.1f} MiB an image, of {budget_bytes / 2**20:.0f}; "
        f"the limit is {limit}"
    )
    return Choice(value, reason, tuple(asdict(c) for c in costs))


def choose_workers(loading_ms: float, step_ms: float, cores: int, threads: int, device: str) -> Choice:
    """Loader processes for these milliseconds per image: as many as keep a step from waiting, if cores are left.

    On a GPU a core stays with the training process; on the CPU its `threads` compute, and what is left loads images.
    """
    spare = cores - 1 if device == "cuda" else min(cores - 1, max(1, cores - threads))
    measured = ({"loading_ms": round(loading_ms, 3), "step_ms": round(step_ms, 3), "cores": cores, "threads": threads},)
    times = f"loading takes {loading_ms:.2f} ms an image, a step {step_ms:.2f} ms"
    if spare < 1:
        return Choice(0, f"{times}, and there is one core", measured)
    if loading_ms <= _CHEAP_LOADING * step_ms:
        return Choice(0, f"{times}: other processes would gain less than {_CHEAP_LOADING:.0%}", measured)
    wanted = math.ceil(loading_ms / step_ms) if step_ms > 0 else spare
    return Choice(min(wanted, spare), f"{times}: {wanted} would keep up, {spare} of {cores} cores are free", measured)


def memory_budget(device: str, kept_bytes: int) -> float:
    """The bytes a step may take: a share of what is free, less what the images kept in memory will take."""
    if device == "cuda":
        return _SHARE[device] * torch.cuda.mem_get_info()[0]
    return _SHARE[device] * max(0, available_bytes() - kept_bytes)


def measure_steps(config: TrainConfig, dataset: Dataset) -> list[StepCost]:
    """Forward, backward and update at growing batch in a process of its own, which may run out of memory unharmed.

    Raises SightlineError where not even the smallest batch can be measured.
    """
    per_image = dataset.usable_objects.group_by("image_id").len()["len"]
    task = {
        "config": config.model_copy(update={"batch": _TRIED_BATCHES[0]}).model_dump(mode="json"),
        "class_names": list(dataset.class_names),
        "objects": max(per_image.to_list(), default=0),
        "batches": _TRIED_BATCHES,
        "seconds": _MEASURE_SECONDS,
        "threads": torch.get_num_threads(),
    }
    # A network of a plug-in is none to another process before it has loaded the plug-in too.
    code = "import sys; from sightline.core.plugins import load_all; load_all(sys.argv[1:]); "
    code += "from sightline.train import capacity; capacity.print_costs()"
    command = [sys.executable, "-c", code, *given_files()]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    costs = [StepCost(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if not costs:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SightlineError(f"the memory of a training step must be measured, got: {said}", do="give --batch a number")
    return costs


def measure_loading(images: NetworkImages, most: int = 16) -> float:
    """Milliseconds to load, augment and collate an image in this process: the median over up to `most`."""
    rows = range(min(most, len(images)))
    return _median_ms(lambda row: images.collate([images[row, row]]), rows)


def measure_reading(store: ImageStore, most: int = 16) -> float:
    """Milliseconds of the part of that before augmentation: decoding and warping, or taking what is kept."""
    return _median_ms(store.load, range(min(most, len(store))))


def _median_ms(work: Callable[[int], object], rows: range) -> float:
    work(0)  # the first one pays for what is made once
    seconds = []
    for row in rows:
        started = time.perf_counter()
        work(row)
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def measure_step(model: Model, images: NetworkImages, config: TrainConfig, arithmetic: Arithmetic) -> float:
    """Milliseconds of forward and backward per image on a few real images; of three steps the last counts.

    A copy of the network is used, and the random state is put back: measuring changes nothing in the run.
    """
    samples = [images[i % len(images), i] for i in range(_STEP_IMAGES)]
    batch = images.collate(samples).to(torch.device(arithmetic.device))
    devices = [torch.cuda.current_device()] if arithmetic.device == "cuda" else []
    seconds = 0.0
    with torch.random.fork_rng(devices=devices):
        trial = copy.deepcopy(model)
        as_module(trial).train()
        for _ in range(3):
            started = time.perf_counter()
            _backward(trial, batch, config, arithmetic)
            seconds = time.perf_counter() - started
    return 1e3 * seconds / _STEP_IMAGES


def _backward(model: Model, batch: Batch, config: TrainConfig, arithmetic: Arithmetic) -> None:
    with arithmetic.autocast():
        loss = torch.stack(list(loss_terms(model, batch, config).values())).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    if arithmetic.device == "cuda":
        torch.cuda.synchronize()


def choose_keeping(
    config: TrainConfig, count: int, preprocess: Preprocess, processes: int = 1
) -> tuple[Keeping, Keeping, str]:
    """How the training and the validation images are kept by each of `processes` here, and why, in a sentence.

    Only training ever decodes JPEGs smaller: validation measures the pixels that evaluation and export see.
    """
    wanted, decode = config.data.cache, config.data.decode
    fits = fits_in_memory(count * processes, preprocess)
    size = f"{needed_bytes(count * processes, preprocess) / 2**30:.2f} GiB at network size"
    in_memory = wanted == "ram" or (wanted == "auto" and fits)
    folder = None
    if wanted == "disk":
        folder = Path(config.data.cache_dir) if config.data.cache_dir else user_cache() / "pixels"
    reason = {
        "ram": f"images are kept in memory, {size}",
        "disk": f"images are kept in {folder}, {size}",
        "none": "images are decoded anew each epoch",
    }["ram" if in_memory else "disk" if folder else "none"]
    if wanted == "auto" and not fits:
        reason += f": {size} are more than a quarter of the free memory; --cache disk keeps them in a folder"
    if decode == "scaled":
        reason += "; large training JPEGs are decoded scaled, validation images fully"
    return Keeping(in_memory, folder, decode), Keeping(in_memory, folder), reason


def copies_note(workers: int, keeping: Keeping) -> str | None:
    """What to say where worker processes cannot share the images in memory."""
    method = multiprocessing.get_start_method()
    if not (workers and keeping.in_memory) or method == "fork":
        return None
    return f"processes start by '{method}' here: each of {workers} workers holds its own copy of the images in memory"


def print_costs() -> None:
    """As a process of its own: the task as JSON from stdin, and one JSON line a batch as soon as it is measured."""
    task = json.loads(sys.stdin.read())
    torch.set_num_threads(task["threads"])
    config = TrainConfig.load(task["config"])
    model = create(config.model.name, class_names=tuple(task["class_names"]), **config.model_arguments)
    arithmetic = choose_arithmetic(config.device, config.precision)
    network = as_module(model).to(arithmetic.device).train()
    freeze_stages(network, config.model.freeze)
    optimizer = build_optimizer(network, config.optimizer)
    began = time.perf_counter()
    for count in task["batches"]:
        batch = _generated(model, count, task["objects"]).to(torch.device(arithmetic.device))
        for _ in range(2):  # the second one counts
            started = time.perf_counter()
            _backward(model, batch, config, arithmetic)
            optimizer.step()
            optimizer.zero_grad()
            spent = 1e3 * (time.perf_counter() - started) / count
        peak = torch.cuda.max_memory_allocated() if arithmetic.device == "cuda" else peak_bytes()
        print(json.dumps({"batch": count, "peak_bytes": peak, "ms_per_image": round(spent, 3)}), flush=True)  # noqa: T201
        # The next batch takes twice as long, twice.
        if time.perf_counter() - began + 4e-3 * spent * count > task["seconds"]:
            return


def _generated(model: Model, count: int, objects: int) -> Batch:
    """Noise with as many objects on each image as the fullest real one has."""
    preprocess = model.preprocess
    height, width = preprocess.size_hw
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, preprocess.channel_count, height, width), generator=generator)
    if model.task == "semantic":
        targets = {"mask": torch.zeros(count, height, width, dtype=torch.int64)}
    else:
        total = count * objects
        corners = torch.rand(total, 2, generator=generator) * torch.tensor([width / 2, height / 2])
        targets = {
            "boxes": torch.cat([corners, corners + torch.tensor([width / 4, height / 4])], 1),
            "labels": torch.zeros(total, dtype=torch.int64),
            "batch_index": torch.arange(count).repeat_interleave(objects),
        }
    if model.task == "instance":
        targets["cells"] = (targets["boxes"] / MASK_STRIDE).long()
        areas = (targets["cells"][:, 2:] - targets["cells"][:, :2]).prod(1)
        targets["masks"] = torch.zeros(int(areas.sum()), dtype=torch.uint8)
    if model.task == "obb":
        corners = targets["boxes"].view(-1, 2, 2)
        sides = corners[:, 1] - corners[:, 0]
        targets["oriented"] = torch.cat([corners.mean(1), sides, torch.full((len(sides), 1), 0.5)], 1)
    if model.task == "pose":
        middles = (targets["boxes"][:, :2] + targets["boxes"][:, 2:]) / 2
        places = torch.cat([middles, torch.full((len(middles), 1), 2.0)], 1)
        targets["keypoints"] = places[:, None].expand(-1, Wanted.of(model).keypoints, 3).contiguous()
    return Batch(images.to(torch.uint8), targets, [0] * count)
