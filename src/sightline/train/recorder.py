"""After each epoch: validate the averaged weights, log, keep the best, save the state, draw, maybe stop."""

import contextlib
import csv
import io
import json
import math
import time
from typing import Any, Protocol

import lightning
import torch

from sightline.core.files import atomic_path, plain, write_text_atomic
from sightline.core.metadata import OperatingPoint
from sightline.core.runs import RunFolder
from sightline.models import Model, save_weights
from sightline.train.data.images import Batch, SeededBatches
from sightline.train.distributed import ALONE, Processes
from sightline.train.ema import WeightAverage
from sightline.train.loggers import RunLogger, open_loggers
from sightline.train.module import TrainingModule, as_module
from sightline.train.position import StopRequest, random_state, restore_random_state
from sightline.train.precision import Arithmetic
from sightline.train.rules import RunFacts, watch
from sightline.train.signals import OutputMeter
from sightline.train.strips import draw_strips, strip_columns
from sightline.train.validation import Validator, by_class, headline, watched

__all__ = ["Recorder", "Watcher"]

_CLASS_TERMS = ("cls", "ce", "bce")


class Watcher(Protocol):
    """Who shows the progress of a run."""

    def note(self, text: str) -> None:
        """One line worth reading."""

    def phase(self, name: str, total: int) -> None:
        """A stretch of work begins: `total` images."""

    def advance(self, done: int) -> None:
        """How many images of the stretch are done."""

    def epoch(self, row: dict[str, float], best: bool) -> None:
        """An epoch ended with these numbers."""


