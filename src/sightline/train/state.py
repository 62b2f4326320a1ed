"""What a run needs to go on unbroken and repeat itself: its state on disk, random numbers, determinism."""

import io
import os
import random
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.core.errors import ConfigError
from sightline.core.files import atomic_path, check_regular

__all__ = [
    "deterministic_operations",
    "fitting",
    "random_state",
    "read_state",
    "restore_random_state",
    "save_state",
]

FORMAT = "sightline run 3"
"""What a state says it is; a change of its parts makes another number."""
PARTS = ("learner", "record", "random", "settings")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a run's state, whole or not at all, also where the power is cut; OSError where it does not fit."""
    data = io.BytesIO()  # torch reports a full disk as an error of its own kind
    torch.save({"format": FORMAT, **state}, data)
    with atomic_path(path, durable=True) as temporary:
        temporary.write_bytes(data.getbuffer())


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; ConfigError for another file, or one that an earlier version wrote."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as parts:  # torch reads numbers of other bytes than were written without a word
            if parts.testzip() is not None:
                raise ValueError("checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - a damaged pickle can raise anything; torch's own words advise to run its code
        raise _unusable(path, "a damaged file, or one that runs code when it is opened") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise _unusable(path, "one of another version of sightline")
    missing = [part for part in PARTS if not isinstance(state.get(part), dict)]
    if missing:
        raise _unusable(path, f"one without '{missing[0]}'")
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """What is taken from a state must be there and fit the run: ConfigError, naming the file, where it does not."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        got = " ".join(f"{error}".split())[:200]
        raise _unusable(path, f"one that does not fit ({type(error).__name__}: {got})") from None


def _unusable(path: Path, got: str) -> ConfigError:
    return ConfigError(f"must be the state of this run, got {got}", where=str(path), do="start a new run")


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's random numbers, as plain values and tensors."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - third-party code may draw from it
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on from what `random_state` gave."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = state["numpy"]
    np.random.set_state((kind, numbers.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


_SAID = re.compile(r"^(\S+) does not have a deterministic implementation")


@contextmanager
def deterministic_operations(wanted: bool) -> Iterator[list[str] | None]:
    """While this lasts torch repeats itself where it can; gives a growing list of the operations where it cannot.

    Without `wanted` nothing is changed, and None given. On the CPU our networks repeat themselves either way; on CUDA
    it costs speed. What was set before is set again at the end, but for cuBLAS, which reads its setting only once.
    """
    if not wanted:
        yield None
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark,
    )
    show, found = warnings.showwarning, []

    def collect(message: Warning | str, *place: Any, **more: Any) -> None:
        said = _SAID.match(str(message))
        if said is None:
            show(message, *place, **more)
        elif said[1] not in found:
            found.append(said[1])

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".* does not have a deterministic implementation")
        warnings.showwarning = collect
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        try:
            yield found
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.utils.deterministic.fill_uninitialized_memory = before[2]  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = before[3]
