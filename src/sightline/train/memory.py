"""Memory and cores: what there is, what a process has taken at most, and keeping freed memory for the next step."""

import ctypes
import os
import sys
from pathlib import Path

import torch

__all__ = ["available_bytes", "keep_freed_memory", "peak_bytes", "peak_memory", "usable_cores"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let the process keep the memory it frees, for the next step to use; False where the C library is not glibc.

    glibc gives large blocks back to the system at once, and each step's maps are then faulted in page by page again,
    which took a tenth to a quarter of a step. The process stays at its peak size until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


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
