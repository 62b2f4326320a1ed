"""Checks of splits, and planning new ones."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.audit.splits.file import read_previous, split_files, write_split
    from sightline.audit.splits.held_out import hold_out
    from sightline.audit.splits.plan import DEFAULT_FRACTIONS, SplitOptions, SplitResult, plan_splits

__all__ = [
    "DEFAULT_FRACTIONS",
    "SplitOptions",
    "SplitResult",
    "hold_out",
    "plan_splits",
    "read_previous",
    "split_files",
    "write_split",
]

__getattr__, __dir__ = door(__name__)
