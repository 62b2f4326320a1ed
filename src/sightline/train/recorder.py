"""After each epoch: validate the averaged weights, log, keep the best, draw, save the state, maybe stop."""

import math
import time
from typing import Any, NamedTuple, Protocol, Self

import polars as pl
import pydantic

from sightline.core.dataset import Dataset
from sightline.core.metadata import TYPICAL_OBJECT, OperatingPoint
from sightline.core.process import StopRequest
from sightline.core.runs import RunFolder
from sightline.models import Model, own_point, save_weights, weights_origin
from sightline.train.data.images import Batch, SeededBatches
from sightline.train.loggers import RunLogger, open_loggers, write_rows
from sightline.train.loop import Learner
from sightline.train.rules import RunFacts, has_passed, watch
from sightline.train.state import fitting, random_state, restore_random_state, save_state
from sightline.train.strips import draw_strips, strip_columns
from sightline.train.validation import Evaluation, LossObserver, Validator, by_class, headline, watched

__all__ = ["Learnt", "Recorder", "Watcher"]

_CLASS_TERMS = ("cls", "ce", "bce")


class _Record(pydantic.BaseModel):
    """What a state says of the epochs so far."""

    rows: list[dict[str, int | float]]
    metric: str
    best_value: float
    best_epoch: int
    watched: list[dict[str, Any]]
    seconds: float


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


class Learnt(NamedTuple):
    """What the weights say of the data they learnt from."""

    data_digest: str
    typical_object_px: float | None
    origin: dict[str, Any]

    @classmethod
    def of(cls, whole: Dataset, train: Dataset, weights: str | None) -> Self:
        """From the whole data set and its training split, and from what the weights were that it started from."""
        sides = ((pl.col("x2") - pl.col("x1")) * (pl.col("y2") - pl.col("y1"))).sqrt()
        typical = train.usable_objects.select(sides.median()).item()
        origin = {} if weights is None else weights_origin(weights)
        return cls(whole.digest(), None if typical is None else round(typical, 1), origin)


