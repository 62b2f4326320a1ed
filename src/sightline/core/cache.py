"""Where what can be made again is kept from one process to the next."""

import os
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "user_cache"]

CACHE_VARIABLE = "SIGHTLINE_CACHE"


def user_cache() -> Path:
    """`$SIGHTLINE_CACHE`, else `sightline` in the user's cache folder. It need not exist yet."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sightline"
