"""The error tree. Every message is one sentence: what, must be, got, where; then what to do.

SightlineError                 something went wrong (exit code 1)
└── InputError                 what the user gave cannot be used (exit code 2)
    ├── DataError              images, labels, masks, sequences, prediction files
    ├── ConfigError            options, configuration files
    ├── ModelError             model names, weights, ONNX files
    ├── SourceError            what a model is asked to run on: video, camera, folder
    ├── ParityError            an exported file does not behave like its model
    └── MissingExtraError      an optional dependency is not installed
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "ParityError",
    "SightlineError",
    "SourceError",
    "at",
    "nearest",
    "unknown_name",
    "value_sentence",
]


class SightlineError(Exception):
    """Base of all our errors; `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, do: str | None = None, lines: Sequence[str] = ()
    ) -> None:
        self.what = what
        self.where = where
        self.do = do
        self.lines = tuple(lines)  # what belongs to it and is easier to read line by line
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The message: `where: what. Do.`"""
        what = ": ".join([self.what.rstrip("."), *(["; ".join(self.lines)] if self.lines else [])])
        return self._with_advice(f"{self.where}: {what}" if self.where else what)

    def block(self) -> str:
        """The message with each of its `lines` on one of its own."""
        what = "\n  ".join([self.what.rstrip("."), *self.lines])
        return self._with_advice(f"{self.where}: {what}" if self.where else what)

    def _with_advice(self, head: str) -> str:
        head = head.rstrip(".")
        return f"{head}. {self.do[0].upper()}{self.do[1:].rstrip('.')}." if self.do else f"{head}."

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries in loaders; keyword arguments do not survive the default pickling.
        return (_rebuild, (type(self), self.what, self.where, self.do, self.lines))


def _rebuild(
    kind: type[SightlineError], what: str, where: str | None, do: str | None, lines: tuple[str, ...]
) -> SightlineError:
    return kind(what, where=where, do=do, lines=lines)


class InputError(SightlineError):
    """What the user gave cannot be used."""

    exit_code = 2


class DataError(InputError):
    """Images, labels, masks, sequences or prediction files are unusable."""


class ConfigError(InputError):
    """An option or a configuration file is wrong."""


class ModelError(InputError):
    """A model name, a weights file or an ONNX file is wrong."""


class SourceError(InputError):
    """A video, camera or folder to run on cannot be read."""


class ParityError(InputError):
    """An exported file does not behave like the model it came from."""


class MissingExtraError(InputError):
    """An optional dependency is not installed."""


def at(path: str | Path, line: int | None = None) -> str:
    """`path:line`, or the path alone where no line is known."""
    return f"{path}:{line}" if line is not None else f"{path}"


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names most like `name`, best first; empty when none is near."""
    by_folded = {k.lower().replace("-", "_"): k for k in known}
    folded = name.lower().replace("-", "_")
    return [by_folded[m] for m in difflib.get_close_matches(folded, by_folded, n=count, cutoff=0.55)]


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not among the known ones, with the nearest or all of them."""
    names = sorted(set(known))
    near = nearest(name, names)
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} '{name}' ({hint})"


def value_sentence(fault: Mapping[str, Any]) -> str:
    """One fault as pydantic describes it (`loc`, `type`, `msg`, `input`) as a sentence without its full stop."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"'{key}' is missing and has no default"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"'{key}': {message}, got {fault['input']!r}" if key else message
