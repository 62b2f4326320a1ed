"""The training loop: epoch by epoch and batch by batch, from images to new weights.

Forward in the chosen arithmetic → loss terms → backward → (after `accumulate` batches) clip → step of the optimiser →
learning rate → averaged weights. What a run leaves behind is the recorder's; how it is put together stands in `run`.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sightline.core.errors import ConfigError, SightlineError, unknown_name
from sightline.models import Model
from sightline.train.config import TrainConfig
from sightline.train.data.images import Batch, Wanted, normalise_batch
from sightline.train.distributed import ALONE, Processes
from sightline.train.machine import Arithmetic
from sightline.train.optimizers import WeightAverage, build_optimizer, freeze_stages
from sightline.train.rules import GradientMeter

__all__ = ["Events", "Learner", "as_module", "check_loss_factors", "learn_batches", "loss_terms", "train_epochs"]

MOST_SKIPPED = 50
"""Steps in a row without finite gradients: fp16's scale has long come down to nothing by then."""

Lap = Callable[[str], None]
"""Called with the part of a step that begins, by its name in `profile.PARTS`."""


def _no_lap(_part: str) -> None:
    return


class Events(Protocol):
    """Who follows how the run goes on: the recorder."""

    def begin_epoch(self) -> None:
        """An epoch begins, or goes on behind the batches that are done."""

    def after_batch(self, batch: Batch) -> None:
        """A batch is learnt."""

    def end_epoch(self) -> None:
        """The last batch of the epoch is learnt."""

    def is_exhausted(self) -> bool:
        """Whether the run has waited long enough for a better epoch."""


def train_epochs(learner: "Learner", loader: Iterable[Batch], events: Events) -> None:
    """Train until the last epoch, or until `events` has had enough; KeyboardInterrupt where it was asked to stop."""
    learner.connect()
    while learner.epoch < learner.config.schedule.epochs and not events.is_exhausted():
        events.begin_epoch()
        learn_batches(learner, loader, events.after_batch)
        events.end_epoch()


def learn_batches(
    learner: "Learner", loader: Iterable[Batch], after_batch: Callable[[Batch], None], lap: Lap = _no_lap
) -> None:
    """Learn from every batch that the loader gives."""
    learner.set_training_mode()
    lap("loader wait")
    for batch in loader:
        learner.learn(batch, lap)
        lap("other")
        after_batch(batch)
        lap("loader wait")


