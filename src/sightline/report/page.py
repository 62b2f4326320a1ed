"""The report: one HTML file that holds everything it shows and loads nothing."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sightline.core.errors import SightlineError
from sightline.core.files import locked_folder, write_text_atomic
from sightline.report.accuracy import accuracy_section, accuracy_tiles
from sightline.report.blocks import Section, Tile
from sightline.report.data_card import data_section
from sightline.report.numbers import TASK_TITLES
from sightline.report.operation import (
    export_section,
    latency_section,
    latency_tile,
    tracking_section,
    tracking_tile,
)
from sightline.report.origin import origin_section, recompute_section
from sightline.report.pictures import pictures_section
from sightline.report.records import RunRecord, read_data_now, read_run, reading
from sightline.report.rendering import render_template
from sightline.report.training import training_section

__all__ = ["ReportResult", "write_report"]

MAX_TILES = 5


@dataclass(frozen=True)
class ReportResult:
    """The written page: its path, its size, and for each section whether the run measured it."""

    path: Path
    size_bytes: int
    sections: dict[str, bool]


def write_report(
    run_folder: str | Path, out: str | Path | None = None, *, data: str | Path | None = None
) -> ReportResult:
    """Write the page of a run folder to `out` (`report.html` in the folder by default).

    `data` is where the data set lies now, if no longer where the run says. What the run did not measure is said so.
    Raises DataError when there is no run, or a file of it is damaged.
    """
    with locked_folder(run_folder):  # no verb changes it meanwhile; that of a run in training is of what is there now
        record = read_run(run_folder)
        sections = build_sections(record, data)
        target = Path(out) if out is not None else record.folder / "report.html"
        with reading(record.folder, "run.json", "evaluation.json", "audit.json"):
            page = render_page(record, sections)
        try:
            write_text_atomic(target, page)
        except OSError as error:
            raise SightlineError(f"cannot write the report ({error.strerror})", where=str(target)) from None
    return ReportResult(target, len(page.encode()), {s.anchor: bool(s.blocks) for s in sections})


def build_sections(record: RunRecord, data: str | Path | None = None) -> list[Section]:
    """All sections in the order of the page, below the headline."""
    folder = record.folder
    with reading(folder, "config.yaml", "run.json"):
        now = read_data_now(record, data)
    parts: list[tuple[Callable[[], Section], str]] = [
        (lambda: data_section(record, now), "run.json or audit.json"),
        (lambda: training_section(record), "metrics.jsonl or run.json"),
        (lambda: accuracy_section(record), "evaluation.json"),
        (lambda: pictures_section(record, now), "predictions.parquet"),
        (lambda: latency_section(record), "video.json"),
        (lambda: export_section(record), "export.json"),
        (lambda: tracking_section(record), "tracking.json"),
        (lambda: origin_section(record), "run.json"),
        (lambda: recompute_section(record), "run.json"),
    ]
    sections = []
    for build, files in parts:
        with reading(folder, files):
            sections.append(build())
    return sections


def render_page(record: RunRecord, sections: list[Section]) -> str:
    """The finished HTML; every text from the data is escaped."""
    model = record.run.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    return render_template(
        "report.html",
        task=TASK_TITLES.get(record.task, record.task),
        model=str(name or "unnamed model"),
        data=str(record.part.get("name") or "unnamed data"),
        run_name=record.folder.resolve().name,
        started=str(record.run.get("started") or "time not recorded"),
        status=str(record.run.get("status") or "status not recorded"),
        tiles=headline(record),
        findings=_open_findings(record),
        sections=sections,
    )


def headline(record: RunRecord) -> list[Tile]:
    """The three to five numbers that lead the page; fewer where less was measured."""
    extra = [tile for tile in (tracking_tile(record), latency_tile(record)) if tile is not None]
    return [*accuracy_tiles(record, MAX_TILES - len(extra)), *extra]


def _open_findings(record: RunRecord) -> str:
    findings = [*((record.audit or {}).get("findings") or ()), *(record.run.get("findings") or ())]
    counts = Counter(str(finding["severity"]) for finding in findings)
    worst = [f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in ("error", "warning") if counts[s]]
    return f"The audit found {' and '.join(worst)}: see Data." if worst else ""
