"""The run's data set read again, as it is today: the same images left out, the same division, and is it unchanged?"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import InputError
from sightline.data import read_dataset
from sightline.data.splits import exclude_images, hold_out
from sightline.report.records import RunRecord

__all__ = ["DataNow", "evaluated_part", "read_data_now"]


@dataclass(frozen=True)
class DataNow:
    """The data set as it is now, or `problem`, the sentence that says why it could not be read.

    `unchanged` compares digests with the run's; None where the run recorded none.
    """

    dataset: Dataset | None
    digest: str | None
    unchanged: bool | None
    problem: str | None


def read_data_now(record: RunRecord, path: str | Path | None = None) -> DataNow:
    """Read the data set the run names, or the one at `path` where it has moved, and compare digests."""
    place = path if path is not None else record.part.get("path")
    if place is None:
        return DataNow(None, None, None, "run.json names no data set")
    try:
        dataset = _as_used(read_dataset(place), record)
        digest = dataset.digest()
    except InputError as error:
        return DataNow(None, None, None, str(error))
    known = record.data_digest
    return DataNow(dataset, digest, None if known is None else known == digest, None)


def evaluated_part(dataset: Dataset, record: RunRecord) -> Dataset:
    """The split the run's evaluation is about; the whole where it names none."""
    split = (record.evaluation or {}).get("conventions", {}).get("split")
    names = [name.strip() for name in str(split or "").split(",")]
    if not set(names) <= set(dataset.splits):
        return dataset
    chosen = dataset.images.filter(pl.col("split").is_in(names))
    return dataset.select(chosen["image_id"])


def _as_used(dataset: Dataset, record: RunRecord) -> Dataset:
    """Training leaves out what `exclude` names and divides data without splits; both stand in the run's settings."""
    kept = exclude_images(dataset, tuple(map(str, record.part.get("excluded") or ())))
    settings = record.settings
    if "val_fraction" not in settings:
        return kept
    divided, _ = hold_out(
        kept,
        train=str(settings["split_train"]),
        val=str(settings["split_val"]),
        fraction=float(settings["val_fraction"]),
        seed=int(settings["seed"]),
    )
    return divided
