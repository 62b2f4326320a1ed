"""Where the time of training goes: milliseconds per image of each part of a step, and what would make it shorter.

The steps are those of a training run, made by the same trainer from the same settings.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import polars as pl
import torch

from sightline.core.results import Result
from sightline.core.runs import RunFolder
from sightline.train.capacity import STEPS_PER_EPOCH, choose_workers, measure_loading, measure_reading
from sightline.train.config import TrainConfig
from sightline.train.data.images import PREFETCH, Batch, NetworkImages
from sightline.train.data.store import ImageStore, Keeping, fits_in_memory
from sightline.train.laps import PARTS, Laps
from sightline.train.memory import peak_memory, usable_cores
from sightline.train.module import as_module
from sightline.train.precision import choose_arithmetic
from sightline.train.recorder import Watcher
from sightline.train.session import Session, prepare_session
from sightline.train.trainer import lightning_trainer, run_trainer

__all__ = ["Loading", "Machine", "Profile", "advise", "profile_training"]

_WARM_UP = 3
_WORTH = 0.10
"""What would save less than this share of the time is not worth saying."""


@dataclass(frozen=True)
class Loading:
    """Milliseconds one process takes to load and augment an image; to read it, before augmentation; the same with
    JPEGs decoded smaller (None where images are kept, or decoded so already).
    """

    loading_ms: float
    reading_ms: float
    reading_scaled_ms: float | None

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Machine:
    """What the steps ran on, and what there would be: `bf16` says why the device gains from it, where it does."""

    device: str
    cores: int
    threads: int
    workers: int
    batch: int
    images: int
    fits_in_memory: bool
    precision: str
    bf16: str | None


@dataclass(frozen=True)
class Profile(Result):
    """Where the time of training goes.

    `parts`: part, of (loader, host, forward, backward, optimiser), ms_per_image, share (of all, 0..1); the parts sum to
    `ms_per_image`, the time of the loop over the images in it. `bottleneck` is what most of the time counts to.
    `loading` is the cost in one process, which waiting hides where worker processes load. Peak memory is in MiB.
    """

    bottleneck: str
    ms_per_image: float
    images_per_s: float
    parts: pl.DataFrame
    loading: Loading
    advice: tuple[str, ...]
    peak_memory_mb: dict[str, float]
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The parts."""
        return self.parts


