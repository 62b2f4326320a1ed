"""The card of a data set: what people state about it, what was counted in it, and what an audit found."""

from dataclasses import dataclass, replace
from pathlib import Path

from sightline.audit import AuditResult
from sightline.core.dataset import Dataset
from sightline.core.errors import at
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.report.audit_statistics import baseline_section, statistics_section
from sightline.report.blocks import Block, Cell, Note, Pairs, Section, Table, Tile
from sightline.report.card_text import CardText, Creator, Origin
from sightline.report.croissant import write_croissant
from sightline.report.numbers import STANDARD_METRICS, TASK_TITLES, Number
from sightline.report.rendering import render_template, sections_to_markdown

__all__ = ["NOT_STATED", "CardResult", "DatasetCard", "card_sections", "card_tiles", "write_card"]

NOT_STATED = "not stated"
_MAX_CLASSES = 100
_POLICIES = {
    "edge_cases": "edge cases",
    "ignore_regions": "ignored regions and crowds",
    "occlusion": "occlusion",
    "smallest_object": "smallest object labelled",
}


@dataclass(frozen=True)
class DatasetCard:
    """What a card is made of: the data set, what people state, and an audit of it."""

    dataset: Dataset
    text: CardText
    audit: AuditResult

    @property
    def name(self) -> str:
        """The stated name, else the data set's own."""
        return self.text.name or self.dataset.name

    @property
    def audit_is_current(self) -> bool:
        """Whether the audit is of these labels."""
        return bool(self.audit.conventions.get("label_digest") == self.dataset.label_digest())


def card_tiles(card: DatasetCard) -> list[Tile]:
    """The headline numbers."""
    dataset = card.dataset
    worst = [sum(f.count for f in card.audit.findings if f.severity == s) for s in ("error", "warning")]
    labels = (
        Tile("Masks", _count(dataset.images["mask_path"].drop_nulls().len(), "masks"), "One for each labelled image.")
        if dataset.task == "semantic"
        else Tile("Objects", _count(dataset.objects.height, "objects"), "As labelled, crowd and ignored ones included.")
    )
    return [
        Tile("Images", _count(len(dataset), "images"), f"In {len(dataset.splits) or 'no'} splits."),
        labels,
        Tile("Classes", _count(len(dataset.classes), "classes"), "See Labels."),
        Tile("Errors", Number(worst[0], "audit: findings of severity error", "count"), "Found by the audit."),
        Tile("Warnings", Number(worst[1], "audit: findings of severity warning", "count"), "Found by the audit."),
    ]


def card_sections(card: DatasetCard) -> list[Section]:
    """All sections in the order of the page."""
    return [
        _origin(card.text),
        _labels(card),
        _splits(card),
        replace(statistics_section(card.dataset, card.audit), intro="Counted in the data."),
        _artefacts(card.text),
        _findings(card),
        _metrics(card),
        baseline_section(card.audit),
        _missing(card),
    ]


def _count(value: int, what: str) -> Number:
    return Number(value, f"data set: {what}", "count")


def _origin(text: CardText) -> Section:
    rows: list[tuple[str, Cell]] = [
        ("version", text.version or NOT_STATED),
        ("published", text.date_published or NOT_STATED),
        ("found at", text.url or NOT_STATED),
        ("licence", text.licence or NOT_STATED),
        ("made by", "; ".join(_creator(c) for c in text.creators) or NOT_STATED),
        ("sources", "; ".join(_source(s) for s in text.sources) or NOT_STATED),
        ("how the images were taken", text.collection or NOT_STATED),
        ("how they were labelled", text.annotation or NOT_STATED),
        ("personal data", text.personal_data or NOT_STATED),
        ("intended use", text.intended_use or NOT_STATED),
        ("limitations", text.limitations or NOT_STATED),
        ("how to cite", text.citation or NOT_STATED),
    ]
    return Section("origin", "Origin", "Where it comes from and what it may be used for.", [Pairs(rows)])


def _creator(creator: Creator) -> str:
    return f"{creator.name} ({creator.url})" if creator.url else creator.name


def _source(source: Origin) -> str:
    facts = [fact for fact in (source.url, source.licence, source.note) if fact]
    return f"{source.name} ({', '.join(facts)})" if facts else source.name


