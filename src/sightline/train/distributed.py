"""The processes that train one model together: who this one is, and what they tell each other.

Each process gets its share of every batch. Whatever is a mean or a ratio over the batch is made of sums over all
shares (`Processes.total`), so that a run of several processes learns what a run of one does.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import polars as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from sightline.core.errors import ConfigError
from sightline.core.process import Launch, read_launch
from sightline.models import synchronise_norms

__all__ = ["ALONE", "Processes", "join_processes"]

ValueT = TypeVar("ValueT")
_PATIENCE = timedelta(hours=12)
"""How long a process waits for another: the first one may evaluate for long. `torchrun` ends all when one fails."""
_INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C


@dataclass(frozen=True)
class Processes:
    """The processes of a run; alone, every method gives back what it was given.

    All processes must call the methods that add up, give or gather, in the same order.
    """

    launch: Launch
    store: Any = None  # where failures are noted, beside the group that may be broken by them

    def __deepcopy__(self, memo: dict[int, Any]) -> "Processes":
        """Itself: a copy of what trains belongs to the same processes."""
        return self

    @property
    def is_first(self) -> bool:
        """Whether this is the process that shows progress, evaluates and writes files."""
        return self.launch.is_first

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.launch.world

    @property
    def share(self) -> tuple[int, int]:
        """(rank, world), as `SeededBatches` takes it."""
        return self.launch.rank, self.launch.world

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes, equal in all to the last bit; the gradient is this share's own."""
        return values if self.world == 1 else _add_up(values)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is up in any of the processes."""
        return [bool(raised) for raised in self.total(torch.tensor(flags, dtype=torch.int64))]

    def once(self, work: Callable[[], ValueT]) -> ValueT:
        """What `work` gives in the first process, given to all."""
        if self.world == 1:
            return work()
        given: list[Any] = [work() if self.is_first else None]
        dist.broadcast_object_list(given, src=0)
        value: ValueT = given[0]
        return value

    def gather(self, value: ValueT) -> list[ValueT]:
        """The `value` of each process, in all of them."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def gather_tables(self, tables: dict[int, pl.DataFrame], count: int) -> dict[int, pl.DataFrame]:
        """The tables of rows 0..`count`-1, each exactly once and in order."""
        if self.world > 1:
            # One table for the way: thousands of small ones would each carry their own schema.
            heights = [table.height for table in tables.values()]
            packed = (list(tables), heights, pl.concat(tables.values()) if tables else None)
            pairs = [pair for share in self.gather(packed) for pair in _unpack(*share)]
            tables = dict(sorted(pairs, key=lambda pair: pair[0]))
            assert len(pairs) == len(tables), "an image was predicted by two processes"
        assert list(tables) == list(range(count)), "an image was not predicted"
        return tables

    def prepare(self, model: nn.Module, device: str) -> None:
        """Let batch normalisation see the whole batch; ConfigError where there are more processes than GPUs."""
        if device == "cuda" and self.launch.local_world > torch.cuda.device_count():
            raise ConfigError(
                f"there must be a GPU for each process, got {self.launch.local_world} processes "
                f"and {torch.cuda.device_count()} GPUs on this machine",
                do="start fewer with --nproc-per-node, or use --device cpu",
            )
        if self.world > 1 and device == "cpu":
            synchronise_norms(model, _add_up)
        elif self.world > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]

    def connect(self, model: nn.Module, device: str) -> nn.Module:
        """The network whose gradients become the mean over the processes; alone, `model` itself."""
        if self.world == 1:
            return model
        # Channels-last gradients are copied into the buffer that is sent: a matter of speed between machines alone.
        warnings.filterwarnings("ignore", message=".*Grad strides do not match bucket view strides.*")
        # Buffers are equal without being sent: synchronous norms take their statistics over all shares.
        gpus = [self.launch.local_rank] if device == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=gpus, broadcast_buffers=False)

    def describe(self, device: str) -> dict[str, Any]:
        """For the record of a run: how many there are and what carries their sums."""
        backend = None if self.world == 1 else "nccl" if device == "cuda" else "gloo"
        return {"count": self.world, "backend": backend}

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """Let an error be heard once: the process it came to first raises it, the others end with its exit code."""
        try:
            yield
        except BaseException as error:
            if self.world == 1:
                raise
            code = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
            if self.store.add("failures", 1) == 1:
                self.store.set("exit_code", str(code))
                raise
            raise SystemExit(int(self.store.get("exit_code"))) from None
        if self.world > 1:
            dist.destroy_process_group()


ALONE = Processes(Launch())


def join_processes() -> Processes:
    """The processes `torchrun` started, once all are there: gloo between CPUs, NCCL between GPUs; else `ALONE`."""
    launch = read_launch()
    if launch.world == 1:
        return ALONE
    has_gpu = launch.local_rank < torch.cuda.device_count()
    if has_gpu:
        torch.cuda.set_device(launch.local_rank)
    store, rank, world = next(rendezvous("env://", timeout=_PATIENCE))
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=world, timeout=_PATIENCE)
    return Processes(launch, PrefixStore("sightline", store))


def _add_up(values: Tensor) -> Tensor:
    summed: Tensor = _Total.apply(values)
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.detach().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Gradients of the weights are added up over the processes later; adding here as well would count them twice.
        return gradient


def _unpack(rows: list[int], heights: list[int], table: pl.DataFrame | None) -> Iterator[tuple[int, pl.DataFrame]]:
    start = 0
    for row, height in zip(rows, heights, strict=True):
        assert table is not None
        yield row, table.slice(start, height)
        start += height
