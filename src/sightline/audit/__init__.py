"""The audit of a data set: one pass over its files, then checks that each look at one thing; splits one can defend."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.audit.baselines import beside_baseline
    from sightline.audit.labels.errors import LabelErrors, rank_label_errors
    from sightline.audit.quarantine import write_quarantine
    from sightline.audit.result import (
        QUANTILES,
        AuditOptions,
        AuditResult,
        Baseline,
        ClassPixels,
        ClassStatistics,
        Quantiles,
        SplitCounts,
        read_audit,
    )
    from sightline.audit.run import audit_dataset
    from sightline.audit.splits.file import write_split
    from sightline.audit.splits.plan import SplitOptions, plan_splits

__all__ = [
    "QUANTILES",
    "AuditOptions",
    "AuditResult",
    "Baseline",
    "ClassPixels",
    "ClassStatistics",
    "LabelErrors",
    "Quantiles",
    "SplitCounts",
    "SplitOptions",
    "audit_dataset",
    "beside_baseline",
    "plan_splits",
    "rank_label_errors",
    "read_audit",
    "write_quarantine",
    "write_split",
]

__getattr__, __dir__ = door(__name__)
