"""A process: how it was launched (alone or by `torchrun`), what memory it keeps, how it stops, how far it is."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

__all__ = ["Launch", "Progress", "StopRequest", "keep_freed_memory", "read_launch", "stop_at_next_step"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's mallopt
_NEVER = -1
_LARGEST_THRESHOLD = 2**25  # bytes; glibc takes no more

Progress: TypeAlias = Callable[[int, int | None, str], None]
"""Called with how many are done, of how many (None where nobody knows), and what is being done ("reading files")."""


@dataclass(frozen=True, slots=True)
class Launch:
    """The place of this process: `rank` of `world` in all, `local_rank` of `local_world` on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """What `torchrun` says in the environment; without it a process is alone, whatever a scheduler's variables say."""
    said = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" not in said:
        return Launch()
    return Launch(*(int(said[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))


def keep_freed_memory(most: int | None = None) -> bool:
    """Let the process keep the memory it frees, for the next step to use; False where the C library is not glibc.

    glibc gives large blocks back to the system at once, and each step's maps are then faulted in page by page again,
    which took a tenth to a quarter of a step. The process stays at its peak size until it ends or, where `most` bytes
    are given, keeps no more than that free; blocks from 32 MiB on are then given back as ever.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    if most is None:
        return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)) and bool(mallopt(_TRIM_THRESHOLD, most))


class StopRequest:
    """Whether the user, or the system, has asked to stop.

    `patient` for a process of several: its launcher hands on the signal that the terminal has sent already, and ends
    what does not stop in time.
    """

    def __init__(self, patient: bool = False) -> None:
        self.made = False
        self._patient = patient

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """As a signal handler: the first time the work ends behind its next step, the second time at once."""
        if self.made and not self._patient:
            raise KeyboardInterrupt
        self.made = True


@contextmanager
def stop_at_next_step(request: StopRequest, *signals: signal.Signals) -> Iterator[None]:
    """While this lasts, the signals only set `request`; outside the main thread they are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, request) for number in signals}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
