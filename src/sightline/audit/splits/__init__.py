"""Checks of splits, and planning new ones."""

from sightline.audit.splits.file import read_previous, split_files, write_split
from sightline.audit.splits.plan import DEFAULT_FRACTIONS, SplitOptions, SplitResult, plan_splits

__all__ = [
    "DEFAULT_FRACTIONS",
    "SplitOptions",
    "SplitResult",
    "plan_splits",
    "read_previous",
    "split_files",
    "write_split",
]
