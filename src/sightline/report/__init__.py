"""Can someone else check it? One self-contained page per run, every number with its source."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.report.audit_page import write_audit_page
    from sightline.report.card_text import CardText, write_template
    from sightline.report.dataset_card import CardResult, write_card
    from sightline.report.label_page import write_label_page
    from sightline.report.look_page import OutputFormat, write_look, write_study_page
    from sightline.report.page import ReportResult, write_report
    from sightline.report.review_page import ReviewResult, check_review, write_review

__all__ = [
    "CardResult",
    "CardText",
    "OutputFormat",
    "ReportResult",
    "ReviewResult",
    "check_review",
    "write_audit_page",
    "write_card",
    "write_label_page",
    "write_look",
    "write_report",
    "write_review",
    "write_study_page",
    "write_template",
]

__getattr__, __dir__ = door(__name__)
