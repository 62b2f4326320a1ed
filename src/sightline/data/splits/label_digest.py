"""A digest of the labels of each split: what tells, without reading an image, that a split is not what it was."""

import hashlib

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.tables import update_with_table

__all__ = ["split_label_digests"]

_IMAGE_COLUMNS = ("path", "width", "height", "mask_path")
_OBJECT_COLUMNS = (
    "path",
    "class",
    "x1",
    "y1",
    "x2",
    "y2",
    "crowd",
    "ignore",
    "track_id",
    "rle",
    "polygon",
    "keypoints",
)


def split_label_digests(dataset: Dataset) -> dict[str, str]:
    """SHA-256 (hex) per split over its images' names and sizes and their objects, classes by name.

    The order of rows and objects, ids, groups, the other splits and classes without objects do not enter; of semantic
    masks the names of the files and the meaning of the values do, and the pixels do not.
    """
    images = dataset.images.select("image_id", "split", *_IMAGE_COLUMNS).drop_nulls("split")
    named = dataset.objects.join(dataset.classes.select("class_id", pl.col("name").alias("class")), on="class_id")
    objects = named.join(images.select("image_id", "path", "split"), on="image_id").select("split", *_OBJECT_COLUMNS)
    digests = {}
    for split in dataset.splits:
        total = hashlib.sha256()
        for table in (images.drop("image_id"), objects):
            update_with_table(total, table.filter(pl.col("split") == split).drop("split"))
        if images.filter(pl.col("split") == split)["mask_path"].is_not_null().any():
            update_with_table(total, dataset.classes.select("name", value=pl.coalesce("source_id", "class_id")))
            total.update(repr(sorted(dataset.ignore_values)).encode())
        digests[split] = total.hexdigest()
    return digests
