"""The page of an audit: every finding with its place, the pictures behind it, and what the data holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.audit import AuditResult
from sightline.core.dataset import Dataset
from sightline.core.errors import at
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.data import CODES
from sightline.draw.look import Evidence, Scenes
from sightline.report.audit_statistics import baseline_section, statistics_section
from sightline.report.blocks import (
    FoundCode,
    FoundPlace,
    FoundPlaces,
    FoundTable,
    Note,
    Pairs,
    Pictures,
    Section,
    Tile,
    pairs_of,
)
from sightline.report.look_page import shown_pictures
from sightline.report.numbers import TASK_TITLES, Number
from sightline.report.rendering import render_template

__all__ = ["AuditPageResult", "write_audit_page"]

MAX_PLACES = 50
MAX_PICTURES = {"error": 9, "warning": 9, "info": 3}
"""Pictures for each code; a page of everything that can go wrong stays below some 20 megabytes."""
PICTURE_PX = 380
_MEANINGS = {
    "error": "Will be wrong, or is not used: mend these.",
    "warning": "Probably not meant: look at these.",
    "info": "Worth knowing.",
}
_TITLES = {"error": "Errors", "warning": "Warnings", "info": "Remarks"}


@dataclass(frozen=True)
class AuditPageResult:
    """The written page, its size, and how many pictures are in it."""

    path: Path
    size_bytes: int
    pictures: int


def write_audit_page(dataset: Dataset, result: AuditResult, out: str | Path) -> AuditPageResult:
    """Write the audit as one self-contained HTML page; `dataset` is the audited one, for the pictures.

    For each code the first 50 places are listed and the others counted. Every text from the data is escaped.
    """
    codes = _found_codes(dataset, result)
    page = render_template(
        "audit.html",
        task=TASK_TITLES[result.task],
        name=result.name,
        about=f"{result.format} · {result.conventions.get('root', '')}",
        tiles=_tiles(result),
        sections=_sections(dataset, result, codes),
    )
    write_text_atomic(out, page)
    return AuditPageResult(Path(out), len(page.encode()), sum(len(c.pictures.pictures) for c in codes))


def _tiles(result: AuditResult) -> list[Tile]:
    counts = Counter[str]()
    for f in result.findings:
        counts[f.severity] += f.count
    splits = [name for name in result.splits if name]
    tiles = [Tile("Images", _count(result.images, "images"), f"In {len(splits) or 'no'} splits.")]
    if result.task != "semantic":
        tiles.append(Tile("Objects", _count(result.objects, "objects"), f"Of {len(result.objects_by_class)} classes."))
    severities = ("error", "warning", "info")
    return [
        *tiles,
        *(Tile(_TITLES[s], _count(counts[s], f"findings of severity {s}"), _MEANINGS[s]) for s in severities),
    ]


def _sections(dataset: Dataset, result: AuditResult, codes: Sequence[FoundCode]) -> list[Section]:
    if codes:
        found = [
            Section("findings", "Findings", "One row for each kind; a click leads to its places.", [FoundTable(codes)]),
            Section("places", "Places", "White corners mark what a finding is about.", [FoundPlaces(codes)]),
        ]
    else:
        found = [Section("findings", "Findings", blocks=[Note("The audit found nothing to report.", "good")])]
    settings: dict[str, Any] = {**result.conventions}
    settings |= {f"digest of {split or 'images in no split'}": text for split, text in result.split_digests.items()}
    how = Pairs(pairs_of(settings, "audit.json conventions"))
    return [
        *found,
        statistics_section(dataset, result),
        baseline_section(result),
        Section("how", "How it was done", "Thresholds, and digests by which splits can be recognised.", [how]),
    ]


def _found_codes(dataset: Dataset, result: AuditResult) -> list[FoundCode]:
    evidence = Evidence(Scenes(dataset), result.findings, PICTURE_PX)
    return [_found_code(evidence, code, findings) for code, findings in evidence.by_code.items()]


def _found_code(evidence: Evidence, code: str, findings: Sequence[Finding]) -> FoundCode:
    severity, meaning, do = CODES[code]
    pictures = shown_pictures(evidence.cells(code, MAX_PICTURES[severity]))
    places = [FoundPlace(at(f.path, f.line) if f.path else "", f.message, f.count) for f in findings[:MAX_PLACES]]
    return FoundCode(
        code=code,
        severity=severity,
        count=_count(sum(f.count for f in findings), f"counts_by_code.{code}"),
        meaning=meaning,
        do=do,
        places=places,
        unlisted=len(findings) - len(places),
        pictures=Pictures("", pictures),
    )


def _count(value: int, place: str) -> Number:
    return Number(value, f"audit.json {place}", "count")
