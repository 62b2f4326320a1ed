"""Weights of classes from the pixels that the training masks have of them."""

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX
from sightline.core.runs import RunFolder
from sightline.data import read_class_mask
from sightline.train.config import TrainConfig

__all__ = ["balanced_weights", "with_class_weights"]

_SETTING = "class_weights"


def balanced_weights(dataset: Dataset) -> tuple[float, ...]:
    """For each class the median frequency over its own (Eigen and Fergus 2015): rare classes weigh more.

    The frequency of a class is its share of the counted pixels of the images that show it. A class that no image shows
    weighs 1, as no pixel has it. DataError where there is no mask.
    """
    own = np.zeros(len(dataset.classes))
    shown = np.zeros(len(dataset.classes))
    for path in dataset.images["mask_path"].drop_nulls():
        ids = read_class_mask(dataset.image_path(path), dataset)
        counts = np.bincount(ids[ids != IGNORE_INDEX], minlength=len(own))[: len(own)]
        own += counts
        shown += np.where(counts > 0, counts.sum(), 0)
    if not own.any():
        raise DataError("balanced class weights must be counted on masks, got none", where=dataset.name)
    frequency = own[own > 0] / shown[own > 0]
    weights = np.ones(len(own))
    weights[own > 0] = np.median(frequency) / frequency
    return tuple(float(f"{weight:.6g}") for weight in weights)


def with_class_weights(config: TrainConfig, dataset: Dataset, run: RunFolder) -> tuple[TrainConfig, list[str]]:
    """The settings with `arguments.class_weights=balanced` as the numbers it stands for, and what is to be said.

    The run's settings are written with the numbers at once, so that a resumed run keeps them.
    """
    if config.arguments.get(_SETTING) != "balanced":
        return config, []
    weights = balanced_weights(dataset)
    said = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(dataset.class_names, weights, strict=True))
    counted = config.model_copy(update={"arguments": {**config.arguments, _SETTING: weights}})
    counted.save(run.path / "config.yaml")
    return counted, [f"class weights, the median frequency over each class's own: {said}"]
