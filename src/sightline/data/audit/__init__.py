"""The audit of a data set: one pass over its files, then checks that each look at one thing."""

from sightline.data.audit.label_errors import LabelErrors, rank_label_errors
from sightline.data.audit.options import AuditOptions
from sightline.data.audit.result import AuditResult
from sightline.data.audit.run import audit_dataset

__all__ = ["AuditOptions", "AuditResult", "LabelErrors", "audit_dataset", "rank_label_errors"]
