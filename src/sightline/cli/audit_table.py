"""An audit in the terminal: what the data is, one row for each finding code, then the first places."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sightline.audit import AuditResult, SplitCounts
from sightline.cli.console import STDOUT, note, show_line
from sightline.core.errors import at
from sightline.core.findings import SEVERITIES, Finding

__all__ = ["show_audit"]

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_NAMED_CLASSES = 12
_PLACE_WIDTH = 44
_PLACES, _PLACES_OF_CODE = 40, 10


def show_audit(result: AuditResult) -> None:
    """Print the audit on stdout; --json has everything that is only counted here."""
    _show_line(result.name, (result.format, result.task, *_amounts(result)), bold=True)
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


def _amounts(result: AuditResult) -> list[str]:
    amounts = [_many(result.images, "image")]
    if result.task != "semantic":
        amounts.append(_many(result.objects, "object"))
    return [*amounts, _many(len(result.objects_by_class), "class", "classes")]


def _part(name: str, counts: SplitCounts, task: str) -> str:
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
    text.append(" · ".join(_printable(p) for p in parts), style="not bold not dim")
    STDOUT.print(text, highlight=False, soft_wrap=True)


def _table(result: AuditResult) -> Table:
    table = Table(header_style="dim", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first place", overflow="fold", ratio=2)
    table.add_column("what to do", overflow="fold", ratio=3)
    for severity, code, count, first, do in result.to_frame().iter_rows():
        style = _STYLES[severity]
        # Of a long path the end says more than the start; the whole stands below, and in the JSON.
        place = Text(_printable(first if len(first) <= _PLACE_WIDTH else f"…{first[1 - _PLACE_WIDTH :]}") or "–")
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
        show_line(_printable(f"{at(f.path or name, f.line)}: {f.severity}: {f.message} [{f.code}]"))
    if len(findings) > shown:
        note(f"{len(findings) - shown} more findings; --json lists all, --html shows them with pictures")


def _printable(text: str) -> str:
    """File names may hold anything, the terminal's own commands included."""
    return "".join(c if c.isprintable() else "�" for c in text)