class Learner:
    """A network, what changes its weights, and how far both have come.

    `epoch` and `steps` (of the optimiser) count from 0, `done` the batches of the running epoch. `image_names` are the
    files by row, for errors. SightlineError where a loss term or a gradient is not a number.
    """

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        arithmetic: Arithmetic,
        batches_per_epoch: int,
        image_names: list[str],
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.config, self.arithmetic, self.processes = model, config, arithmetic, processes
        self.batches_per_epoch, self.image_names = batches_per_epoch, image_names
        self.steps_per_epoch = math.ceil(batches_per_epoch / config.optimizer.accumulate)
        self.network: nn.Module = as_module(model)  # over several processes what adds up their gradients
        self.frozen = freeze_stages(self.network, config.model.freeze)
        self.scaler = loss_scaler(arithmetic)
        # Scaled gradients have to be unscaled before they are clipped, which fused optimisers do too late.
        self.optimizer = build_optimizer(self.network, config.optimizer, fused=self.scaler is None)
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        kept = config.checkpoint
        self.average = WeightAverage(self.network, kept.ema_decay, kept.ema_ramp_steps) if kept.ema_decay else None
        self.gradients = GradientMeter()
        self.assigned = getattr(model, "assigned", None)  # of detectors: how much of the labels is learnt
        self.term_sums: dict[str, float] = {}
        self.epoch = self.done = self.steps = 0
        self.skipped = 0  # steps in a row whose gradients were not finite
        self._step_rows: list[int] = []  # the images behind the gradients of the coming step
        self._set_rates()

    @property
    def judged(self) -> Model:
        """The weights that are validated and kept: the averaged ones, if there are."""
        judged: Any = self.model if self.average is None else self.average.module
        judged.eval()
        return judged  # type: ignore[no-any-return]

    def connect(self) -> None:
        """Let the gradients of several processes be added up from here on."""
        self.network = self.processes.connect(as_module(self.model), self.arithmetic.device)

    def set_training_mode(self) -> None:
        """As torch's `train`; frozen stages stay in evaluation mode, so that their batch statistics do not drift."""
        as_module(self.model).train()
        for part in self.frozen:
            part.eval()

    def learn(self, batch: Batch, lap: Lap = _no_lap) -> None:
        """Forward and backward of one batch; the optimiser steps behind every `accumulate`-th, and the epoch's last."""
        accumulate = self.config.optimizer.accumulate
        self.done += 1
        must_step = self.done % accumulate == 0 or self.done == self.batches_per_epoch
        lap("to device")
        batch = batch.to(torch.device(self.arithmetic.device))
        with contextlib.nullcontext() if must_step else self._unsent():
            with self.arithmetic.autocast():
                terms = loss_terms(self.model, batch, self.config, self.processes, forward=self.network, lap=lap)
                # The terms are those of the whole batch, and processes take the mean of their gradients.
                loss = torch.stack(list(terms.values())).sum() * self.processes.world / accumulate
            self._note(terms, batch.rows)
            lap("backward")
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        if must_step:
            lap("optimiser")
            self._step()

    def _unsent(self) -> AbstractContextManager[None]:
        """Gradients that wait for more batches are not sent to other processes yet."""
        sending = isinstance(self.network, nn.parallel.DistributedDataParallel)
        return self.network.no_sync() if sending else contextlib.nullcontext()  # type: ignore[operator]

    def _note(self, terms: dict[str, Tensor], rows: list[int]) -> None:
        for name, value in ((name, float(term.detach())) for name, term in terms.items()):
            if not math.isfinite(value):
                raise SightlineError(
                    f"loss term '{name}' must be a number, got {value} in epoch {self.epoch + 1}, "
                    f"batch {self.done} ({self._names(rows)}, ...)",
                    do="look at these images and labels, or lower the learning rate or use --precision fp32",
                )
            self.term_sums[name] = self.term_sums.get(name, 0.0) + value
        self._step_rows += rows

    def _step(self) -> None:
        """Clip, change the weights, move the learning rate and the averaged weights along.

        With fp16 the scaler skips a step whose gradients are not finite and halves its scale; only when that has gone
        on for `MOST_SKIPPED` steps is it an error.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        broken = self.gradients.clip(as_module(self.model), self.config.optimizer.clip_norm)
        rows, self._step_rows = self._step_rows, []
        self.skipped = self.skipped + 1 if broken else 0
        if self.skipped >= (MOST_SKIPPED if self.scaler is not None else 1):
            raise SightlineError(
                f"gradients must be finite, got others in {len(broken)} weight tensors ({', '.join(broken[:3])}, ...) "
                f"in epoch {self.epoch + 1}, step {self.steps + 1} ({self._names(rows)}, ...)",
                do="look at these images and labels, or lower the learning rate or use --precision fp32",
            )
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()
        self.steps += 1
        self._set_rates()
        if self.average is not None:
            self.average.update(as_module(self.model))

    def _set_rates(self) -> None:
        factor = self.config.schedule.factor(self.steps, self.steps_per_epoch)
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * factor

    def _names(self, rows: list[int]) -> str:
        """The first files of a batch, the shares of all processes taken together."""
        return ", ".join(self.image_names[row] for share in self.processes.gather(rows) for row in share[:4])

    def take_mean_terms(self) -> dict[str, float]:
        """The mean of each loss term over the batches of this epoch."""
        means = {name: total / max(1, self.done) for name, total in self.term_sums.items()}
        self.term_sums = {}
        return means

    def take_watched(self) -> dict[str, float]:
        """What the rules look at of this epoch's steps: gradients, and of detectors what their labels are learnt by."""
        assigned = {} if self.assigned is None else self.assigned.take(self.processes.total)
        return self.gradients.take() | assigned

    def next_epoch(self) -> None:
        """The running epoch is over."""
        self.epoch, self.done = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """All that must be known to go on with the next batch, as plain values and tensors."""
        return {
            "weights": as_module(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "place": {"epoch": self.epoch, "done": self.done, "steps": self.steps, "skipped": self.skipped},
            "noted": {
                "term_sums": dict(self.term_sums),
                "gradients": self.gradients.state_dict(),
                "assigned": None if self.assigned is None else self.assigned.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        as_module(self.model).load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        place = state["place"]
        self.epoch, self.done, self.steps, self.skipped = (int(place[n]) for n in ("epoch", "done", "steps", "skipped"))
        self.term_sums = dict(state["noted"]["term_sums"])
        self.gradients.load_state_dict(state["noted"]["gradients"])
        if self.assigned is not None:
            self.assigned.load_state_dict(state["noted"].get("assigned") or ())


def loss_scaler(arithmetic: Arithmetic) -> torch.amp.GradScaler | None:
    """What keeps the small gradients of fp16 from becoming zero; other arithmetic needs none."""
    return torch.amp.GradScaler(arithmetic.device) if arithmetic.precision == "fp16" else None


def loss_terms(
    model: Model,
    batch: Batch,
    config: TrainConfig,
    processes: Processes = ALONE,
    forward: Callable[[Tensor], Any] | None = None,
    lap: Lap = _no_lap,
) -> dict[str, Tensor]:
    """The named loss terms of a batch, each times its factor; `forward` is the network where it is not the model."""
    lap("normalise")
    images = normalise_batch(batch.images, model.preprocess)
    lap("forward")
    raw = (forward or model)(images)
    lap("loss")
    terms = model.loss(raw, batch.targets, processes.total)
    return {name: value * config.loss.get(name, 1.0) for name, value in terms.items()}


def check_loss_factors(model: Model, factors: Mapping[str, float]) -> None:
    """ConfigError for a factor on a term that the model's loss does not have."""
    if not factors:
        return
    size = tuple(model.preprocess.size_hw)
    ids = torch.zeros(0, dtype=torch.int64)
    boxes = {"boxes": torch.zeros(0, 4), "labels": ids, "batch_index": ids}
    targets = {
        "detect": boxes,
        "instance": boxes | {"cells": ids.view(0, 4), "masks": ids.to(torch.uint8)},
        "obb": boxes | {"oriented": torch.zeros(0, 5)},
        "pose": boxes | {"keypoints": torch.zeros(0, Wanted.of(model).keypoints, 3)},
        "semantic": {"mask": torch.zeros(1, *size, dtype=torch.int64)},
    }
    with torch.no_grad():
        terms = model.eval().loss(model(torch.zeros(1, model.preprocess.channel_count, *size)), targets[model.task])
    model.train()
    for name in factors:
        if name not in terms:
            raise ConfigError(unknown_name(f"loss term of {model.name}", name, terms))


def as_module(model: Model) -> nn.Module:
    """The model seen as the torch module it is."""
    assert isinstance(model, nn.Module)
    return model
