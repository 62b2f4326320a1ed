"""Decoded pixels kept on disk by content: what is read back is what these bytes give with this preprocessing.

The key is made of the file's bytes, not of its name or time, so a changed picture is never served stale and one that
was moved or copied is still found. All runs of a user share the folder; each entry appears whole or not at all.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.core.errors import DataError
from sightline.core.files import write_bytes_atomic

__all__ = ["DiskCache", "FileDigests", "content_key"]

_SUFFIX = ".pixels"
_LEFT_FREE = 2**30  # bytes of the disk that the cache never takes
_ABANDONED_S = 3600.0  # age from which a temporary file's writer is taken for dead
Pixels = NDArray[np.uint8]


def content_key(digest: str, *recipe: object) -> str:
    """The name under which pixels are kept: a hash over the file's digest and everything that was done to it."""
    return hashlib.sha256("\0".join([digest, *map(repr, recipe)]).encode()).hexdigest()


class FileDigests:
    """SHA-256 of files, each read once (a video holds many frames); may be asked from several threads."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> str:
        """The digest of a file's bytes; DataError where it cannot be read."""
        with self._lock:
            known = self._known.get(path)
        if known is not None:
            return known
        try:
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read the file ({error.strerror})", where=str(path)) from None
        with self._lock:
            self._known[path] = digest
        return digest


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class DiskCache:
    """A folder of pixel arrays that never grows beyond `limit_bytes`: what was not used for longest goes first."""

    folder: Path
    limit_bytes: int

    def admit(self, wanted: Mapping[str, int]) -> tuple[frozenset[str], frozenset[str]]:
        """Make room for entries of these keys and sizes in bytes: which of them are there, and which may be written."""
        stored = self._entries()
        there = frozenset(k for k, size in wanted.items() if k in stored and stored[k].size == size)
        for key in there:
            os.utime(stored[key].path)
        others = sorted((e for k, e in stored.items() if k not in wanted), key=lambda e: -e.used)
        total = sum(e.size for e in stored.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        free = min(self.limit_bytes - total, shutil.disk_usage(self.folder).free - _LEFT_FREE)
        room = set()
        for key in [k for k in wanted if k not in there]:
            while free < wanted[key] and others:
                oldest = others.pop()
                oldest.path.unlink(missing_ok=True)
                free += oldest.size
            if free < wanted[key]:
                break
            free -= wanted[key]
            room.add(key)
        return there, frozenset(room)

    def read(self, key: str, shape: tuple[int, ...]) -> Pixels | None:
        """The pixels of a key, None where they are not there (any more) or of another size."""
        try:
            values = np.fromfile(self._path(key), np.uint8)
        except OSError:
            return None
        return values.reshape(shape) if values.size == np.prod(shape) else None

    def write(self, key: str, pixels: NDArray[Any]) -> None:
        """Keep pixels; OSError where the disk takes no more."""
        write_bytes_atomic(self._path(key), np.ascontiguousarray(pixels, np.uint8).tobytes())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    def _entries(self) -> dict[str, _Entry]:
        found = {}
        for path in self.folder.glob("??/*") if self.folder.is_dir() else ():
            try:
                status = path.stat()
            except OSError:  # another run has just removed it
                continue
            if path.suffix == _SUFFIX and not path.name.startswith("."):
                found[path.stem] = _Entry(path, status.st_size, status.st_mtime)
            elif time.time() - status.st_mtime > _ABANDONED_S:
                path.unlink(missing_ok=True)
        return found
