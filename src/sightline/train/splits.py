"""The data of a run: read, reduced to what the user wants, divided, and checked for images on both sides."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, unknown_name
from sightline.data import check_split_overlap, read_dataset, split_dataset
from sightline.train.config import TrainConfig

__all__ = ["TrainingData", "exclude_images", "prepare_data"]


@dataclass(frozen=True)
class TrainingData:
    """The whole data set as used, its two parts, and what should be said about how they came about."""

    whole: Dataset
    train: Dataset
    val: Dataset
    notes: tuple[str, ...]


def prepare_data(config: TrainConfig) -> TrainingData:
    """Read `config.data`, leave out what is excluded, divide it where it names no splits, refuse overlapping parts."""
    dataset = exclude_images(read_dataset(config.data), config.exclude)
    notes = [f"left out as asked: {', '.join(config.exclude)}"] if config.exclude else []
    if not dataset.splits:
        dataset = split_dataset(
            dataset, {config.split_train: 1.0 - config.val_fraction, config.split_val: config.val_fraction}, config.seed
        )
        notes.append(
            f"the data names no splits: {config.val_fraction:.0%} held out as '{config.split_val}' with seed {config.seed}"
        )
    check_split_overlap(dataset, config.split_train, config.split_val)
    train, val = dataset.split(config.split_train), dataset.split(config.split_val)
    unlabelled = dataset.images.filter(pl.col("mask_path").is_null()) if dataset.task == "semantic" else None
    if unlabelled is not None and not unlabelled.is_empty():
        raise DataError(
            f"every image must have a mask to train on, got {unlabelled.height} without (first: {unlabelled['path'][0]})",
            where=str(dataset.root),
            do="add the masks or leave the images out with --exclude",
        )
    unused = [f for f in dataset.findings if f.severity != "info"]
    if unused:
        notes.append(f"{sum(f.count for f in unused)} findings in the labels ({unused[0].message}, ...); see 'sightline audit'")
    return TrainingData(dataset, train, val, tuple(notes))


def exclude_images(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The data set without the images named by path, file name or stem; DataError for a name that matches none."""
    paths = [PurePosixPath(p) for p in dataset.images["path"]]
    dropped: set[int] = set()
    for name in names:
        matching = {
            i for i, (p, path) in enumerate(zip(paths, dataset.images["path"], strict=True)) if name in (path, p.name, p.stem)
        }
        if not matching:
            raise DataError(unknown_name("image to leave out", name, [p.stem for p in paths]), where=str(dataset.root))
        dropped |= matching
    keep = [i for i in range(len(paths)) if i not in dropped]
    return dataset.select(dataset.images["image_id"][keep])
