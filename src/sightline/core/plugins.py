"""Plug-ins: Python files and installed modules that add formats, models, trackers, metrics and sinks by name.

Nothing is loaded here that a plug-in adds to: what is registered waits until the registry it belongs to is opened, so
that a tracker of one's own costs an audit nothing.
"""

import importlib.metadata
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.core.errors import ConfigError, SightlineError, at
from sightline.core.files import check_regular

__all__ = [
    "GROUP",
    "KINDS",
    "PlugIn",
    "blame",
    "find_installed",
    "given_files",
    "list_plugins",
    "load_all",
    "load_installed",
    "load_plugin",
    "open_registry",
    "register_format",
    "register_metric",
    "register_model",
    "register_sink",
    "register_tracker",
]

GROUP = "sightline.plugins"
"""The entry-point group of installed plug-ins; each entry names a module that registers what it adds when imported."""
KINDS = ("format", "model", "tracker", "metric", "sink")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class PlugIn:
    """A plug-in that was loaded: its name, where it is from, what it adds as (kind, name), and what its code is in."""

    name: str
    origin: str
    code: Path
    installed: bool
    adds: tuple[tuple[str, str], ...] = ()

    def holds(self, file: str) -> bool:
        """Whether a file of code is its own."""
        return Path(file) == self.code or (self.code.is_dir() and Path(file).is_relative_to(self.code))


@dataclass
class _Registered:
    """What is registered in this process."""

    added: dict[str, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    opened: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = field(default_factory=dict)
    loaded: dict[str, PlugIn] = field(default_factory=dict)
    loading: str | None = None


_STATE = _Registered()


def register_format(
    name: str,
    *,
    looked_for: str,
    detect: Callable[[Path], float | None],
    read: Callable[[Path], Any],
    write: Callable[..., Any] | None = None,
    lines: Callable[..., Any] | None = None,
) -> None:
    """Add a format of data sets under a new name; ConfigError for a name that exists.

    `looked_for` says what it looks like on disk, `detect` how surely a path is one (0..1, or None), `read` makes a
    `Dataset` of a path. `write` and `lines` as in `sightline.data.FORMATS`; `sightline.testing.check_format` tests all.
    """
    _check_callable("format", name, detect=detect, read=read)
    _add("format", name, {"looked_for": looked_for, "detect": detect, "read": read, "write": write, "lines": lines})


def register_model(name: str, builder: Callable[..., Any]) -> None:
    """Add a model: `builder(class_names, *, imgsz=…)` makes one; `sightline.testing.check_model` tests what it makes.

    ConfigError for a name that exists. Import torch inside the builder, and verbs that need none stay fast.
    """
    _check_callable("model", name, builder=builder)
    _add("model", name, builder)


def register_tracker(name: str, create: Callable[..., Any]) -> None:
    """Add a tracker: `create(settings)` makes a fresh one; `sightline.testing.check_tracker` tests it.

    ConfigError for a name that exists.
    """
    _check_callable("tracker", name, create=create)
    _add("tracker", name, create)


def register_metric(name: str, measure: Callable[..., Any], *, tasks: Sequence[str] = ("detect",)) -> None:
    """Add a metric: `measure(dataset, predictions)` gives one number, printed and saved beside the others.

    `tasks` are kinds of result it is for: "detect" (boxes or masks), "semantic", "panoptic", "track". ConfigError for a
    name that exists and for another task.
    """
    known = ("detect", "semantic", "panoptic", "track")
    _check_callable("metric", name, measure=measure)
    if isinstance(tasks, str) or not tasks or not set(tasks) <= set(known):
        raise ConfigError(f"tasks of metric '{name}' must be some of {', '.join(known)}, got {tasks!r}")
    _add("metric", name, (measure, tuple(tasks)))


def register_sink(name: str, create: Callable[[Path], Any], *, ending: str) -> None:
    """Add an output of `sightline run`: `create(path)` makes a `Sink` that writes `<stem><ending>`.

    ConfigError for a name that exists.
    """
    _check_callable("sink", name, create=create)
    if not ending or "/" in ending or "\\" in ending:
        raise ConfigError(f"ending of sink '{name}' must be that of a file name, got {ending!r}")
    _add("sink", name, (create, ending))


def open_registry(kind: str, own: dict[str, Any], adapt: Callable[[Any], Any] = lambda entry: entry) -> dict[str, Any]:
    """`own` with what plug-ins have added, and will add: the one registry of a kind, `adapt` making entries of theirs.

    ConfigError where a plug-in took a name of `own`.
    """
    for name in [name for name in _STATE.added[kind] if name in own]:
        owner = _STATE.owners[kind, name]
        _drop([(kind, name)])
        raise _taken(kind, name, owner)
    own |= {name: adapt(entry) for name, entry in _STATE.added[kind].items()}
    _STATE.opened[kind] = (own, adapt)
    return own


def load_plugin(file: str | Path) -> PlugIn:
    """Run a Python file that registers what it adds; once, however often it is named.

    ConfigError, with its name and line, for one that cannot be read, fails, or adds nothing.
    """
    path = Path(file).absolute()
    if str(path) in _STATE.loaded:
        return _STATE.loaded[str(path)]
    if path.suffix != ".py":
        raise ConfigError(f"a plug-in must be a Python file that ends in .py, got '{file}'")
    try:
        check_regular(path)
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"a plug-in must be a file that can be read ({error.strerror})", where=str(file)) from None
    module_name = f"sightline_plugin_{len(_STATE.loaded)}_{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}"

    def run() -> None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # noqa: PT018 - one thought
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)

    return _load(PlugIn(path.name, str(file), path, installed=False), str(path), run)


