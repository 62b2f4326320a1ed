"""What an audit found: counts, statistics and findings of one data set."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from sightline.core.findings import SEVERITIES, Finding, Severity, worst_severity
from sightline.core.results import Result

__all__ = ["AuditResult"]


@dataclass(frozen=True)
class AuditResult(Result):
    """Counts and findings of one data set. Findings are ordered by falling severity, then code, path and line."""

    name: str
    format: str
    task: str
    images: int
    objects: int
    objects_by_class: dict[str, int]
    splits: dict[str, dict[str, int]]  # per split: images, objects; "" for images in none
    sizes: list[dict[str, int]]  # width, height, images; the commonest first, at most 20
    findings: tuple[Finding, ...]
    masks: dict[str, Any] | None = None  # semantic: pixels_by_class, foreground share
    statistics: dict[str, Any] = field(default_factory=dict)  # distributions, see `sightline.audit.statistics`
    baselines: dict[str, Any] = field(default_factory=dict)  # trivial predictors and the metric they reach
    split_digests: dict[str, str] = field(default_factory=dict)  # per split, over image bytes and labels
    conventions: dict[str, Any] = field(default_factory=dict)

    @property
    def counts_by_code(self) -> dict[str, int]:
        """How many things each code stands for, in the order of the findings."""
        counts: Counter[str] = Counter()
        for f in self.findings:
            counts[f.code] += f.count
        return dict(counts)

    @property
    def worst(self) -> Severity | None:
        """The highest severity among the findings."""
        return worst_severity(self.findings)

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of that severity and above."""
        return tuple(f for f in self.findings if SEVERITIES.index(f.severity) >= SEVERITIES.index(severity))

    def to_dict(self) -> dict[str, Any]:
        """All fields, with `counts_by_code` and `worst` beside the findings."""
        return super().to_dict() | {"counts_by_code": self.counts_by_code, "worst": self.worst}

    def to_frame(self) -> pl.DataFrame:
        """One row per code: severity, count, the first place, what to do."""
        first: dict[str, Finding] = {}
        for f in self.findings:
            first.setdefault(f.code, f)
        counts = self.counts_by_code
        rows = [(f.severity, code, counts[code], _place(f), f.do) for code, f in first.items()]
        return pl.DataFrame(rows, schema=["severity", "code", "count", "first", "do"], orient="row")


def _place(f: Finding) -> str:
    return "" if f.path is None else f.path if f.line is None else f"{f.path}:{f.line}"
