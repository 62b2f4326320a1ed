"""The data of a run: read, reduced to what the user wants, divided, and checked for images on both sides."""

from dataclasses import dataclass

import polars as pl

from sightline.audit.splits import hold_out
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, at
from sightline.core.keypoints import Keypoints
from sightline.data import check_split_overlap, entry_lines, read_dataset
from sightline.data.splits import exclude_images
from sightline.models import Model
from sightline.train.config import TrainConfig

__all__ = ["TrainingData", "prepare_data", "require_keypoints", "require_outlines"]


@dataclass(frozen=True)
class TrainingData:
    """The whole data set as used, its two parts, and what should be said about how they came about."""

    whole: Dataset
    train: Dataset
    val: Dataset
    notes: tuple[str, ...]


def prepare_data(config: TrainConfig) -> TrainingData:
    """Read the data, leave out what is excluded, divide it where it names no splits, refuse overlapping parts."""
    chosen = config.data
    dataset = exclude_images(read_dataset(chosen.path), chosen.exclude)
    notes = [f"left out as asked: {', '.join(chosen.exclude)}"] if chosen.exclude else []
    dataset, said = hold_out(
        dataset, train=chosen.split_train, val=chosen.split_val, fraction=chosen.val_fraction, seed=config.seed
    )
    notes += said
    check_split_overlap(dataset, chosen.split_train, chosen.split_val)
    train, val = dataset.split(chosen.split_train), dataset.split(chosen.split_val)
    unused = len(dataset) - len(train) - len(val)
    if unused:
        notes.append(f"{unused} images are in neither '{chosen.split_train}' nor '{chosen.split_val}' and not used")
    for part, name in ((train, chosen.split_train), (val, chosen.split_val)):
        _require_labels(part, name)
    faults = [f for f in dataset.findings if f.severity != "info"]
    if faults:
        total = sum(f.count for f in faults)
        place = faults[0].path
        first = faults[0].message if place is None else f"{at(place, faults[0].line)}: {faults[0].message}"
        notes.append(f"{total} findings in the labels, first: {first}; 'sightline audit' lists them")
    return TrainingData(dataset, train, val, tuple(notes))


def _require_labels(dataset: Dataset, split: str) -> None:
    if dataset.task == "semantic":
        bare = dataset.images.filter(pl.col("mask_path").is_null())
        if not bare.is_empty():
            raise DataError(
                f"every image must have a mask to train on, got {bare.height} without (first: {bare['path'][0]})",
                where=str(dataset.root),
                do="add the masks or leave these images out with --exclude",
            )
    elif dataset.usable_objects.is_empty():
        raise DataError(f"split '{split}' must have usable objects to train with, got none", where=str(dataset.root))


def require_keypoints(dataset: Dataset, model: Model) -> None:
    """DataError where no usable object has a labelled keypoint, and where objects have more than the model gives."""
    where, count = str(dataset.root), len(Keypoints.load(dict(model.arguments["keypoints"])))
    lists = dataset.usable_objects["keypoints"].drop_nulls().to_list()
    if not any(v > 0 for values in lists for v in values[2::3]):
        got = f"got {dataset.usable_objects.height} objects without any"
        do = "label keypoints, or train a detector (without -pose)"
        raise DataError(f"objects must have keypoints to train '{model.name}', {got}", where=where, do=do)
    most = max(map(len, lists)) // 3
    if most > count:
        message = f"objects must have at most the {count} keypoints that '{model.name}' gives, got {most}"
        raise DataError(message, where=where, do="leave arguments.keypoints out: the labels say which there are")


def require_outlines(dataset: Dataset, model_name: str, *, masks: bool) -> None:
    """DataError naming the first usable object of which nothing says what is learnt: where that are `masks` one that
    has neither a mask nor a polygon, for oriented boxes one without a polygon.
    """
    objects = dataset.usable_objects
    bare = objects.filter(
        (pl.col("polygon").list.len().fill_null(0) == 0) & (pl.col("rle").is_null() if masks else True)
    )
    if bare.is_empty():
        return
    first = bare.sort("image_id", "object_id").row(0, named=True)
    image = dataset.images.filter(pl.col("image_id") == first["image_id"])["path"][0]
    path, entry = first["label_path"], first["entry"]
    line = entry_lines(dataset, [(path, entry)]).get((path, entry)) if path is not None and entry is not None else None
    raise DataError(
        f"every object must have {'a mask or a polygon' if masks else 'a polygon'} to train '{model_name}', got "
        f"{bare.height} of {objects.height} without (first: one in {image})",
        where=at(dataset.root / path, line) if path is not None else str(dataset.root),
        do="outline them, leave their images out with --exclude, or train a detector, without -seg or -obb",
    )
