"""Training in several processes: what `torchrun` starts becomes one run with one batch, one metric and one writer."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["Processes", "join_processes"]

T = TypeVar("T")
_WAIT = timedelta(hours=6)  # the others wait while the first evaluates; torchrun ends them all when one fails
_WATCH_SECONDS = 1.0
_GRACE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run: how many there are (`local_count` on this machine), and which of them this one is."""

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, for all; an exception there is raised in all."""
        if self.count == 1:
            return work()
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = work()
            except Exception as error:  # noqa: BLE001 - raised again below, in every process
                box[1] = error
        distributed.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        value: T = box[0]
        return value

    def gather(self, value: T) -> list[T]:
        """The values of all processes by rank, in the first process; in the others nothing."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        distributed.gather_object(value, values, dst=0)
        return values or []

    def share(self, parts: int) -> range:
        """Which of `parts` pieces of work are this process's: every `count`-th."""
        return range(self.rank, parts, self.count)


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """The processes `torchrun` started, connected (gloo, and NCCL for GPUs), or this one alone. May be nested.

    A process whose torchrun is gone ends itself, so that none is left over.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if distributed.is_torchelastic_launched() else 1
    if count == 1:
        yield Processes()
        return
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ["LOCAL_WORLD_SIZE"]))
    if distributed.is_initialized():
        yield processes
        return
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    has_gpu = device != "cpu" and torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=_WAIT)
    try:
        yield processes
    finally:
        distributed.destroy_process_group()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)  # a process that waits for another inside a library hears no signal
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
