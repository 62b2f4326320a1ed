"""Writing files so that a reader never sees half of one: a temporary name in the same folder, then a rename.

And how values are written: as plain JSON types, and as cells of tables.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from sightline.core.errors import ConfigError
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_bytes

if sys.platform != "win32":
    import fcntl

__all__ = [
    "atomic_folder",
    "atomic_path",
    "check_new_folder",
    "check_regular",
    "check_writable",
    "file_sha256",
    "format_cell",
    "locked_folder",
    "plain",
    "refuse_overwriting",
    "remove_leftovers",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_sealed_json",
    "write_text_atomic",
]

_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")  # the names of `tempfile.mkstemp` with our prefix


def check_regular(path: str | Path) -> None:
    """OSError unless the path is a file with an end: opening a pipe waits for ever, and a device never ends.

    >>> check_regular("/dev/null")
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] not a regular file: '/dev/null'
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        what = "is a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OSError(errno.EINVAL, what, str(path))


def refuse_overwriting(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """ConfigError where a file about to be written is a file that is read: under any name, by link or letter case.

    The system is asked whether two names are one file (device and inode), so that its own rules decide. Outputs that do
    not exist yet overwrite nothing; inputs may be any number, they are looked at only where an output exists.
    """
    existing = {_identity(path): path for path in outputs}
    existing.pop(None, None)
    if not existing:
        return
    for path in inputs:
        if (written := existing.get(_identity(path))) is not None:
            raise ConfigError(
                f"the output must not be a file that is read, got '{path}' itself",
                where=str(written),
                do="Choose another folder or name to write to",
            )


def check_writable(outputs: Iterable[str | Path]) -> None:
    """OSError, before any work, where a file cannot be written: its folder takes none, or it is a folder itself.

    Folders that do not exist are made when the file is.
    """
    for path in map(Path, outputs):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        above = next(p for p in path.absolute().parents if p.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(above))
        try:
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as error:
            error.filename = str(path)
            raise


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # nothing there, or a name that no file can have
        return None
    return found.st_dev, found.st_ino


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` with the same suffix; renamed to it on success, removed on any exception.

    The folder is made if needed. The rename replaces an existing file in one step (POSIX and Windows). `durable` waits
    until the disk has the data before the rename, so that not even a power cut leaves half a file. ConfigError where no
    folder can be made: a file of that name, or a place that takes none.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError) as error:
        message = f"must be a folder that exists or can be made, got: {error.strerror}"
        raise ConfigError(message, where=str(target.parent), do="Choose another folder to write to") from None
    handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give the result the permissions any new file would get.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        if durable:
            _sync(temporary)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in {None, name}:
            error.filename = str(target)  # the error of a full disk names no file, or one the user never named
        raise
    if durable:
        _sync_folder(target.parent)


def _sync(path: Path) -> None:
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    """Make a rename last; systems that cannot open folders (Windows) do so on their own."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what `atomic_path` had begun in a folder when its process was killed, and say what that was."""
    left = [p for p in Path(folder).iterdir() if _TEMPORARY.fullmatch(p.name) and p.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return left


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[bool]:
    """Hold a folder for this process alone; whether that was possible. The system frees it when the process ends.

    Where the system has no such locks (Windows, some network file systems) it is always granted.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield True
        return
    held = [handle]
    if hasattr(os, "register_at_fork"):
        # A forked loader process would hold the folder for as long as it outlives the one that was killed.
        os.register_at_fork(after_in_child=lambda: _close_all(held))
    try:
        yield _lock(handle)
    finally:
        held.clear()
        os.close(handle)


def _close_all(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)


def _lock(handle: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def check_new_folder(path: str | Path) -> None:
    """ConfigError unless there is nothing at `path`, or an empty folder."""
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        got = "one with files in it" if target.is_dir() else "a file"
        raise ConfigError(
            f"the output must be a new or empty folder, got {got}", where=str(path), do="Name another, or empty it"
        )


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new folder beside `path` to write into; it becomes `path` on success and is removed on any exception.

    ConfigError where `path` is a file or a folder with something in it, or no folder can be made there.
    """
    check_new_folder(path)
    target = Path(path).resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}-", dir=target.parent))
    except OSError as error:
        message = f"must be a folder that exists or can be made, got: {error.strerror}"
        raise ConfigError(message, where=str(target.parent), do="Choose another folder to write to") from None
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)  # mkdtemp makes private folders
        try:
            if target.exists():
                target.rmdir()  # it is empty; Windows renames onto no folder at all
            temporary.rename(target)
        except OSError:  # unless something has been put there meanwhile
            check_new_folder(path)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def file_sha256(path: str | Path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's bytes; OSError where it cannot be read."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_bytes_atomic(path: str | Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to `path` in one step."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: str | Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 `text` to `path` in one step; what is no whole character is written as its escape."""
    write_bytes_atomic(path, text.encode("utf-8", "backslashreplace"), durable=durable)


def write_json_atomic(path: str | Path, value: Any, indent: int | None = 2, *, durable: bool = False) -> None:
    """Write `value` as strict JSON (NaN and infinities become null) to `path` in one step."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    write_text_atomic(path, text, durable=durable)


def write_sealed_json(path: str | Path, value: Any, *, durable: bool = False) -> None:
    """Write a JSON object as `write_json_atomic` does, with a seal by which its reader knows that it is unchanged."""
    text = json.dumps({**plain(value), SEAL_KEY: UNSEALED}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes_atomic(path, seal_bytes(text.encode("utf-8", "backslashreplace")), durable=durable)


def plain(value: Any) -> Any:
    """`value` as plain JSON types; NaN and ±inf as None.

    Dataclasses and settings become their fields, or what their `to_dict` gives; tables a list of rows; numpy scalars,
    arrays, paths, tuples and sets (sorted) what they are in JSON.

    >>> import numpy as np
    >>> plain({"box": (np.float32(0.5), math.nan), "file": Path("a") / "b"})
    {'box': [0.5, None], 'file': 'a/b'}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):  # sorted, or the order would change from process to process
        return [plain(v) for v in sorted(value, key=lambda v: (type(v).__name__, v))]
    numpy = sys.modules.get("numpy")  # who holds an array or a scalar of it has loaded it; nobody else need wait for it
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "to_dict"):
            return plain(value.to_dict())
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "iter_rows"):  # a polars table, without loading polars for those who have none
        return [plain(row) for row in value.iter_rows(named=True)]
    if hasattr(value, "model_dump"):  # settings
        return plain(value.model_dump(mode="json"))
    return value


def format_cell(value: Any) -> str:
    """A value as tables show it: floats with four decimals (tiny ones as powers), None and NaN as an en dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
