"""A finding: one fact about the data that somebody should know, with its place and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

__all__ = ["SEVERITIES", "Finding", "Severity", "worst_severity"]

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")  # rising


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: a stable kebab-case `code`, its place (`path` relative to the data root, 1-based `line`) and advice.

    `count` is how many things the finding stands for (1 unless it sums up many of one kind). `box_xyxy` is the box in
    question, in pixels of the image, and `other` the path of the second image where it is about two. `facts` is what
    the sentence says as plain JSON values under stable names: programs read these and never the `message`. `entry` is
    the place in the file `path` as its format counts: the line of a text file, the index in the list of a JSON file.
    """

    code: str
    severity: Severity
    message: str
    path: str | None = None
    line: int | None = None
    image_id: int | None = None
    count: int = 1
    do: str = ""
    box_xyxy: tuple[float, float, float, float] | None = None
    other: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    entry: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain Python values."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"facts": dict(self.facts)}


def worst_severity(findings: Iterable[Finding]) -> Severity | None:
    """The highest severity among the findings, or None when there are none."""
    ranks = [SEVERITIES.index(f.severity) for f in findings]
    return SEVERITIES[max(ranks)] if ranks else None
