"""Which of several ways to feed and to read a network is meant: each is measured on labelled pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.decoding import Decoding
from sightline.core.errors import ConfigError, DataError
from sightline.core.preprocess import Preprocess
from sightline.core.process import Progress
from sightline.evaluate import evaluate_detection, evaluate_semantic
from sightline.infer.dataset import predict_dataset
from sightline.infer.network_predictor import NetworkPredictor
from sightline.ops import evaluation_point

__all__ = ["FITS", "LEAST_FOUND", "SCALES", "Trial", "choose", "labelled_sample", "try_each", "ways_to_feed"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SCALES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0..1": ((0.0,), (1.0,)),
    "imagenet": _IMAGENET,
    "0..255": ((0.0,), (1 / 255,)),
    "-1..1": ((0.5,), (0.5,)),
}
"""Mean and deviation of values in 0..1, by the range they give; the commonest first."""
FITS = ("letterbox", "stretch")
LEAST_FOUND = 0.1
"""AP50 (of maps mean IoU) under which no way of reading a network is taken for the right one."""
_NOT_TOLD_APART = 0.05
"""Differences of AP50 on a handful of pictures that the next handful may turn round: a network that was trained on
0..1 can score higher there fed with -1..1."""


@dataclass(frozen=True)
class Trial:
    """One way to feed a network and to read it.

    `value` is its AP50 and `finer` its AP, of maps mean IoU and the share of right pixels; None before it is measured.
    """

    decoding: Decoding
    preprocess: Preprocess
    scale: str
    value: float | None = None
    finer: float | None = None

    @property
    def task(self) -> str:
        """What it gives: `detect`, `instance` or `semantic`."""
        return self.decoding.task

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Reading, channels, range and fit: by these it is chosen on the command line."""
        return self.decoding.name, self.preprocess.channels, self.scale, self.preprocess.policy


def ways_to_feed(
    size_hw: tuple[int, int],
    channels: Sequence[str],
    scales: Sequence[str],
    fits: Sequence[str],
) -> list[tuple[str, Preprocess]]:
    """Every combination as the name of its range and a preprocessing, the commonest first."""
    made = []
    for channel in channels:
        for scale in scales:
            mean, std = SCALES[scale]
            if channel == "gray":
                mean, std = (float(np.mean(mean)),), (float(np.mean(std)),)
            if channel == "bgr":
                mean, std = mean[::-1], std[::-1]
            values = {"size_hw": size_hw, "channels": channel, "mean": mean, "std": std}
            made += [(scale, Preprocess.load({**values, "policy": fit})) for fit in fits]
    return made


def labelled_sample(dataset: Dataset, count: int) -> Dataset:
    """`count` pictures with labels, spread evenly over a data set; DataError where there is none."""
    labelled = dataset
    if dataset.task != "semantic":
        labelled = dataset.select(dataset.usable_objects["image_id"].unique())
    if not len(labelled):
        raise DataError("pictures with labels must be there to try a model on, got none", where=str(dataset.root))
    rows = np.unique(np.linspace(0, len(labelled) - 1, min(count, len(labelled))).round().astype(int))
    return labelled.select(labelled.images["image_id"][rows])


def try_each(
    trials: Sequence[Trial],
    predictor_of: Callable[[Trial], NetworkPredictor],
    dataset: Dataset,
    progress: Progress | None = None,
) -> list[Trial]:
    """Every trial with its values on the data set, the best first; of equal ones the order given stays."""
    measured = []
    for number, trial in enumerate(trials, start=1):
        predictor = predictor_of(trial)
        if predictor.task == "semantic":
            maps = evaluate_semantic(dataset, predict_dataset(predictor, dataset))
            values = maps["mean_iou"], maps["pixel_accuracy"]
        else:
            point = evaluation_point(predictor.thresholds)
            boxes = evaluate_detection(dataset, predict_dataset(predictor.at(point), dataset))
            values = boxes["AP50"], boxes["AP"]
        value, finer = (0.0 if np.isnan(v) else float(v) for v in values)
        measured.append(replace(trial, value=value, finer=finer))
        if progress is not None:
            progress(number, len(trials), "trying readings")
    return sorted(measured, key=lambda trial: (trial.value or 0.0, trial.finer or 0.0), reverse=True)


def choose(measured: Sequence[Trial], order: Sequence[Trial], where: str) -> tuple[Trial, list[Trial]]:
    """The trial to take, and those that so few pictures do not tell from it.

    That is the best one, or of those hardly worse the one that stands first in `order`, the commonest. ConfigError
    where none finds what is labelled, or where as good ones read the outputs in different ways.
    """
    best = measured[0]
    assert best.value is not None
    what = "mean IoU" if best.task == "semantic" else "AP50"
    if len(measured) > 1 and best.value < LEAST_FOUND:
        raise ConfigError(
            f"a reading must find the labelled objects ({what} of at least {LEAST_FOUND:g}), got {best.value:.3f} at "
            f"best, with {' '.join(best.words)}",
            where=where,
            do="check the order of the class names, or choose with --reading, --channels, --scale and --fit",
        )
    near = [trial for trial in measured if (trial.value or 0.0) >= best.value - _NOT_TOLD_APART]
    rivals = {trial.decoding.name for trial in near}
    if len(rivals) > 1:
        message = f"one reading must be better than the others, got a {what} of about {best.value:.2f} from each of"
        raise ConfigError(message, where=where, do="choose one with --reading", lines=sorted(rivals))
    places = [trial.words for trial in order]
    chosen = min(near, key=lambda trial: places.index(trial.words))
    return chosen, [trial for trial in near if trial is not chosen]
