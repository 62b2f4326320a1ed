"""How memory is handed out while a network trains on the CPU."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

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
