"""`sightline report` and `sightline card`: the page of a run, and the card of a data set."""

from itertools import chain
from pathlib import Path

import sightline.audit
import sightline.data
import sightline.report
from sightline.cli.console import (
    DataFormat,
    DataPath,
    JsonFlag,
    Workers,
    emit_json,
    note,
    progress_bar,
    show_table,
)
from sightline.core.errors import DataError
from sightline.core.files import check_writable, refuse_overwriting

__all__ = ["card", "report"]

_CARD = ("card.md", "card.html", "croissant.json", "images.csv", "objects.csv")


def report(run: str, *, out: str | None = None, data: str | None = None, json: JsonFlag = False) -> int:
    """Write one self-contained HTML page of a run: everything measured, how, and how to measure it again.

    Parameters
    ----------
    run
        Folder of the run.
    out
        The page; report.html in the run's folder without it.
    data
        Where the data set lies now, if no longer where the run says.
    """
    if data is not None and not Path(data).exists():
        raise DataError("a data set must exist, got no such file or folder", where=data)
    if out is not None:
        check_writable([out])
        refuse_overwriting([out], (file for file in Path(run).rglob("*") if file.name != "report.html"))
    result = sightline.report.write_report(run, out, data=data)
    if json:
        emit_json(result)
        return 0
    rows = [(name, "yes" if measured else "not measured in this run") for name, measured in result.sections.items()]
    show_table(f"{result.path} ({result.size_bytes / 1024:.0f} KiB)", ("section", "measured"), rows)
    return 0


def card(
    data: DataPath,
    *,
    out: str = "card",
    format: DataFormat = None,  # noqa: A002 - the option's name
    audit: str | None = None,
    describe: str | None = None,
    init: bool = False,
    workers: Workers = 2,
    json: JsonFlag = False,
) -> int:
    """Write the card of a data set: Markdown, an HTML page, and Croissant 1.1 with its tables.

    Parameters
    ----------
    out
        Folder to write to.
    audit
        Result of an audit (audit.json); without it the data set is audited now.
    describe
        YAML file with what only people know: sources, licence, definitions, policies.
    init
        Write such a file to fill in (card.yaml, or the one named with --describe) and nothing else.
    """
    dataset = sightline.data.read_dataset(data, format=format)
    if init:
        file = Path(describe or "card.yaml")
        sightline.report.write_template(file, dataset.class_names)
        note(f"written: {file}; fill it in and give it with --describe")
        return 0
    check_writable(Path(out) / name for name in _CARD)
    text = sightline.report.CardText() if describe is None else sightline.report.CardText.read(describe)
    text.check_classes(dataset.class_names, where=describe)
    if audit is not None:
        found = sightline.audit.read_audit(audit)
    else:
        with progress_bar() as bar:
            found = sightline.audit.audit_dataset(dataset, workers=workers, progress=bar)
    read = [file for file in (audit, describe) if file is not None]
    refuse_overwriting((Path(out) / name for name in _CARD), chain(read, sightline.data.dataset_files(dataset, data)))
    result = sightline.report.write_card(dataset, text, found, Path(out), workers=workers)
    if json:
        emit_json(result)
        return 0
    show_table("", ("written",), [(str(f),) for f in result.files])
    if result.not_stated:
        show_table("not stated", ("what",), [(name,) for name in result.not_stated])
        if describe is None:
            note("`sightline card --init` writes a file to state it in")
    return 0