def find_installed() -> list[importlib.metadata.EntryPoint]:
    """The entry points of installed plug-ins, by name; nothing is loaded."""
    found = {(entry.name, entry.value): entry for entry in importlib.metadata.entry_points(group=GROUP)}
    return [found[key] for key in sorted(found)]


def load_installed(entry: importlib.metadata.EntryPoint) -> PlugIn:
    """Import the module of an entry point; ConfigError, with its name, for one that fails or adds nothing."""
    key = f"{entry.name}={entry.value}"
    if key in _STATE.loaded:
        return _STATE.loaded[key]
    origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
    if entry.attr:
        raise ConfigError(f"plug-in '{entry.name}' must name a module, got '{entry.value}'", where=origin)
    # Known before it is loaded, so that the line at which it fails is found.
    spec = None
    with suppress(ImportError, ValueError):  # said when it is imported
        spec = importlib.util.find_spec(entry.module)
    file = Path(spec.origin) if spec is not None and spec.origin is not None else Path(entry.module)
    code = file.parent if file.name == "__init__.py" else file
    return _load(PlugIn(entry.name, origin, code, installed=True), key, entry.load)


def load_all(files: Sequence[str | Path]) -> None:
    """Load the installed plug-ins, then those of the files given; ConfigError for the first that fails."""
    for entry in find_installed():
        load_installed(entry)
    for file in files:
        load_plugin(file)


def list_plugins() -> list[PlugIn]:
    """What was loaded in this process, in order."""
    return list(_STATE.loaded.values())


def given_files() -> list[str]:
    """The files of plug-ins that were loaded: what a process started from here must load too."""
    return [str(plugin.code) for plugin in _STATE.loaded.values() if not plugin.installed]


def blame(error: BaseException) -> ConfigError | None:
    """The plug-in whose code raised an error, as one sentence; None where no plug-in had a part in it."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for plugin in _STATE.loaded.values():
            if plugin.holds(frame.filename):
                what = f"plug-in '{plugin.name}' failed: {_said(error)}"
                return ConfigError(what, where=at(frame.filename, frame.lineno), do=_advice(plugin))
    return None


def _load(plugin: PlugIn, key: str, run: Callable[[], object]) -> PlugIn:
    before, outer, _STATE.loading = set(_STATE.owners), _STATE.loading, plugin.name
    try:
        run()
        adds = tuple(entry for entry in _STATE.owners if entry not in before)
        if not adds:
            raise ConfigError(f"must register something, got none of: {', '.join(KINDS)}")
    except (Exception, SystemExit) as error:
        _drop([entry for entry in _STATE.owners if entry not in before])
        what = f"plug-in '{plugin.name}' cannot be loaded: {_said(error)}"
        raise ConfigError(what, where=_place(plugin, error), do=_advice(plugin)) from error
    finally:
        _STATE.loading = outer
    _STATE.loaded[key] = PlugIn(plugin.name, plugin.origin, plugin.code, plugin.installed, adds)
    return _STATE.loaded[key]


def _add(kind: str, name: str, entry: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"a {kind} must have a name of letters, digits, '-', '_' and '.', got {name!r}")
    own, adapt = _STATE.opened.get(kind, ({}, None))
    if name in own or name in _STATE.added[kind]:
        raise _taken(kind, name, _STATE.loading)
    _STATE.added[kind][name] = entry
    _STATE.owners[kind, name] = _STATE.loading or "this program"
    if adapt is not None:
        own[name] = adapt(entry)


def _drop(entries: Sequence[tuple[str, str]]) -> None:
    """Take back what was registered."""
    for kind, name in entries:
        del _STATE.owners[kind, name], _STATE.added[kind][name]
        _STATE.opened.get(kind, ({}, None))[0].pop(name, None)


def _taken(kind: str, name: str, owner: str | None) -> ConfigError:
    other = _STATE.owners.get((kind, name))
    of = f" of plug-in '{other}'" if other not in (None, owner) else ""
    by = f"plug-in '{owner}' adds" if owner else "this program adds"
    return ConfigError(f"{by} the {kind} '{name}', which exists already{of}", do="choose another name")


def _check_callable(kind: str, name: object, **functions: object) -> None:
    for key, function in functions.items():
        if not callable(function):
            raise ConfigError(f"'{key}' of {kind} {name!r} must be a function, got {type(function).__name__}")


def _said(error: BaseException) -> str:
    """What is wrong in one line: our own errors say it all, others need the name of their kind."""
    if isinstance(error, SightlineError):
        return error.what
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(plugin: PlugIn, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return at(error.filename, error.lineno)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if plugin.holds(f.filename)]
    return at(frames[-1].filename, frames[-1].lineno) if frames else plugin.origin


def _advice(plugin: PlugIn) -> str:
    return "mend or uninstall it" if plugin.installed else "mend the file, or leave out --plugin"
