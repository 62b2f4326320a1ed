"""A digest of a file inside the file itself: what was damaged or edited since it was written is noticed when read.

A seal is a text in the file, behind a mark that nobody writes by chance: SHA-256 of all its bytes, with the digits of
the seal itself as zeros. It needs no parser of the format, so that JSON, Parquet and ONNX files are sealed alike.
"""

import hashlib
import mmap
from pathlib import Path

from sightline.core.errors import InputError

__all__ = ["SEAL_KEY", "UNSEALED", "check_seal", "seal_bytes", "seal_file"]

SEAL_KEY = "seal"
"""Where a format has keys, that of the seal."""
_MARK = b"sightline-file-sha256:"
_DIGITS = 64
_ZEROS = b"0" * _DIGITS
UNSEALED = (_MARK + _ZEROS).decode()
"""What a writer puts under `SEAL_KEY` for `seal_bytes` to fill in."""


def seal_bytes(data: bytes) -> bytes:
    """The same with the digits of its first `UNSEALED` filled in; ValueError where there is none."""
    start = data.index(UNSEALED.encode()) + len(_MARK)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + _DIGITS :]


def seal_file(path: str | Path) -> None:
    """As `seal_bytes`, of a file in its place, however large; ValueError where it has no `UNSEALED`."""
    with Path(path).open("rb+") as file, mmap.mmap(file.fileno(), 0) as data:
        start = data.find(UNSEALED.encode())
        if start < 0:
            raise ValueError(f"{path} has no place for a seal")
        digest = hashlib.sha256(data).hexdigest().encode()
        data[start + len(_MARK) : start + len(UNSEALED)] = digest


def check_seal(data: bytes, where: str | Path, kind: type[InputError], do: str) -> bool:
    """Whether the data carry a seal; an error of this kind, saying what to do, where they are not what was sealed.

    Data without one, of an earlier version or another program, are not judged.
    """
    if _MARK not in data:
        return False
    # Line ends that git or an editor changed say nothing else: text is tried as it was written, too.
    if not _fits(data) and not _fits(data.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"):
        raise kind("must be as it was written, got a file that was damaged or edited since", where=str(where), do=do)
    return True


def _fits(data: bytes) -> bool:
    start = data.find(_MARK) + len(_MARK)
    whole = hashlib.sha256(data[:start] + _ZEROS + data[start + _DIGITS :]).hexdigest()
    return data[start : start + _DIGITS] == whole.encode()
