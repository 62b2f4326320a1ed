"""How much memory there is, how much a process has taken at most, and how many cores it may use."""

import os
import sys
from pathlib import Path

import torch

if sys.platform != "win32":
    import resource

__all__ = ["available_bytes", "peak_bytes", "peak_memory", "usable_cores"]

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
