"""What a split never divides, and what it should spread evenly: the units of a data set and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack
from scipy.sparse.csgraph import connected_components

from sightline.audit.scan.one_pass import Scan
from sightline.audit.statistics import COCO_MEDIUM_PX2, COCO_SMALL_PX2
from sightline.core.dataset import Dataset
from sightline.data.splits import Labels, hash_key, unit_keys

__all__ = ["SplitUnits", "connect", "find_units", "image_labels"]


@dataclass(frozen=True)
class SplitUnits:
    """The units of a data set in the order of a seed.

    `unit_of` (N,) is the unit of each row of the images table, `sizes` (U,) the images of each unit and `labels` (U, K)
    what it has of each label.
    """

    unit_of: NDArray[np.int64]
    sizes: NDArray[np.float64]
    labels: Labels


def connect(partitions: Sequence[pl.Series], count: int) -> NDArray[np.int64]:
    """The component of each of `count` items where two are joined by any common value in one of the partitions.

    A partition has a value for each item; null joins nothing. Components count from 0.
    """
    rows, columns, nodes = [], [], count
    for partition in partitions:
        values = partition.rank("dense").cast(pl.Int64) - 1
        members = values.is_not_null().arg_true().to_numpy()
        rows.append(members.astype(np.int64))
        columns.append(values.drop_nulls().to_numpy() + nodes)
        nodes += int(values.max() or 0) + 1  # type: ignore[arg-type]
    row = np.concatenate([np.zeros(0, np.int64), *rows])
    column = np.concatenate([np.zeros(0, np.int64), *columns])
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(nodes, nodes))
    _, component = connected_components(graph.tocsr(), directed=False)
    return np.unique(component[:count], return_inverse=True)[1].astype(np.int64)


def find_units(images: pl.DataFrame, partitions: Sequence[pl.Series], labels: Labels, seed: int) -> SplitUnits:
    """The units of an images table: what its `group` or any of the partitions joins, with image labels summed.

    A unit stands where the first of its members stands: the hash of the seed with the names of its groups, or of the
    images that have none. Nothing else of the data set enters.
    """
    found = connect([images["group"], *partitions], images.height)
    keys = unit_keys(images)
    hash_of = {key: hash_key(seed, key) for key in keys.unique().to_list()}
    first = pl.DataFrame({"unit": found, "key": pl.Series([hash_of[k] for k in keys.to_list()], dtype=pl.Binary)})
    order = first.group_by("unit").agg(pl.col("key").min()).sort("key", "unit")["unit"].to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    unit_of = place[found]
    member = csr_array((np.ones(len(unit_of)), (unit_of, np.arange(len(unit_of)))), shape=(len(order), len(unit_of)))
    sizes = np.bincount(unit_of, minlength=len(order)).astype(np.float64)
    return SplitUnits(unit_of, sizes, csr_array(member @ labels))


def image_labels(dataset: Dataset, scan: Scan) -> tuple[Labels, list[str]]:
    """How much of each label each image has, (N, K), and of each label whether it is a `class` or a `size`.

    First the classes, by usable objects or, in semantic data, by pixels; then, but for semantic data, usable objects
    that are small, medium and large as COCO counts them.
    """
    classes = ["class"] * len(dataset.classes)
    if dataset.task == "semantic":
        return _pixels(dataset, scan), classes
    parts = [_objects(dataset, "class_id", len(classes)), _objects(dataset, "size", 3)]
    return csr_array(hstack(parts, format="csr")), [*classes, "size", "size", "size"]


def _objects(dataset: Dataset, column: str, width: int) -> Labels:
    rows = dataset.images.select("image_id").with_row_index("row")
    area = pl.col("area")
    objects = dataset.usable_objects.with_columns(
        size=(area >= COCO_SMALL_PX2).cast(pl.Int32) + (area >= COCO_MEDIUM_PX2).cast(pl.Int32)
    ).join(rows, on="image_id")
    places = objects["row"].to_numpy().astype(np.int64), objects[column].to_numpy().astype(np.int64)
    return csr_array((np.ones(objects.height), places), shape=(rows.height, width))


def _pixels(dataset: Dataset, scan: Scan) -> Labels:
    row_of = {image_id: row for row, image_id in enumerate(dataset.images["image_id"].to_list())}
    table = np.zeros((len(row_of), len(dataset.classes)))
    for mask in scan.masks:
        if mask.pixels is not None and mask.image_id is not None:
            table[row_of[mask.image_id]] = mask.pixels
    return csr_array(table)