class Recorder(lightning.Callback):
    """Keeps everything a run leaves behind; its state is part of `last.ckpt`, so a resumed run goes on unbroken."""

    def __init__(
        self,
        run: RunFolder,
        validator: Validator,
        batches: SeededBatches,
        average: WeightAverage | None,
        arithmetic: Arithmetic,
        data_digest: str,
        watcher: Watcher,
        processes: Processes = ALONE,
    ) -> None:
        self.run, self.validator, self.average = run, validator, average
        self.processes = processes
        self.arithmetic, self.data_digest, self.watcher = arithmetic, data_digest, watcher
        self._batches = batches
        self.metric = ""
        self.rows: list[dict[str, float]] = []
        self.best_value = float("-inf")
        self.best_epoch = 0
        self.loggers: list[RunLogger] = []
        self.watched: list[dict[str, Any]] = []  # what the rules have said, see `sightline.train.rules`
        self.seconds_before = 0.0  # spent on the epochs before this run was resumed
        self.stop = StopRequest(patient=processes.world > 1)
        self._module: TrainingModule | None = None
        self._done = 0  # batches of the running epoch
        self._position: dict[str, Any] = {}  # as loaded from a state, until training starts
        self._epoch_started = 0.0
        self._saved = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption."""
        return {
            "rows": self.rows,
            "metric": self.metric,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "watched": self.watched,
            "average": self.average.state_dict() if self.average is not None else None,
            "position": self._here(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.rows, self.metric = list(state_dict["rows"]), state_dict["metric"]
        self.watched = list(state_dict["watched"])
        self.seconds_before = sum(row["seconds"] for row in self.rows)
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        if self.average is not None:
            self.average.load_state_dict(state_dict["average"])
        self._position = state_dict["position"]
        # Loaders may fetch ahead before training starts: the sampler must know its place by then.
        self._batches.set_epoch(self._position["epoch"], self._position["done"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the state before the first step, so that even an early interruption can be resumed."""
        assert isinstance(pl_module, TrainingModule)
        self._module = pl_module
        self._epoch_started = self._saved = time.perf_counter()
        if self._position:
            self._done = self._position["done"]
            self._epoch_started -= self._position["seconds"]
            pl_module.load_position(self._position["module"])
            restore_random_state(self._position["random"])
            self.watcher.phase(self._epoch_name(trainer), self._batches.count)
        if not self.processes.once((self.run.weights / "last.ckpt").exists):
            self._save_state(trainer)
        if self.processes.is_first:
            settings = pl_module.config.model_dump(mode="json")
            self.loggers = open_loggers(pl_module.config.logging.loggers, self.run.path, settings, len(self.rows))
        # A run cut after its early stop, during the final evaluation, must not train on when resumed.
        trainer.should_stop = self._is_exhausted(pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the sampler which epoch it is and start the clock."""
        self._batches.set_epoch(trainer.current_epoch)
        self._done = 0
        self._epoch_started = time.perf_counter()
        self.watcher.phase(self._epoch_name(trainer), self._batches.count)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the averaged weights along; save the state when it is time, or when the run was asked to stop."""
        if self.average is not None:
            self.average.follow(as_module(pl_module.model), trainer.global_step)
        self.watcher.advance(min((batch_idx + 1) * self._batches.batch, self._batches.count))
        self._done = batch_idx + 1
        if self._done == len(self._batches) or self._done % pl_module.config.optimizer.accumulate:
            return  # the epoch's end saves by itself; gradients that wait for their step are not kept
        every = pl_module.config.checkpoint.save_every_s
        is_time = bool(every) and time.perf_counter() - self._saved > every
        must_stop, must_save = self.processes.any(self.stop.made, is_time)
        if must_stop or must_save:
            self._save_state(trainer)
        if must_stop:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validate, log, keep the best, save the state, draw."""
        assert isinstance(pl_module, TrainingModule)
        row = self._training_row(trainer, pl_module)
        judged = self.judged_model(pl_module.model)
        self.watcher.phase("validating", len(self.validator.images))
        observer = _Observer(judged, self.processes)
        predictions = self.validator.predict(judged, self.arithmetic, self.watcher.advance, observe=observer)
        evaluation = self.validator.evaluate(predictions)
        numbers = headline(evaluation)
        row |= {f"val/{name}": value for name, value in numbers.items()}
        row |= {f"class/{name}": value for name, value in by_class(evaluation).items()}
        row |= observer.take() | {f"watch/{k}": v for k, v in watched(evaluation).items()}
        row["watch/metric"] = next(iter(numbers.values()))
        row["seconds"] = time.perf_counter() - self._epoch_started
        row = self.processes.once(lambda: row)  # clocks differ
        self.metric, value = next(iter(numbers.items()))
        # A metric that is not a number is kept as the first best, and never blocks a later one that is.
        is_best = not self.rows or value > self.best_value or (math.isnan(self.best_value) and not math.isnan(value))
        if is_best:
            self.best_value, self.best_epoch = value, trainer.current_epoch + 1
            self.save_best(judged)
        self.rows.append(row)
        self._judge(pl_module)
        self._write_logs()
        for logger in self.loggers:
            logger.epoch(row)
        columns = strip_columns(trainer.current_epoch + 1, pl_module.config.logging.pictures_every)
        if columns and self.processes.is_first:
            draw_strips(self.validator.dataset, predictions, self.run.figures, columns, OperatingPoint().conf)
        self._done = len(self._batches)
        self._save_state(trainer)
        pl_module.train()  # Lightning itself does so only at the start
        self.watcher.epoch(row, is_best)
        if self._is_exhausted(pl_module):
            self.watcher.note(
                f"stopping early: no better {self.metric} in {pl_module.config.checkpoint.patience} epochs"
            )
            trainer.should_stop = True
        if self.processes.any(self.stop.made)[0]:
            raise KeyboardInterrupt

    def close_loggers(self, finished: bool) -> None:
        """Tell the loggers that the run has ended, or was cut."""
        for logger in self.loggers:
            logger.close(finished)
        self.loggers = []

    def _judge(self, module: TrainingModule) -> None:
        """Let the rules look at the epochs so far, and say what they found."""
        config, model = module.config, module.model
        terms = [key.removeprefix("train/") for key in self.rows[-1] if key.startswith("train/")]
        facts = RunFacts(
            task=model.task,
            epochs=config.schedule.epochs,
            class_count=len(model.class_names),
            class_term=next((name for name in _CLASS_TERMS if name in terms), terms[0]),
            clip_norm=config.optimizer.clip_norm,
            peak_lr=config.optimizer.peak_lr,
        )
        for found in watch(self.rows, facts, {f["code"] for f in self.watched}):
            self.watched.append(found.to_dict())
            self.watcher.note(f"{found.severity}: {found.message} [{found.code}]. {found.do}.")

    def _is_exhausted(self, module: TrainingModule) -> bool:
        return len(self.rows) - self.best_epoch >= module.config.checkpoint.patience

    def _training_row(self, trainer: lightning.Trainer, module: TrainingModule) -> dict[str, float]:
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "lr": trainer.optimizers[0].param_groups[0]["lr"]}
        row |= {f"train/{name}": value for name, value in module.take_mean_terms().items()}
        row |= {f"watch/{name}": value for name, value in module.gradients.take().items()}
        row["images_per_s"] = self._batches.count / (time.perf_counter() - self._epoch_started)
        return row

    def judged_model(self, current: Model) -> Model:
        """The weights that are validated and kept: the averaged ones, if there are."""
        judged: Any = current if self.average is None else self.average.module
        judged.eval()
        return judged  # type: ignore[no-any-return]

    @staticmethod
    def _epoch_name(trainer: lightning.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"

    def _here(self) -> dict[str, Any]:
        """The epoch, how many of its batches are done, and what has been noted of it."""
        assert self._module is not None
        ended = self._done >= len(self._batches)
        return {
            "epoch": self._batches.epoch + 1 if ended else self._batches.epoch,
            "done": 0 if ended else self._done,
            "seconds": 0.0 if ended else time.perf_counter() - self._epoch_started,
            "module": self._module.position(),
            "random": random_state(),
        }

    def save_best(self, model: Model, point: OperatingPoint | None = None) -> None:
        """Write `weights/best.safetensors` with what is known about it."""
        if not self.processes.is_first:
            return
        training = {"epoch": self.best_epoch, self.metric: self.best_value, "precision": self.arithmetic.precision}
        meta = {"data_digest": self.data_digest, "operating_point": point, "training": training}
        save_weights(self.run.weights / "best.safetensors", model, meta)

    def _save_state(self, trainer: lightning.Trainer) -> None:
        """All processes take part, for Lightning; the first one writes."""
        target = self.run.weights / "last.ckpt"
        with atomic_path(target) if self.processes.is_first else contextlib.nullcontext(target) as path:
            trainer.save_checkpoint(path)
        self._saved = time.perf_counter()

    def _write_logs(self) -> None:
        if not self.processes.is_first:
            return
        lines = "".join(json.dumps(plain(row)) + "\n" for row in self.rows)
        write_text_atomic(self.run.path / "metrics.jsonl", lines)
        table = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text_atomic(self.run.path / "results.csv", table.getvalue())


class _Observer:
    """Collects the loss and the range of the outputs over the validation images."""

    def __init__(self, model: Model, processes: Processes) -> None:
        self._model, self._processes = model, processes
        self._meter = OutputMeter(model.task)
        self._sums: dict[str, float] = {}
        self._images = 0

    def __call__(self, raw: Any, decoded: Any, batch: Batch) -> None:
        count = int(self._processes.total(torch.tensor(len(batch.rows))))
        for name, value in self._model.loss(raw, batch.targets, self._processes.total).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * count
        self._images += count
        self._meter.update(decoded)

    def take(self) -> dict[str, float]:
        """The mean of each loss term over the images, and what the meter saw."""
        means = {f"valloss/{name}": total / max(1, self._images) for name, total in self._sums.items()}
        meter = OutputMeter(self._model.task)
        for share in self._processes.gather(self._meter):
            meter.add(share)
        return means | {f"watch/{name}": value for name, value in meter.take().items()}
