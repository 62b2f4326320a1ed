"""Where a run stands inside an epoch: what must be kept beside weights and optimiser to go on from the next batch."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch

__all__ = ["StopRequest", "random_state", "restore_random_state", "stop_at_next_step"]


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


class StopRequest:
    """Whether the user, or the system, has asked the run to stop.

    `patient` for a process of several: its launcher hands on the signal that the terminal has sent already, and ends
    what does not stop in time.
    """

    def __init__(self, patient: bool = False) -> None:
        self.made = False
        self._patient = patient

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """As a signal handler: the first time the run ends behind its next step, the second time at once."""
        if self.made and not self._patient:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def stop_at_next_step(request: StopRequest) -> Iterator[None]:
    """While this lasts, SIGINT and SIGTERM only set `request`; outside the main thread signals are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
