"""Splits: made, kept on disk, compared with what they were."""

from sightline.data.splits.digests import changed_parts, split_digests
from sightline.data.splits.division import check_fractions, hash_key, unit_keys
from sightline.data.splits.groups import declared_groups
from sightline.data.splits.holdout import exclude_images, hold_out
from sightline.data.splits.label_digest import split_label_digests
from sightline.data.splits.stratify import Labels, divide_units, label_imbalance
from sightline.data.splits.table import SplitRecord, read_table, write_table

__all__ = [
    "Labels",
    "SplitRecord",
    "changed_parts",
    "check_fractions",
    "declared_groups",
    "divide_units",
    "exclude_images",
    "hash_key",
    "hold_out",
    "label_imbalance",
    "read_table",
    "split_digests",
    "split_label_digests",
    "unit_keys",
    "write_table",
]
