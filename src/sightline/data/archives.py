"""Data sets that are still packed: a zip or tar file is unpacked once, into the user's cache, and read from there.

Nothing of an archive is trusted: a name that leads out of it, more than the disk has room for, and damaged or locked
members refuse it as a whole; links and devices in it are left out.
"""

import hashlib
import logging
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from sightline.core.cache import CACHE_VARIABLE, user_cache
from sightline.core.errors import DataError

__all__ = ["UNREAD_ARCHIVES", "archive_suffix", "unpacked"]

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNREAD_ARCHIVES = {".7z": "7z x {archive} -o{target}", ".rar": "unrar x {archive} {target}/"}
"""Endings of archives that need another program, and its command."""
_CHUNK = 1 << 20
_KEEP_FREE = 1 << 28  # bytes of the disk that unpacking leaves to everybody else
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_LOCKED = (NotImplementedError, RuntimeError)  # what zipfile raises for passwords and methods it does not know


class _Member(NamedTuple):
    name: str
    size: int
    handle: Any  # what opens it


def archive_suffix(path: Path) -> str | None:
    """The ending of a packed file that is unpacked here, None for another file."""
    name = path.name.lower()
    return next((suffix for suffix in (".zip", *_TAR) if name.endswith(suffix)), None)


def unpacked(archive: Path) -> Path:
    """The folder an archive's content lies in, unpacked first where it has changed or was never read.

    DataError for one that is damaged, locked, too large for the disk, or holds names that lead out of it.
    """
    suffix = archive_suffix(archive)
    assert suffix is not None
    state = archive.stat()
    key = f"{archive.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    stem = archive.name[: -len(suffix)] or "data"
    target = user_cache() / "archives" / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16] / stem
    if target.is_dir():
        return target
    try:
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        _unpack(archive, suffix, target)
    except (*_BROKEN, *_LOCKED) as error:
        what = f"an archive must be whole and without a password to be read, got: {error}"
        do = "fetch it again, or unpack it with the program that made it"
        raise DataError(what, where=str(archive), do=do) from None
    return target


def _unpack(archive: Path, suffix: str, target: Path) -> None:
    """Into a folder that appears at its place when it is whole."""
    holder = target.parent.parent
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=holder) as name:
        work = Path(name) / target.name
        work.mkdir()
        with zipfile.ZipFile(archive) if suffix == ".zip" else tarfile.open(archive) as source:
            members = list(_zip_members(source) if isinstance(source, zipfile.ZipFile) else _tar_members(source))
            _check(members, archive, holder)
            total = sum(member.size for member in members)
            text = "unpacking %s (%d files, %.0f MB) into %s, to be read from there"
            logging.getLogger("sightline").warning(text, archive.name, len(members), total / 1e6, target)
            for member in members:
                _write(source, member, work, archive)
        target.parent.mkdir(exist_ok=True)
        try:
            work.replace(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


def _zip_members(source: zipfile.ZipFile) -> Iterator[_Member]:
    for info in source.infolist():
        mode = info.external_attr >> 16
        if not info.is_dir() and (stat.S_IFMT(mode) in (0, stat.S_IFREG)):
            yield _Member(info.filename, info.file_size, info)


def _tar_members(source: tarfile.TarFile) -> Iterator[_Member]:
    for info in source:
        if info.isreg():
            yield _Member(info.name, info.size, info)


def _check(members: list[_Member], archive: Path, holder: Path) -> None:
    for member in members:
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0][1:2] == ":":
            message = f"names in an archive must lie in it, got '{member.name[:80]}'"
            raise DataError(message, where=str(archive), do="do not unpack it: it was made to write elsewhere")
    total, free = sum(member.size for member in members), shutil.disk_usage(holder).free - _KEEP_FREE
    if total > free:
        message = f"an archive must fit on the disk, got {total / 1e9:.1f} GB for {max(0, free) / 1e9:.1f} GB"
        raise DataError(message, where=str(archive), do=f"make room, or set {CACHE_VARIABLE} to another disk's folder")


def _write(source: zipfile.ZipFile | tarfile.TarFile, member: _Member, work: Path, archive: Path) -> None:
    """One file; no more of it than it was said to have."""
    place = work / PurePosixPath(member.name.replace("\\", "/"))
    place.parent.mkdir(parents=True, exist_ok=True)
    stream: IO[bytes] | None = (
        source.open(member.handle) if isinstance(source, zipfile.ZipFile) else source.extractfile(member.handle)
    )
    assert stream is not None
    left = member.size
    with stream, place.open("wb") as out:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                message = f"'{member.name[:80]}' must have the {member.size} bytes it is said to have, got more"
                raise DataError(message, where=str(archive))
            out.write(chunk)
