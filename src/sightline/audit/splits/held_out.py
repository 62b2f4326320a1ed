"""A share held out for validation where the data names no splits: pictures that belong together stay together."""

from collections import Counter
from dataclasses import replace

import polars as pl

from sightline.audit.duplicates.checks import near_duplicate_components
from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import scan_files
from sightline.audit.splits.units import connect
from sightline.core.dataset import Dataset
from sightline.core.process import Progress
from sightline.data import split_dataset
from sightline.data.splits import unit_keys

__all__ = ["hold_out"]

_MOSTLY_ALIKE = 0.5  # where most pictures are alike (one camera, one scene), likeness says nothing about belonging


def hold_out(
    dataset: Dataset, *, train: str, val: str, fraction: float, seed: int, progress: Progress | None = None
) -> tuple[Dataset, list[str]]:
    """The data set with a share held out as split `val`, where it names no splits; and what was done, in words.

    Groups (sequences, patients, scenes) are never divided, nor are identical and near-identical pictures, for which
    every image is read once. A single sequence leaves no choice: its last frames are held out in one piece, which is
    closer to its training frames than a sequence of its own would be; the words say so.
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
    together, alike = _together(dataset, progress)
    whole = replace(dataset, images=dataset.images.with_columns(group=pl.coalesce(together, "group")))
    divided = split_dataset(whole, {train: 1.0 - fraction, val: fraction}, seed)
    notes = [f"the data names no splits: {fraction:.0%} held out as '{val}' with seed {seed}"]
    if alike:
        notes.append(f"{alike} pictures that are alike stay together")
    return replace(dataset, images=dataset.images.with_columns(divided.images["split"])), notes


def _together(dataset: Dataset, progress: Progress | None) -> tuple[pl.Series, int]:
    """For each image the name of the unit it shares with images of no common group, else null; and how many do so."""
    scan = scan_files(dataset, progress=progress).images
    ids, images = dataset.images.select("image_id"), dataset.images
    for found in (near_duplicate_components(scan, AuditOptions().near_duplicate_bits), scan["sha256"]):
        values = ids.join(scan.select("image_id", value=found), on="image_id", how="left", maintain_order="left")
        unit = pl.Series("unit", connect([images["group"], values["value"]], len(images)))
        table = pl.DataFrame([unit, unit_keys(images).alias("key"), images["path"]])
        joined = pl.col("key").n_unique().over("unit") > 1
        names = table.select(pl.when(joined).then(pl.format("alike:{}", pl.col("path").min().over("unit")))).to_series()
        if max(Counter(names.drop_nulls()).values(), default=0) <= _MOSTLY_ALIKE * len(images):
            break
    return names, len(names) - names.null_count()
