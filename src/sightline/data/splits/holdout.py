"""Which images a run learns from and which it is measured on, where the data itself does not say."""

from dataclasses import replace
from pathlib import PurePosixPath

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError, unknown_name
from sightline.data.splits.division import split_dataset

__all__ = ["exclude_images", "hold_out"]


def hold_out(dataset: Dataset, *, train: str, val: str, fraction: float, seed: int) -> tuple[Dataset, list[str]]:
    """The data set with a share held out as split `val`, where it names no splits; and what was done, in words.

    Groups (sequences, patients, scenes) are never divided. A single sequence leaves no choice: its last frames are held
    out in one piece, which is closer to its training frames than a sequence of its own would be; the words say so.
    """
    if dataset.splits:
        return dataset, []
    groups = dataset.images["group"]
    if groups.null_count() == 0 and groups.n_unique() == 1 and dataset.images["frame"].null_count() == 0:
        first = int(dataset.images["frame"].quantile(1.0 - fraction, "higher") or 0)
        split = pl.when(pl.col("frame") >= first).then(pl.lit(val)).otherwise(pl.lit(train)).alias("split")
        note = (
            f"one sequence only: its last {fraction:.0%} of frames are held out as '{val}', which flatters the metric"
        )
        return replace(dataset, images=dataset.images.with_columns(split)), [note]
    divided = split_dataset(dataset, {train: 1.0 - fraction, val: fraction}, seed)
    return divided, [f"the data names no splits: {fraction:.0%} held out as '{val}' with seed {seed}"]


def exclude_images(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The data set without the images named by path, file name or stem; DataError for a name that matches none."""
    paths = [PurePosixPath(p) for p in dataset.images["path"]]
    known = {name: i for i, p in enumerate(paths) for name in (p.as_posix(), p.name, p.stem)}
    dropped: set[int] = set()
    for name in names:
        if name not in known:
            raise DataError(unknown_name("image to leave out", name, [p.stem for p in paths]), where=str(dataset.root))
        dropped |= {i for i, p in enumerate(paths) if name in (p.as_posix(), p.name, p.stem)}
    keep = [i for i in range(len(paths)) if i not in dropped]
    return dataset.select(dataset.images["image_id"][keep]) if dropped else dataset