class Recorder:
    """Keeps everything a run leaves behind; with the learner's, its state makes `last.ckpt`, from which a run goes on.

    The `Events` of the training loop. Of several processes each has one; the first one writes.
    """

    def __init__(
        self,
        run: RunFolder,
        learner: Learner,
        validator: Validator,
        batches: SeededBatches,
        learnt: Learnt,
        watcher: Watcher,
    ) -> None:
        self.run, self.learner, self.validator, self.watcher = run, learner, validator, watcher
        self.processes, self.config = learner.processes, learner.config
        self.learnt = learnt
        self._batches = batches
        self.metric = ""
        self.rows: list[dict[str, float]] = []
        self.best_value = float("-inf")
        self.best_epoch = 0
        self.loggers: list[RunLogger] = []
        self.watched: list[dict[str, Any]] = []  # what the rules have said, see `sightline.train.rules`
        self.seconds_before = 0.0  # spent on the epochs before this run was resumed
        self.stop = StopRequest(patient=self.processes.world > 1)
        self._seconds_done = 0.0  # of the epoch that is gone on with, before the run was cut
        self._epoch_started = 0.0
        self._saved = 0.0

    def begin(self, state: dict[str, Any] | None) -> None:
        """Go on from a state, or save the first one before the first step: even an early cut can then be resumed."""
        self._epoch_started = self._saved = time.perf_counter()
        if state is not None:
            self._load(state)
        else:
            self._save_state()
        if self.processes.is_first:
            settings = self.config.model_dump(mode="json")
            self.loggers = open_loggers(self.config.logging.loggers, self.run.path, settings, len(self.rows))

    def begin_epoch(self) -> None:
        """Tell the sampler where in the run it is and start the clock."""
        learner = self.learner
        self._batches.set_epoch(learner.epoch, learner.done)
        self._epoch_started = time.perf_counter() - self._seconds_done
        self._seconds_done = 0.0
        self.watcher.phase(f"epoch {learner.epoch + 1}/{self.config.schedule.epochs}", self._batches.count)

    def after_batch(self, batch: Batch) -> None:
        """Save the state when it is time, or when the run was asked to stop (KeyboardInterrupt)."""
        done = self.learner.done
        self.watcher.advance(min(done * self._batches.batch, self._batches.count))
        if done == len(self._batches) or done % self.config.optimizer.accumulate:
            return  # the epoch's end saves by itself; gradients that wait for their step are not kept
        every = self.config.checkpoint.save_every_s
        is_time = bool(every) and time.perf_counter() - self._saved > every
        must_stop, must_save = self.processes.any(self.stop.made, is_time)
        if must_stop or must_save:
            self._save_state()
        if must_stop:
            raise KeyboardInterrupt

    def end_epoch(self) -> None:
        """Validate, log, keep the best, draw, save the state."""
        number = self.learner.epoch + 1
        row = self._training_row()
        judged = self.learner.judged
        self.watcher.phase("validating", len(self.validator.images))
        observer = LossObserver(judged, self.processes)
        measuring = self.learner.arithmetic.measuring()
        predictions = self.validator.predict(judged, measuring, self.watcher.advance, observe=observer)
        evaluation = self.validator.evaluate(predictions)
        numbers = headline(evaluation)
        row |= _validation_columns(evaluation, numbers, observer)
        row["seconds"] = time.perf_counter() - self._epoch_started
        row = self.processes.once(lambda: row)  # clocks differ
        self.metric, value = next(iter(numbers.items()))
        # A metric that is not a number is kept as the first best, and never blocks a later one that is.
        is_best = not self.rows or value > self.best_value or (math.isnan(self.best_value) and not math.isnan(value))
        if is_best:
            self.best_value, self.best_epoch = value, number
            self.save_best(judged)
        self.rows.append(row)
        self._judge()
        if self.processes.is_first:
            write_rows(self.run.path, self.rows)
        for logger in self.loggers:
            logger.epoch(row)
        columns = strip_columns(number, self.config.logging.pictures_every)
        if columns and self.processes.is_first:
            draw_strips(self.validator.dataset, predictions, self.run.figures, columns, OperatingPoint().conf)
        self.learner.next_epoch()
        self._save_state()
        self.watcher.epoch(row, is_best)
        if self.is_exhausted():
            self.watcher.note(f"stopping early: no better {self.metric} in {self.config.checkpoint.patience} epochs")
        if self.processes.any(self.stop.made)[0]:
            raise KeyboardInterrupt

    def is_exhausted(self) -> bool:
        """Whether `patience` epochs have passed without a better one; so a run cut behind its early stop stays so."""
        return len(self.rows) - self.best_epoch >= self.config.checkpoint.patience

    def close_loggers(self, finished: bool) -> None:
        """Tell the loggers that the run has ended, or was cut."""
        for logger in self.loggers:
            logger.close(finished)
        self.loggers = []

    def save_best(self, model: Model, point: OperatingPoint | None = None) -> None:
        """Write `weights/best.safetensors` with what is known about it."""
        if not self.processes.is_first:
            return
        training = {
            "epoch": self.best_epoch,
            self.metric: self.best_value,
            "precision": self.learner.arithmetic.precision,
            "measured_in": self.learner.arithmetic.measuring().precision,
            "steps": self.learner.steps,
            "val_fraction": self.config.data.val_fraction,
            "seed": self.config.seed,
            TYPICAL_OBJECT: self.learnt.typical_object_px,
        }
        point = point or own_point(model)
        origin = dict(self.learnt.origin)
        training |= origin.pop("training", {})
        meta = {**origin, "data_digest": self.learnt.data_digest, "operating_point": point, "training": training}
        save_weights(self.run.weights / "best.safetensors", model, meta)

    def _judge(self) -> None:
        """Let the rules look at the epochs so far, and say what they found."""
        config, model = self.config, self.learner.model
        terms = [key.removeprefix("train/") for key in self.rows[-1] if key.startswith("train/")]
        facts = RunFacts(
            task=model.task,
            epochs=config.schedule.epochs,
            class_count=len(model.class_names),
            class_term=next((name for name in _CLASS_TERMS if name in terms), terms[0]),
            clip_norm=config.optimizer.clip_norm,
            peak_lr=config.optimizer.peak_lr,
            loss_terms=tuple(terms),
            anchor_ratio=model.arguments.get("anchor_ratio"),
        )
        standing = [f for f in self.watched if f.get("resolved_epoch") is None]
        for earlier in standing:
            if has_passed(earlier["code"], self.rows, facts):
                earlier["resolved_epoch"] = int(self.rows[-1]["epoch"])
                self.watcher.note(f"resolved at epoch {earlier['resolved_epoch']}: {earlier['code']}")
        for found in watch(self.rows, facts, {f["code"] for f in standing}):
            self.watched.append(found.to_dict())
            self.watcher.note(f"{found.severity}: {found.message} [{found.code}]. {found.do}.")

    def _training_row(self) -> dict[str, float]:
        learner = self.learner
        row: dict[str, float] = {"epoch": learner.epoch + 1, "lr": learner.optimizer.param_groups[0]["lr"]}
        row |= {f"train/{name}": value for name, value in learner.take_mean_terms().items()}
        row |= {f"watch/{name}": value for name, value in learner.take_watched().items()}
        row["images_per_s"] = self._batches.count / (time.perf_counter() - self._epoch_started)
        return row

    def _save_state(self) -> None:
        self._saved = time.perf_counter()
        if not self.processes.is_first:
            return
        record = {
            "rows": self.rows,
            "metric": self.metric,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "watched": self.watched,
            "seconds": self._saved - self._epoch_started if self.learner.done else 0.0,
        }
        settings = self.config.model_dump(mode="json")
        parts = {"learner": self.learner.state_dict(), "record": record, "random": random_state()}
        state = {**parts, "settings": settings}
        save_state(self.run.weights / "last.ckpt", state)

    def _load(self, state: dict[str, Any]) -> None:
        with fitting(self.run.path / "weights" / "last.ckpt"):
            self.learner.load_state_dict(state["learner"])
            restore_random_state(state["random"])
            record = _Record.model_validate(state["record"])
        self.rows, self.watched = record.rows, record.watched
        self.metric, self.best_value, self.best_epoch = record.metric, record.best_value, record.best_epoch
        self.seconds_before = sum(row["seconds"] for row in self.rows)
        self._seconds_done = record.seconds


def _validation_columns(evaluation: Evaluation, numbers: dict[str, float], observer: LossObserver) -> dict[str, float]:
    """What an epoch's row says of the validation images."""
    row = {f"val/{name}": value for name, value in numbers.items()}
    row |= {f"class/{name}": value for name, value in by_class(evaluation).items()}
    row |= observer.take() | {f"watch/{name}": value for name, value in watched(evaluation).items()}
    row["watch/metric"] = next(iter(numbers.values()))
    return row
