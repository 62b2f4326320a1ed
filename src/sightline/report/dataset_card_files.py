"""Writing a data card: Markdown, one self-contained HTML page, and Croissant with the tables it describes."""

from dataclasses import dataclass
from pathlib import Path

from sightline.audit import AuditResult
from sightline.core.dataset import Dataset
from sightline.core.files import write_text_atomic
from sightline.report.card_text import CardText
from sightline.report.croissant import write_croissant
from sightline.report.dataset_card import NOT_STATED, DatasetCard, card_sections, card_tiles
from sightline.report.markdown import sections_to_markdown
from sightline.report.metric_names import TASK_TITLES
from sightline.report.template import render_template

__all__ = ["CardResult", "write_card"]


@dataclass(frozen=True)
class CardResult:
    """The files of a card, and what nobody has stated."""

    files: tuple[Path, ...]
    not_stated: tuple[str, ...]


def write_card(dataset: Dataset, text: CardText, audit: AuditResult, folder: Path, *, workers: int = 2) -> CardResult:
    """Write `card.md`, `card.html` and `croissant.json` (with `images.csv` and `objects.csv`) into a folder.

    Raises DataError when an image cannot be read to take its digest.
    """
    card = DatasetCard(dataset, text, audit)
    tiles, sections = card_tiles(card), card_sections(card)
    missing = text.not_stated(dataset.class_names)
    page = render_template(
        "card.html",
        task=TASK_TITLES[dataset.task],
        name=card.name,
        description=text.description or f"Description: {NOT_STATED}.",
        tiles=tiles,
        sections=sections,
        missing=f"{len(missing)} things are not stated: see the end of the page." if missing else "",
    )
    lead = f"{TASK_TITLES[dataset.task]}. {text.description or f'Description: {NOT_STATED}.'}"
    files = (folder / "card.md", folder / "card.html")
    write_text_atomic(files[0], sections_to_markdown(card.name, lead, tiles, sections))
    write_text_atomic(files[1], page)
    return CardResult((*files, *write_croissant(dataset, text, folder, workers=workers)), tuple(missing))
