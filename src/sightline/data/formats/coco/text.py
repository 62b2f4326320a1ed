"""The bytes of a label file, which large ones give back to the system while they are read."""

import codecs
import gzip
import mmap
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.errors import DataError
from sightline.core.files import check_regular
from sightline.data.json.scan import Bytes

__all__ = ["PACKED", "SCAN_FROM", "label_bytes", "let_go", "read_utf8"]

SCAN_FROM = 1 << 20
"""Bytes from which on a file is scanned. Below, Python's parser is done before the kernels are loaded."""
PACKED = ".gz"
_CHUNK = 1 << 24
_MOST_UNPACKED = 1 << 33  # ten times the largest public label file
_GIVES_BACK = hasattr(mmap, "MADV_DONTNEED") and hasattr(mmap, "MAP_PRIVATE") and hasattr(mmap, "MAP_ANONYMOUS")


def label_bytes(file: Path) -> bytes:
    """The bytes of a label file, unpacked where it is a `.gz`; OSError where that cannot be done."""
    if file.suffix.lower() != PACKED:
        return file.read_bytes()
    try:
        with gzip.open(file) as stream:
            content = stream.read(_MOST_UNPACKED + 1)
    except (EOFError, zlib.error) as error:
        raise OSError(f"it cannot be unpacked: {error}") from None
    if len(content) > _MOST_UNPACKED:
        raise OSError(f"unpacked it has more than {_MOST_UNPACKED:,} bytes")
    return content


def read_utf8(file: Path) -> Bytes:
    """The bytes of a UTF-8 file without byte-order mark; DataError when it cannot be read."""
    try:
        check_regular(file)
        data = _read(file)
    except OSError as error:
        raise DataError(f"cannot read the file ({error.strerror or error})", where=str(file)) from None
    decoder, starts = codecs.getincrementaldecoder("utf-8")(), range(0, len(data), _CHUNK)
    # Of text that is ASCII, as nearly all is, nothing is decoded.
    if any((data[start : start + _CHUNK] >= 0x80).any() for start in starts):
        try:
            for start in starts:
                decoder.decode(data[start : start + _CHUNK].tobytes(), final=start + _CHUNK >= len(data))
        except UnicodeDecodeError as error:
            raise DataError(f"must be UTF-8 text, got byte {error.object[error.start]:#04x}", where=str(file)) from None
    return data[len(codecs.BOM_UTF8) if data[:3].tobytes() == codecs.BOM_UTF8 else 0 :]


def let_go(text: Bytes, end: int) -> None:
    """Give the memory of the text before `end` back, where it was read so that this can be done: zeros stand there."""
    holder: Any = text
    while isinstance(holder, np.ndarray):
        holder = holder.base
    holder = holder.obj if isinstance(holder, memoryview) else holder
    pages = end // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(holder, mmap.mmap) and pages:
        holder.madvise(mmap.MADV_DONTNEED, 0, pages)


def _read(file: Path) -> Bytes:
    if not _GIVES_BACK or file.suffix.lower() == PACKED or file.stat().st_size < SCAN_FROM:
        return np.frombuffer(label_bytes(file), dtype=np.uint8)
    with file.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        # Memory of our own, into which the file is copied: the file itself mapped would end the process if it were cut.
        memory = mmap.mmap(-1, size + 1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view, done = memoryview(memory), 0
        while got := stream.readinto(view[done:]):
            done += got
    if done > size:  # it has grown meanwhile
        return np.frombuffer(label_bytes(file), dtype=np.uint8)
    return np.frombuffer(memory, dtype=np.uint8)[:done]
