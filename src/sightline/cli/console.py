"""Where output goes: results to stdout, everything else to stderr; tables for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter, validators
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sightline.core.errors import ConfigError
from sightline.core.files import check_writable, format_cell, plain, write_json_atomic
from sightline.core.process import Progress
from sightline.core.text import printable
from sightline.data import FORMAT_NAMES

if TYPE_CHECKING:
    from sightline.core.results import Result

__all__ = [
    "INTERRUPTED",
    "STDERR",
    "STDOUT",
    "Count",
    "DataFormat",
    "DataPath",
    "JsonFlag",
    "TrainWatcher",
    "Workers",
    "check_json_out",
    "emit_json",
    "fail",
    "give_result",
    "note",
    "open_streams",
    "progress_bar",
    "show_line",
    "show_table",
    "warn",
]

_PIPE_WIDTH = 160  # a pipe has no width of its own; this is enough for every table here
INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
"""A number of things there must be at least one of."""
DataPath = Annotated[str, Parameter(help="Path of the data set.")]
DataFormat = Annotated[
    str | None,
    Parameter(help=f"Format of the data, found out without it: {', '.join(FORMAT_NAMES)}, or a plug-in's."),
]
Workers = Annotated[Count, Parameter(help="Threads that read files.")]


class _ResultConsole(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with code 1; `main` knows that nothing is wrong."""
        raise BrokenPipeError


STDERR = Console(stderr=True)
STDOUT = _ResultConsole(width=None if sys.stdout is not None and sys.stdout.isatty() else _PIPE_WIDTH)
JsonFlag = Annotated[bool, Parameter(name="--json", negative="", help="print the result as JSON")]


def open_streams() -> None:
    """Let nothing that is printed end a verb: a stream that is closed takes anything, one of few letters escapes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def fail(sentence: str, code: int) -> NoReturn:
    """Say what is wrong on stderr and exit."""
    shown = "\n".join(map(_shown, sentence.split("\n")))  # lines are ours: those in names have been written out
    STDERR.print(f"[bold red]error:[/] {shown}", soft_wrap=True, highlight=False)
    sys.exit(code)


def _shown(text: str) -> str:
    return escape(printable(text))


def emit_json(value: object) -> None:
    """Print a result, or a mapping, as one JSON object on stdout."""
    keeps_all = sys.stdout.encoding.lower().startswith("utf")
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=not keeps_all, allow_nan=False) + "\n")


def check_json_out(out: str | None) -> None:
    """ConfigError or OSError, before any work, for an `--out` that is no name of a JSON file or cannot be written."""
    if out is None:
        return
    if Path(out).suffix.lower() != ".json":
        raise ConfigError(f"--out must name a file that ends in .json, got '{out}'")
    check_writable([out])


def give_result(result: "Result", show: Callable[[], None], *, out: str | None, json: bool) -> None:
    """Write a result to `out` where one is given, and print it: as JSON, or by `show` for people."""
    if out is not None:
        write_json_atomic(out, result)
    if json:
        emit_json(result)
    else:
        show()


def note(text: str) -> None:
    """One line of log on stderr."""
    STDERR.print(f"[dim]{_shown(text)}[/]", soft_wrap=True, highlight=False)


def warn(text: str) -> None:
    """One line on stderr that must not be overlooked."""
    STDERR.print(f"[bold yellow]warning:[/] {_shown(text)}", soft_wrap=True, highlight=False)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout; numbers are right-aligned, floats have four decimals, None is a dash."""
    if title:
        STDOUT.print(f"[bold]{_shown(title)}[/]", highlight=False, soft_wrap=True)
    table = Table(header_style="dim", box=SIMPLE_HEAD, show_edge=False)
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        table.add_column(column, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(format_cell(value)) for value in row))
    STDOUT.print(table)
    STDOUT.print()


def show_line(text: str) -> None:
    """One line of result on stdout, never wrapped."""
    STDOUT.print(_shown(text), soft_wrap=True, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr while the context lasts; silent where stderr is no terminal."""
    with _bar() as bar:
        tasks: dict[str, Any] = {}

        def update(done: int, total: int | None, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield update


class TrainWatcher:
    """Shows a training run: a bar for the stretch of work at hand and a line for each epoch; nothing when `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self.bar = _bar(Console(stderr=True, quiet=True) if quiet else STDERR)
        self.task: Any = None

    def __enter__(self) -> "TrainWatcher":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """One line worth reading."""
        self.bar.console.print(f"[dim]{_shown(text)}[/]", soft_wrap=True, highlight=False)

    def phase(self, name: str, total: int) -> None:
        """A stretch of work begins."""
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(name, total=total)

    def advance(self, done: int) -> None:
        """How much of it is done."""
        if self.task is not None:
            self.bar.update(self.task, completed=done)

    def epoch(self, row: Mapping[str, float], best: bool) -> None:
        """An epoch ended with these numbers."""
        parts = [f"epoch {int(row['epoch'])}"]
        for group in ("train", "val"):
            named = [f"{key.split('/')[1]} {value:.3f}" for key, value in row.items() if key.startswith(f"{group}/")]
            parts.append(f"{'loss' if group == 'train' else group}: {' '.join(named)}")
        parts.append(f"{row['images_per_s']:.1f} images/s")
        mark = " [green]best[/]" if best else ""
        self.bar.console.print("  ".join(parts) + mark, soft_wrap=True, highlight=False)


def _bar(console: Console = STDERR) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )
