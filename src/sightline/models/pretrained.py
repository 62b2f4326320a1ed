"""Weights from the network: fetched once by address and checksum, kept in a cache folder, never without being asked."""

import http.client
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from sightline.core.cache import user_cache
from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import file_sha256, locked_folder
from sightline.core.process import Progress

__all__ = ["OFFLINE_VARIABLE", "fetch_weights", "is_offline", "resolve_weights"]

OFFLINE_VARIABLE = "SIGHTLINE_OFFLINE"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_SAFE = "%!#$&'()*+,/:;=?@[]~"
"""What stands for itself in an address."""


def resolve_weights(reference: str | Path, *, progress: Progress | None = None) -> Path:
    """The local file for a path, or for `https://…/name.safetensors#sha256=<64 hexadecimal digits>`.

    Raises ModelError when it cannot be had and ConfigError when an address carries no checksum.
    """
    text = str(reference)
    if not text.startswith(("http://", "https://")):
        return Path(reference)
    address, fragment = urllib.parse.urldefrag(text)
    sha256 = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ConfigError(
            f"weights address must end in #sha256=<64 hexadecimal digits>, got '{text}'",
            do="add the checksum its publisher states",
        )
    return fetch_weights(address, sha256, progress=progress)


def fetch_weights(address: str, sha256: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The cached file of an http(s) address, downloaded first where absent; its checksum is verified either way.

    What a cut connection or Ctrl-C leaves is kept, and the next call goes on from there.
    Raises ModelError when offline (`SIGHTLINE_OFFLINE=1`), unreachable, cut short or of another checksum.
    """
    cached = (folder or user_cache()) / f"{sha256}.safetensors"
    if cached.is_file() and file_sha256(cached) == sha256:
        return cached
    if is_offline():
        raise ModelError(
            f"weights must be in the cache when {OFFLINE_VARIABLE} is set, got none for {address}",
            do=f"unset {OFFLINE_VARIABLE}, or place the file at {cached}",
        )
    # What an interrupted download has left lies in a folder that one process at a time works in.
    begun = cached.with_suffix(".part")
    begun.mkdir(parents=True, exist_ok=True)
    with locked_folder(begun) as held:
        if not held:
            raise ModelError("weights must be fetched by one process at a time, got another at it", where=address)
        part = begun / "data"
        try:
            _download(address, part, progress)
        except urllib.error.HTTPError as error:
            raise ModelError(f"cannot fetch weights (HTTP {error.code} {error.reason})", where=address) from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: of addresses that are none
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise ModelError(f"cannot fetch weights ({reason})", where=address, do="try again") from None
        finally:
            if not part.is_file() or not part.stat().st_size:
                shutil.rmtree(begun, ignore_errors=True)
        received = file_sha256(part)
        if received == sha256:
            part.replace(cached)
        shutil.rmtree(begun, ignore_errors=True)
    if received != sha256:
        raise ModelError(
            f"checksum must be {sha256}, got {received}",
            where=address,
            do="nothing was kept; compare with the checksum its publisher states",
        )
    return cached


def is_offline() -> bool:
    """Whether the user forbids fetching: `SIGHTLINE_OFFLINE` is set, and not to 0."""
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def _download(address: str, part: Path, progress: Progress | None) -> None:
    """The whole body in `part`, from where an earlier call was cut if the server can; OSError where it is cut again."""
    done = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "sightline"} | ({"Range": f"bytes={done}-"} if done else {})
    quoted = urllib.parse.quote(address, safe=_SAFE)  # as browsers send addresses with letters that are not ASCII
    request = urllib.request.Request(quoted, headers=headers)  # noqa: S310 - http(s) only
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not done:
            raise
        part.unlink()  # another file than was begun, or one that was whole already: from the start
        return _download(address, part, progress)
    with response, part.open("r+b" if done else "wb") as file:
        goes_on = response.status == http.client.PARTIAL_CONTENT and _starts_at(response, done)
        file.seek(done if goes_on else 0)
        file.truncate()
        _receive(response, file, progress, done if goes_on else 0)
    return None


def _starts_at(response: http.client.HTTPResponse, place: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {place}-")


def _receive(response: http.client.HTTPResponse, file: IO[bytes], progress: Progress | None, begun: int) -> None:
    """Copy the body behind the `begun` bytes there are. Raises OSError when it is shorter than announced."""
    announced = response.headers.get("Content-Length")
    total = begun + int(announced) if announced and announced.isdigit() else None
    done = begun
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total, "downloading")
    if total is not None and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
