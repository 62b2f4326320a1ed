"""Runs that repeat to the last bit: torch's deterministic operations, and a record of those that have none."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["deterministic_operations"]

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
