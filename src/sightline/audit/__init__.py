"""The audit of a data set: one pass over its files, then checks that each look at one thing; splits one can defend."""

from sightline.audit.labels.errors import LabelErrors, rank_label_errors
from sightline.audit.options import AuditOptions
from sightline.audit.quarantine import write_quarantine
from sightline.audit.result import AuditResult
from sightline.audit.run import audit_dataset
from sightline.audit.splits.file import write_split
from sightline.audit.splits.plan import SplitOptions, plan_splits
from sightline.audit.statistics import QUANTILES

__all__ = [
    "QUANTILES",
    "AuditOptions",
    "AuditResult",
    "LabelErrors",
    "SplitOptions",
    "audit_dataset",
    "plan_splits",
    "rank_label_errors",
    "write_quarantine",
    "write_split",
]