def profile_training(
    config: TrainConfig, watcher: Watcher, *, steps: int = 20, clock: Callable[[], int] = time.perf_counter_ns
) -> Profile:
    """Train on some unmeasured and then `steps` measured batches, epoch after epoch, and say where the time went.

    With gradients accumulated, batches are added to make whole steps of the optimiser. Nothing is validated or kept. On
    a GPU the host waits for it between parts, which hides that the two can work at the same time. `clock` gives
    nanoseconds. Raises as `train` does for settings that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-profile-") as folder:
        session = prepare_session(config, RunFolder(Path(folder)), watcher, None)
        device = session.arithmetic.device
        laps = Laps(clock, torch.cuda.synchronize if device == "cuda" else None)
        ahead = PREFETCH * session.loader.num_workers  # batches loaded before the first step, which none waits for
        accumulated = session.config.optimizer.accumulate
        warm_up, measured = (math.ceil(n / accumulated) * accumulated for n in (max(_WARM_UP, ahead + 1), steps))
        counter = _StepCounter(session, laps, warm_up, warm_up + measured, watcher)
        watcher.phase("profiling", counter.last * session.config.images_per_step)
        with laps.watch(as_module(session.module.model)):
            trainer = lightning_trainer(session, counter, 1, laps)
            run_trainer(trainer, session, _Batches(session.loader, counter.last), None)
    images: NetworkImages = session.loader.dataset
    loading = _measure_loading(images)
    parts = _parts_table(laps, counter.images)
    groups = dict(parts.group_by("of", maintain_order=True).agg(pl.col("ms_per_image").sum()).iter_rows())
    machine = _machine(session)
    total = laps.wall_ns / 1e6 / counter.images
    return Profile(
        bottleneck=max(groups, key=lambda name: groups[name]),
        ms_per_image=total,
        images_per_s=1e3 / total,
        parts=parts,
        loading=loading,
        advice=advise(groups, loading, machine),
        peak_memory_mb=peak_memory(device),
        conventions={
            **_conventions(session, machine),
            "batches": measured,
            "warm_up_batches": warm_up,
            "images": counter.images,
        },
    )


def advise(groups: Mapping[str, float], loading: Loading, machine: Machine) -> tuple[str, ...]:
    """Settings that would save a tenth of the time or more, each with the numbers that say so.

    `groups` has the milliseconds per image of loader, host, forward, backward, optimiser.
    """
    total = sum(groups.values())
    waited, computed = groups["loader"], groups["forward"] + groups["backward"]
    said = []
    if waited > _WORTH * total:
        said += _advise_loading(waited, total, loading, machine)
    if machine.precision == "fp32" and machine.bf16 is not None and computed > _WORTH * total:
        said.append(f"precision=bf16: {machine.bf16}, and forward and backward take {computed:.2f} ms an image")
    free = machine.cores - machine.workers
    if machine.device == "cpu" and machine.threads < free and computed * (1 - machine.threads / free) > _WORTH * total:
        said.append(f"OMP_NUM_THREADS={free}: torch computes on {machine.threads} of {machine.cores} cores")
    updating = groups["optimiser"]
    if updating / 2 > _WORTH * total and machine.images >= 2 * machine.batch * STEPS_PER_EPOCH:
        said.append(
            f"batch={2 * machine.batch}: a step of the optimiser takes the same time for any batch, "
            f"{updating:.2f} ms an image at {machine.batch}"
        )
    return tuple(said)


def _advise_loading(waited: float, total: float, loading: Loading, machine: Machine) -> list[str]:
    said = []
    choice = choose_workers(loading.loading_ms, total - waited, machine.cores, machine.threads, machine.device)
    if choice.value > machine.workers:
        said.append(f"workers={choice.value}: {choice.reason}")
    at_once = max(1, machine.workers)
    read, scaled = loading.reading_ms, loading.reading_scaled_ms
    of_all = f"of the {loading.loading_ms:.2f} ms of loading an image"
    if min(waited, read / at_once) > _WORTH * total:
        where = "ram" if machine.fits_in_memory else "disk"
        said.append(f"cache={where}: reading takes {read:.2f} {of_all}")
    if scaled is not None and min(waited, (read - scaled) / at_once) > _WORTH * total:
        said.append(f"decode=scaled: reading then takes {scaled:.2f} ms instead of {read:.2f} {of_all}")
    changed = loading.loading_ms - read
    if changed > read and min(waited, changed / at_once) > _WORTH * total:
        said.append(f"fewer augmentations (augment.*): they take {changed:.2f} {of_all}")
    return said


class _Batches:
    """As many batches as are wanted, epoch after epoch, as one epoch."""

    def __init__(self, loader: Any, count: int) -> None:
        self._loader, self._count = loader, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(self._epochs(), self._count)

    def _epochs(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            self._loader.batch_sampler.set_epoch(epoch)
            yield from self._loader


class _StepCounter(lightning.Callback):
    """Does after a batch what a run does then, and measures from the end of batch `first` to the end of `last`."""

    def __init__(self, session: Session, laps: Laps, first: int, last: int, watcher: Watcher) -> None:
        self.first, self.last = first, last
        self.images = 0
        self._average, self._laps, self._watcher = session.recorder.average, laps, watcher
        self._batch = session.config.images_per_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the averaged weights along, and start or stop measuring."""
        if self._average is not None:
            self._average.follow(as_module(pl_module.model), trainer.global_step)
        done = batch_idx + 1
        self._watcher.advance(done * self._batch)
        if done > self.first:
            self.images += len(batch.rows)
        if done == self.first:
            self._laps.begin()
        elif done == self.last:
            self._laps.end()


def _measure_loading(images: NetworkImages) -> Loading:
    store, scaled = images.store, None
    if store.keeping == Keeping():
        smaller = ImageStore(store.dataset, store.preprocess, Keeping(decode="scaled"), with_masks=store.with_masks)
        scaled = measure_reading(smaller)
    return Loading(measure_loading(images), measure_reading(store), scaled)


def _parts_table(laps: Laps, images: int) -> pl.DataFrame:
    rows = [
        (part, group, laps.spent_ns[part] / 1e6 / images, laps.spent_ns[part] / laps.wall_ns)
        for part, group in PARTS.items()
    ]
    return pl.DataFrame(rows, schema=["part", "of", "ms_per_image", "share"], orient="row")


def _machine(session: Session) -> Machine:
    arithmetic, images = session.arithmetic, session.loader.dataset
    best = choose_arithmetic(arithmetic.device, "auto")
    return Machine(
        device=arithmetic.device,
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        workers=session.loader.num_workers,
        batch=session.config.images_per_step,
        images=len(images),
        fits_in_memory=fits_in_memory(len(images), session.module.model.preprocess),
        precision=arithmetic.precision,
        bf16=best.reason if best.precision == "bf16" else None,
    )


def _conventions(session: Session, machine: Machine) -> dict[str, Any]:
    facts = session.facts
    return {
        "model": session.config.model.name,
        "size_hw": list(session.module.model.preprocess.size_hw),
        "batch": machine.batch,
        "accumulate": session.config.optimizer.accumulate,
        "device": machine.device,
        "precision": machine.precision,
        "threads": machine.threads,
        "cores": machine.cores,
        "workers": machine.workers,
        **{name: facts[name] for name in ("cached_in_memory", "cache_folder", "decode", "data_digest")},
        "waits_for_gpu_between_parts": machine.device == "cuda",
        "torch": facts["versions"]["torch"],
        "cpu": facts["hardware"]["cpu"],
    }
