"""Where the time of training goes: milliseconds per image of each part of a step, and what would make it shorter.

The steps are those of a training run: the same loop with the same settings, which says which part begins.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch.utils.data import DataLoader

from sightline.core.results import Result
from sightline.core.runs import RunFolder
from sightline.train.capacity import STEPS_PER_EPOCH, choose_workers, measure_loading, measure_reading
from sightline.train.config import TrainConfig
from sightline.train.data.images import PREFETCH, Batch, NetworkImages
from sightline.train.data.store import ImageStore, Keeping, fits_in_memory
from sightline.train.loop import learn_batches
from sightline.train.machine import choose_arithmetic, peak_memory, usable_cores
from sightline.train.recorder import Watcher
from sightline.train.run import Session, prepare_session

__all__ = ["PARTS", "Laps", "Loading", "Machine", "Profile", "advise", "profile_training"]

PARTS: dict[str, str] = {
    "loader wait": "loader",
    "to device": "host",
    "normalise": "host",
    "forward": "forward",
    "loss": "forward",
    "backward": "backward",
    "optimiser": "optimiser",
    "other": "host",
}
"""The parts of a step, and what each counts to."""

_WARM_UP = 3
_WORTH = 0.10
"""What would save less than this share of the time is not worth saying."""


class Laps:
    """Books all the time between `begin` and `end` on `PARTS`: what passes belongs to the part turned to last.

    Each moment is read once, as the end of one part and the beginning of the next, so that the parts sum to `wall_ns`
    exactly. `clock` gives nanoseconds; `await_device` is called before each reading, to wait for work given to a GPU.
    """

    def __init__(
        self, clock: Callable[[], int] = time.perf_counter_ns, await_device: Callable[[], None] | None = None
    ) -> None:
        self._clock, self._await_device = clock, await_device
        self._part = "other"
        self._began = self._since = 0
        self._running = False
        self.spent_ns = dict.fromkeys(PARTS, 0)

    @property
    def wall_ns(self) -> int:
        """From `begin` to `end`."""
        return self._since - self._began

    def begin(self) -> None:
        """Note the time from here on."""
        self._running = True
        self._began = self._since = self._now()

    def end(self) -> None:
        """Note no more."""
        self.turn_to(self._part)
        self._running = False

    def turn_to(self, part: str) -> None:
        """From here on the time belongs to this part."""
        if self._running:
            now = self._now()
            self.spent_ns[self._part] += now - self._since
            self._since = now
        self._part = part

    def _now(self) -> int:
        if self._await_device is not None:
            self._await_device()
        return self._clock()


@dataclass(frozen=True)
class Loading:
    """Milliseconds one process takes to load and augment an image; to read it, before augmentation; the same with
    JPEGs decoded smaller (None where images are kept, or decoded so already).
    """

    loading_ms: float
    reading_ms: float
    reading_scaled_ms: float | None


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
        learner, batch = session.learner, session.config.images_per_step
        device = learner.arithmetic.device
        laps = Laps(clock, torch.cuda.synchronize if device == "cuda" else None)
        ahead = PREFETCH * session.loader.num_workers  # batches loaded before the first step, which none waits for
        accumulated = session.config.optimizer.accumulate
        warm_up, measured = (math.ceil(n / accumulated) * accumulated for n in (max(_WARM_UP, ahead + 1), steps))
        learner.batches_per_epoch = warm_up + measured  # one long epoch
        watcher.phase("profiling", learner.batches_per_epoch * batch)
        measured_images = 0

        def after_batch(learnt: Batch) -> None:
            nonlocal measured_images
            watcher.advance(learner.done * batch)
            if learner.done > warm_up:
                measured_images += len(learnt.rows)
            if learner.done == warm_up:
                laps.begin()
            elif learner.done == learner.batches_per_epoch:
                laps.end()

        learn_batches(learner, _endless(session.loader, learner.batches_per_epoch), after_batch, laps.turn_to)
    loading = _measure_loading(session.images)
    parts = _parts_table(laps, measured_images)
    groups = dict(parts.group_by("of", maintain_order=True).agg(pl.col("ms_per_image").sum()).iter_rows())
    machine = _machine(session)
    total = laps.wall_ns / 1e6 / measured_images
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
            "images": measured_images,
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


def _endless(loader: DataLoader[Any], count: int) -> Iterator[Batch]:
    """As many batches as are wanted, epoch after epoch."""

    def epochs() -> Iterator[Batch]:
        for epoch in itertools.count():
            loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
            yield from loader

    return itertools.islice(epochs(), count)


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
    arithmetic, images = session.learner.arithmetic, session.images
    best = choose_arithmetic(arithmetic.device, "auto")
    return Machine(
        device=arithmetic.device,
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        workers=session.loader.num_workers,
        batch=session.config.images_per_step,
        images=len(images),
        fits_in_memory=fits_in_memory(len(images), session.learner.model.preprocess),
        precision=arithmetic.precision,
        bf16=best.reason if best.precision == "bf16" else None,
    )


def _conventions(session: Session, machine: Machine) -> dict[str, Any]:
    facts = session.facts
    return {
        "model": session.config.model.name,
        "size_hw": list(session.learner.model.preprocess.size_hw),
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
