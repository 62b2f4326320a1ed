"""Can someone else check it? One self-contained page per run, every number with its source."""

from sightline.report.page import ReportResult, write_report

__all__ = ["ReportResult", "write_report"]
