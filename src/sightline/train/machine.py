"""The machine: memory and cores, what a process has taken at most, and the arithmetic a run uses and why."""

import contextlib
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sightline.core.errors import ConfigError

__all__ = [
    "Arithmetic",
    "available_bytes",
    "choose_arithmetic",
    "peak_bytes",
    "peak_memory",
    "usable_cores",
]

if sys.platform != "win32":
    import resource


_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Memory that can still be taken: the system's estimate, or what is left below the container's limit if less."""
    found = [_group_bytes_left(), _system_bytes_left()]
    return min((value for value in found if value is not None), default=2**30)


def usable_cores() -> int:
    """The cores this process may use: its affinity, and its container's share of time if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read(_GROUP / "cpu.max").split()
    if len(words) == 2 and words[0].isdecimal():
        cores = min(cores, max(1, int(words[0]) // int(words[1])))
    return cores


def peak_bytes() -> int:
    """The most memory this process has held at once since it began; 0 where the system does not say (Windows)."""
    # Not `getrusage` where it can be helped: on Linux a new process inherits the peak of the one that started it.
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(device: str) -> dict[str, float]:
    """`process`: the most this process held, without its workers; `device`: the most torch took there. In MiB."""
    peaks = {"process": round(peak_bytes() / 2**20, 1)}
    if device == "cuda":
        peaks["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peaks


def _group_bytes_left() -> int | None:
    limit, used = _read(_GROUP / "memory.max"), _read(_GROUP / "memory.current")
    return max(0, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else None


def _system_bytes_left() -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The device, the precision of the network's forward and backward pass, and the reason for the choice."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]
    reason: str

    def measuring(self) -> "Arithmetic":
        """That in which a model is validated: fp32, as `sightline eval` runs it, so that its numbers are one."""
        return Arithmetic(self.device, "fp32", "models are measured in fp32")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which the network runs in this precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        # A pass uses each weight once: kept copies would only take memory.
        return torch.autocast(self.device, dtype=dtype, cache_enabled=False)


def choose_arithmetic(
    device: Literal["auto", "cpu", "cuda"], precision: Literal["auto", "fp32", "bf16", "fp16"]
) -> Arithmetic:
    """What the user asked for, or what this machine gains from: bf16 where the hardware multiplies it, else fp32.

    Raises ConfigError when a GPU is asked for and none can be used.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("device must be one that is present, got 'cuda' where torch finds no CUDA device")
    chosen: Literal["cpu", "cuda"] = "cuda" if has_cuda and device != "cpu" else "cpu"
    if precision == "fp16" and chosen == "cpu":
        raise ConfigError("precision 'fp16' needs a CUDA device, got the CPU", do="use bf16 or fp32")
    if precision != "auto":
        return Arithmetic(chosen, precision, "asked for")
    if chosen == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic(chosen, "bf16", "the GPU multiplies bf16")
        return Arithmetic(chosen, "fp32", "the GPU has no bf16 arithmetic")
    if torch.cpu._is_amx_tile_supported():
        return Arithmetic(chosen, "bf16", "the CPU multiplies bf16 in AMX tiles")
    if torch.cpu._is_avx512_bf16_supported():
        return Arithmetic(chosen, "bf16", "the CPU multiplies bf16 in AVX-512")
    return Arithmetic(chosen, "fp32", "the CPU has no bf16 arithmetic")
