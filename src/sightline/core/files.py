"""Writing files so that a reader never sees half of one: a temporary name in the same folder, then a rename."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sightline.core.errors import ConfigError

__all__ = ["atomic_path", "plain", "write_bytes_atomic", "write_json_atomic", "write_text_atomic"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; renamed to it on success, removed on any exception.

    The folder is made if needed. The rename replaces an existing file in one step (POSIX and Windows). ConfigError
    where no folder can be made: a file of that name, or a place that takes none.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError) as error:
        message = f"must be a folder that exists or can be made, got: {error.strerror}"
        raise ConfigError(message, where=str(target.parent), do="Choose another folder to write to") from None
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give the result the permissions any new file would get.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path` in one step."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as strict JSON (NaN and infinities become null) to `path` in one step."""
    write_text_atomic(path, json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """`value` with numpy scalars and arrays, paths, tuples and sets as plain JSON types; NaN and ±inf as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):  # sorted, or the order would change from process to process
        return [plain(v) for v in sorted(value, key=lambda v: (type(v).__name__, v))]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value
