"""Run folders and their provenance: where results go, and what must be known to make them again."""

import contextlib
import importlib.metadata
import itertools
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic

from sightline.core.errors import ConfigError, value_sentence
from sightline.core.files import check_regular, locked_folder, remove_leftovers, write_sealed_json
from sightline.core.seal import SEAL_KEY, check_seal
from sightline.core.text import parse_json

__all__ = ["FINISHED_S", "RunFolder", "code_version", "hardware", "package_versions", "provenance", "read_record"]

_PACKAGES = (
    "sightline", "numpy", "polars", "numba", "opencv-python-headless", "pillow", "simplejpeg", "av", "hotcoco",
    "supervision", "onnxruntime", "onnx", "torch", "torchvision",
)  # fmt: skip


FINISHED_S = 60.0
"""How long the results of finished work wait for a folder that another process works in: verbs write for seconds."""
_SHORT_S, _LOOK_S = 1.0, 0.05


class _Record(pydantic.BaseModel):
    """What `run.json` may say, as far as anything reads it; other keys are kept as they are."""

    status: str | None = None
    task: str | None = None
    command: list[str] | None = None
    started: str | None = None
    code: str | None = None
    git: dict[str, Any] | None = None
    versions: dict[str, str | None] | None = None
    hardware: dict[str, Any] | None = None
    seeds: dict[str, Any] | None = None
    data_digest: str | None = None
    data: dict[str, Any] | None = None
    model: dict[str, Any] | str | None = None
    preprocess: dict[str, Any] | None = None
    config_sha256: str | None = None
    chosen: dict[str, dict[str, Any]] | None = None
    resumed: list[dict[str, Any]] | None = None
    notes: list[str] | None = None
    watched: list[dict[str, Any]] | None = None
    findings: list[dict[str, Any]] | None = None
    epochs_done: int | None = None
    best: dict[str, Any] | None = None
    duration_s: float | None = None
    images_per_s: float | None = None
    peak_memory_mb: dict[str, float] | None = None


def read_record(path: str | Path) -> dict[str, Any]:
    """What a `run.json` says; ConfigError, naming file and key, where it is no JSON or says something else.

    OSError where the file cannot be read.
    """
    file = Path(path)
    check_regular(file)
    data = file.read_bytes()
    check_seal(data, file, ConfigError, "Put it back as it was")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise ConfigError(f"must be JSON, got: {error}", where=str(file)) from None
    if not isinstance(value, dict):
        raise ConfigError(f"must be a JSON object, got a {type(value).__name__}", where=str(file))
    value.pop(SEAL_KEY, None)
    try:
        _Record.model_validate(value, strict=True)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{value_sentence(error.errors(include_url=False)[0]):.300}", where=str(file)) from None
    return value


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<task>/<name>/`: `config.yaml`, `run.json`, `metrics.jsonl`, `results.csv`, `weights/`, `figures/`, ..."""

    path: Path

    @classmethod
    def create(cls, root: str | Path, task: str, name: str | None = None) -> "RunFolder":
        """A new folder; a taken name is refused, and without a name the next free `run-N` is used."""
        base = Path(root) / task
        if name is not None and not re.fullmatch(r"[\w][\w.+-]*", name):
            raise ConfigError(f"a run's name must be letters, digits, '.', '_', '+' or '-', got '{name}'")
        try:
            base.mkdir(parents=True, exist_ok=True)
            for candidate in [name] if name is not None else (f"run-{n}" for n in itertools.count(1)):
                # mkdir itself decides who gets a name, so runs started at the same time cannot share one.
                with contextlib.suppress(FileExistsError):
                    (base / candidate).mkdir()
                    return cls(base / candidate)
        except OSError as error:
            raise ConfigError(f"cannot make the run folder ({error.strerror})", where=str(base)) from None
        raise ConfigError(
            f"run '{name}' exists already", where=str(base), do="choose another --name, or continue it with --resume"
        )

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run to keep a record in; ConfigError without a run.json, or while another process works there."""
        if not (Path(path) / "run.json").is_file():
            raise ConfigError("must be the folder of a run with its run.json, got none", where=str(path))
        run = cls(Path(path))
        run.check_free()
        return run

    @property
    def weights(self) -> Path:
        """`weights/`, made when first asked for."""
        return self._folder("weights")

    @property
    def figures(self) -> Path:
        """`figures/`, made when first asked for."""
        return self._folder("figures")

    def check_free(self) -> None:
        """ConfigError, before any work, while another process works in this folder; one that is not there is free."""
        with self._locked(_SHORT_S):
            pass

    @contextmanager
    def held(self, patience_s: float = _SHORT_S) -> Iterator[None]:
        """Work here alone; ConfigError while another process does, for longer than `patience_s`.

        What a killed process left half written is removed first, where this is the folder of a run and not any other.
        """
        with self._locked(patience_s):
            if any((self.path / name).is_file() for name in ("run.json", "config.yaml")):
                for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir())):
                    remove_leftovers(folder)
            yield

    def keep(self, name: str, result: Any) -> None:
        """Write what a verb found as a JSON file of this folder, made if needed, with nobody else at work in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.held(FINISHED_S):
            write_sealed_json(self.path / name, result)

    @contextmanager
    def _locked(self, patience_s: float) -> Iterator[None]:
        until = time.monotonic() + patience_s
        while True:
            with locked_folder(self.path) as is_free:
                if is_free:
                    yield
                    return
            if time.monotonic() > until:
                raise ConfigError(
                    "a run must be worked on by one process at a time, got one that another process works on",
                    where=str(self.path),
                    do="wait until it ends, or interrupt it",
                )
            time.sleep(_LOOK_S)

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record(self, facts: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        write_sealed_json(self.path / "run.json", dict(facts), durable=True)


def provenance(
    *, seeds: Mapping[str, int], data_digest: str | None, command: Sequence[str] | None = None
) -> dict[str, Any]:
    """What made a result: command, time (UTC), our code, the working folder's git, versions, hardware, seeds, data."""
    return {
        "command": list(sys.argv if command is None else command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
        "git": _git_state(Path.cwd()),
        "versions": {"python": platform.python_version(), **package_versions(_PACKAGES)},
        "hardware": hardware(),
        "seeds": dict(seeds),
        "data_digest": data_digest,
    }


@lru_cache(1)
def code_version() -> str:
    """The version of Sightline, and of a source checkout its commit and whether files differ from it."""
    said = f"sightline {package_versions(('sightline',))['sightline'] or 'not installed'}"
    checkout = Path(__file__).parents[3]
    state = _git_state(checkout) if (checkout / ".git").exists() else None
    if state is None:
        return said
    return f"{said}, commit {state['commit']}{' with uncommitted changes' if state['dirty'] else ''}"


def package_versions(names: Sequence[str]) -> dict[str, str | None]:
    """The installed version of each package, None for one that is not installed; nothing is imported."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, Any]:
    """Processor name, logical cores usable by this process, memory in GiB, operating system, machine type."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def _git_state(folder: Path) -> dict[str, Any] | None:
    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None  # not a checkout, or no git: said so by the empty field


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
