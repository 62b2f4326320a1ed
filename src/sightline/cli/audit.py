"""`sightline audit`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import sightline.audit
import sightline.data
import sightline.infer
import sightline.report
from sightline.audit import AuditOptions
from sightline.cli.console import STDOUT, DataFormat, JsonFlag, Workers, emit_json, note, progress_bar, show_line
from sightline.core.errors import ConfigError, at
from sightline.core.files import check_writable, refuse_overwriting, write_sealed_json
from sightline.core.findings import SEVERITIES, Finding, Severity, worst_severity
from sightline.core.runs import RunFolder
from sightline.core.text import printable

if TYPE_CHECKING:
    from sightline.audit import AuditResult, SplitCounts

__all__ = ["audit", "show_audit"]


def audit(
    data: str,
    *,
    format: DataFormat = None,  # noqa: A002 - the option's name
    html: str | None = None,
    out: str | None = None,
    record: str | None = None,
    quarantine: str | None = None,
    quarantine_from: Severity = "error",
    since: str | None = None,
    predictions: str | None = None,
    embeddings: str | None = None,
    options: Annotated[AuditOptions, Parameter(name="*")] = AuditOptions(),  # noqa: B008 - frozen
    fail_on: Literal["info", "warning", "error", "never"] = "never",
    workers: Workers = 2,
    json: JsonFlag = False,
) -> int:
    """Read every label and every image of a data set and list what is wrong, with file and line.

    Parameters
    ----------
    data
        Path of the data set: a folder, a COCO file, a data YAML or a sightline.yaml.
    html
        Write a page (.html) with all findings and the pictures behind them.
    out
        Write the result as JSON to this file, for --since and `sightline look --audit`.
    record
        Folder of a run: the audit is kept there as audit.json, for its report.
    quarantine
        Write a description (.yaml) that leaves out the images found faulty; give it instead of DATA from then on.
    quarantine_from
        Lowest severity that leaves an image out.
    since
        An earlier audit's JSON: splits that are not as they were then are findings.
    predictions
        A model's predictions on this data, Parquet or COCO results: labels they speak against are findings.
    embeddings
        A model's weights: images it finds alike are findings, a second opinion on near-duplicates. Needs torch.
    options
        The thresholds of the checks.
    fail_on
        Exit with code 1 when a finding of this severity or above is there.
    """
    for option, file, suffixes in (
        ("--html", html, (".html", ".htm")),
        ("--out", out, (".json",)),
        ("--quarantine", quarantine, (".yaml", ".yml")),
    ):
        if file is not None and Path(file).suffix.lower() not in suffixes:
            raise ConfigError(f"{option} must name a file that ends in {suffixes[0]}, got '{file}'")
    run = None if record is None else RunFolder.open(record)
    earlier = None if since is None else sightline.audit.read_audit(since)
    dataset = sightline.data.read_dataset(data, format=format)
    read = [file for file in (since, predictions, embeddings) if file is not None]
    written = [file for file in (html, out, quarantine) if file is not None]
    refuse_overwriting(written, chain(read, sightline.data.dataset_files(dataset, data)))
    check_writable(written)
    found = None if predictions is None else sightline.data.read_predictions(predictions, dataset)
    with progress_bar() as bar:
        vectors = None
        if embeddings is not None:
            vectors = sightline.infer.embed_dataset(dataset, embeddings, workers=workers, progress=bar)
        result = sightline.audit.audit_dataset(
            dataset,
            options,
            workers=workers,
            progress=bar,
            since=earlier,
            predictions=found,
            embeddings=vectors,
        )
    if json:
        emit_json(result)
    else:
        show_audit(result)
    if run is not None:
        run.keep("audit.json", result)
    if out is not None:
        write_sealed_json(out, result)
    if html is not None:
        page = sightline.report.write_audit_page(dataset, result, html)
        note(f"written: {page.path} ({page.size_bytes / 1e6:.1f} MB, {page.pictures} pictures)")
    if quarantine is not None:
        count = sightline.audit.write_quarantine(dataset, result, quarantine, quarantine_from, data=data)
        note(f"written: {quarantine}, which leaves out {count} image{'s' if count != 1 else ''}")
    return _exit_code(worst_severity(result.findings), fail_on)


def _exit_code(worst: Severity | None, fail_on: str) -> int:
    if worst is None or fail_on == "never":
        return 0
    return int(SEVERITIES.index(worst) >= [*SEVERITIES].index(fail_on))  # type: ignore[arg-type]


_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_NAMED_CLASSES = 12
_PLACE_WIDTH = 44
_PLACES, _PLACES_OF_CODE = 40, 10


def show_audit(result: "AuditResult") -> None:
    """Print the audit on stdout; --json has everything that is only counted here."""
    _show_line(result.name, (result.format, result.task, *_amounts(result)), bold=True)
    if result.pictures is not None:
        counts = result.pictures
        _show_line("pictures", [f"{counts.found} found = {counts.read} read + {counts.listed} listed in the findings"])
    _show_line("splits", [_part(name, counts, result.task) for name, counts in result.splits.items()])
    if result.task != "semantic":
        _show_line("objects", _counts(result.objects_by_class))
    elif result.masks:
        _show_line("pixels", _counts(result.masks.pixels_by_class, as_shares=True))
    STDOUT.print()
    if not result.findings:
        STDOUT.print(Text("no findings", style="green"))
        return
    STDOUT.print(_table(result))
    STDOUT.print()
    _show_places(result.name, result.findings)


def _amounts(result: "AuditResult") -> list[str]:
    amounts = [_many(result.images, "image")]
    if result.task != "semantic":
        amounts.append(_many(result.objects, "object"))
    return [*amounts, _many(len(result.objects_by_class), "class", "classes")]


def _part(name: str, counts: "SplitCounts", task: str) -> str:
    objects = "" if task == "semantic" else f", {_many(counts.objects, 'object')}"
    return f"{name or '(none)'} {_many(counts.images, 'image')}{objects}"


def _counts(counts: Mapping[str, int], *, as_shares: bool = False) -> list[str]:
    """The largest, each with its name; how many others there are, and how many are not used."""
    used = sorted(((n, name) for name, n in counts.items() if n), key=lambda item: -item[0])
    total = sum(n for n, _ in used)
    shown = [f"{name} {n / total:.1%}" if as_shares else f"{name} {n}" for n, name in used[:_NAMED_CLASSES]]
    if len(used) > _NAMED_CLASSES:
        shown.append(f"{len(used) - _NAMED_CLASSES} more classes")
    if len(used) < len(counts):
        shown.append(f"{_many(len(counts) - len(used), 'class', 'classes')} unused")
    return shown


def _many(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _show_line(head: str, parts: Sequence[str], *, bold: bool = False) -> None:
    text = Text(f"{head}  ", style="bold" if bold else "dim")
    text.append(" · ".join(printable(p) for p in parts), style="not bold not dim")
    STDOUT.print(text, highlight=False, soft_wrap=True)


def _table(result: "AuditResult") -> Table:
    table = Table(header_style="dim", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first place", overflow="fold", ratio=2)
    table.add_column("what to do", overflow="fold", ratio=3)
    for severity, code, count, first, do in result.to_frame().iter_rows():
        style = _STYLES[severity]
        # Of a long path the end says more than the start; the whole stands below, and in the JSON.
        place = Text(printable(first if len(first) <= _PLACE_WIDTH else f"…{first[1 - _PLACE_WIDTH :]}") or "–")
        table.add_row(Text(severity, style=style), Text(code, style=style), str(count), place, Text(do))
    return table


def _show_places(name: str, findings: Sequence[Finding]) -> None:
    """The first errors and warnings in full, no code with more than its share."""
    worth = [f for f in findings if f.severity != SEVERITIES[0]]
    seen = Counter[str]()
    shown = 0
    for f in worth:
        seen[f.code] += 1
        if shown == _PLACES or seen[f.code] > _PLACES_OF_CODE:
            continue
        shown += 1
        show_line(f"{at(f.path or name, f.line)}: {f.severity}: {f.message} [{f.code}]")
    if len(findings) > shown:
        note(f"{len(findings) - shown} more findings; --json lists all, --html shows them with pictures")
