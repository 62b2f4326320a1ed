"""Splits: made, kept on disk, compared with what they were."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.data.splits.division import (
        check_fractions,
        declared_groups,
        exclude_images,
        hash_key,
        unit_keys,
    )
    from sightline.data.splits.stratify import Labels, divide_units, label_imbalance
    from sightline.data.splits.table import (
        SplitRecord,
        changed_parts,
        read_table,
        split_digests,
        split_label_digests,
        write_table,
    )

__all__ = [
    "Labels",
    "SplitRecord",
    "changed_parts",
    "check_fractions",
    "declared_groups",
    "divide_units",
    "exclude_images",
    "hash_key",
    "label_imbalance",
    "read_table",
    "split_digests",
    "split_label_digests",
    "unit_keys",
    "write_table",
]

__getattr__, __dir__ = door(__name__)
