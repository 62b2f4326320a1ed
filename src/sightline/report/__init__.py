"""Can someone else check it? One self-contained page per run, every number with its source."""

from sightline.report.card_text import CardText
from sightline.report.dataset_card_files import CardResult, write_card
from sightline.report.page import ReportResult, write_report
from sightline.report.study_page import write_study_page

__all__ = ["CardResult", "CardText", "ReportResult", "write_card", "write_report", "write_study_page"]