def _labels(card: DatasetCard) -> Section:
    dataset = card.dataset
    pixels = card.audit.masks.pixels_by_class if card.audit.masks is not None else {}
    objects = dataset.counts_by_class()
    what = "pixels" if dataset.task == "semantic" else "objects"
    rows: list[list[Cell]] = []
    for name in dataset.class_names[:_MAX_CLASSES]:
        number = pixels.get(name) if dataset.task == "semantic" else objects[name]
        cell = None if number is None else Number(number, f"data set: {what} of {name}", "count")
        rows.append([name, cell, card.text.classes.get(name) or NOT_STATED])
    hidden = len(dataset.classes) - len(rows)
    caption = "Classes" + (f", the first {len(rows)} of {len(dataset.classes)}" if hidden else "")
    policies = card.text.policies
    stated: list[tuple[str, Cell]] = [(name, getattr(policies, key) or NOT_STATED) for key, name in _POLICIES.items()]
    blocks: list[Block] = [Table(["class", what, "definition"], rows, caption), Pairs(stated, "Labelling policies")]
    return Section("labels", "Labels", "What each class means, and how doubtful cases were decided.", blocks)


def _splits(card: DatasetCard) -> Section:
    dataset = card.dataset
    groups = dataset.images["group"]
    declared = f"{groups.drop_nulls().n_unique()} groups over {len(groups) - groups.null_count()} images"
    rows: list[tuple[str, Cell]] = [
        ("unit that is never divided", card.text.split_unit or NOT_STATED),
        ("groups in the data", declared if groups.null_count() < len(groups) else "none declared"),
    ]
    for name, part in card.audit.splits.items():
        rows.append((name or "images in no split", f"{part.images} images, {part.objects} objects"))
    rows += [(f"digest of {name or 'images in no split'}", text) for name, text in card.audit.split_digests.items()]
    return Section("splits", "Splits", "What is learnt from and what is judged on.", [Pairs(rows)])


def _artefacts(text: CardText) -> Section:
    rows: list[list[Cell]] = [[artefact] for artefact in text.known_artefacts]
    blocks: list[Block] = [Table(["artefact"], rows)] if rows else []
    missing = "" if rows else f"Known artefacts: {NOT_STATED}."
    return Section(
        "artefacts", "Known artefacts", "What a model may latch on to that is not the object.", blocks, missing
    )


def _findings(card: DatasetCard) -> Section:
    intro = "What an audit of labels and files found."
    stale = [] if card.audit_is_current else [Note("The audit is of other labels than these: run it again.", "bad")]
    first: dict[str, Finding] = {}
    for f in card.audit.findings:
        first.setdefault(f.code, f)
    if not first:
        return Section("findings", "Findings", intro, [*stale, Note("The audit found nothing to report.", "good")])
    counts = card.audit.counts_by_code
    rows: list[list[Cell]] = [
        [f.severity, code, Number(counts[code], f"audit counts_by_code.{code}", "count"), _place(f), f.message, f.do]
        for code, f in first.items()
    ]
    head = ["severity", "code", "count", "first place", "first message", "what to do"]
    return Section("findings", "Findings", intro, [*stale, Table(head, rows)])


def _place(finding: Finding) -> str:
    return "–" if finding.path is None else at(finding.path, finding.line)


def _metrics(card: DatasetCard) -> Section:
    rows: list[list[Cell]] = [list(row) for row in STANDARD_METRICS[card.dataset.task]]
    blocks: list[Block] = [Table(["metric", "definition", "source"], rows)]
    if card.text.metrics:
        blocks.append(Table(["also asked for by the makers"], [[m] for m in card.text.metrics]))
    intro = "On the test split, with the operating point chosen on the validation split, and per class."
    return Section("metrics", "Metrics to report", intro, blocks)


def _missing(card: DatasetCard) -> Section:
    found = card.text.findings(card.dataset.class_names)
    if not found:
        return Section("missing", "Not stated", "", [Note("Everything this card asks for is stated.", "good")])
    rows: list[list[Cell]] = [[f.severity, f.message] for f in found]
    intro = "What only people can say, and nobody has said yet."
    return Section("missing", "Not stated", intro, [Table(["severity", "finding"], rows)])


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
