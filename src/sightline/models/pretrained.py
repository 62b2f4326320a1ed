"""Weights from the network: fetched once by address and checksum, kept in a cache folder, never without being asked."""

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import atomic_path, file_sha256
from sightline.core.process import Progress

__all__ = ["CACHE_VARIABLE", "OFFLINE_VARIABLE", "cache_folder", "fetch_weights", "resolve_weights"]

CACHE_VARIABLE = "SIGHTLINE_CACHE"
OFFLINE_VARIABLE = "SIGHTLINE_OFFLINE"

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


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


def cache_folder() -> Path:
    """Where fetched weights are kept: `$SIGHTLINE_CACHE`, else the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sightline"


def fetch_weights(address: str, sha256: str, *, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The cached file of an http(s) address, downloaded first where absent; its checksum is verified either way.

    Raises ModelError when offline (`SIGHTLINE_OFFLINE=1`), unreachable, cut short or of another checksum.
    """
    cached = (folder or cache_folder()) / f"{sha256}.safetensors"
    if cached.is_file() and file_sha256(cached) == sha256:
        return cached
    if os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0"):
        raise ModelError(
            f"weights must be in the cache when {OFFLINE_VARIABLE} is set, got none for {address}",
            do=f"unset {OFFLINE_VARIABLE}, or place the file at {cached}",
        )
    request = urllib.request.Request(address, headers={"User-Agent": "sightline"})  # noqa: S310 - http(s) only
    with atomic_path(cached) as temporary:
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response, temporary.open("wb") as file:  # noqa: S310
                received = _receive(response, file, progress)
        except urllib.error.HTTPError as error:
            raise ModelError(f"cannot fetch weights (HTTP {error.code} {error.reason})", where=address) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise ModelError(f"cannot fetch weights ({reason})", where=address, do="try again") from None
        if received != sha256:
            raise ModelError(
                f"checksum must be {sha256}, got {received}",
                where=address,
                do="nothing was kept; compare with the checksum its publisher states",
            )
    return cached


def _receive(response: http.client.HTTPResponse, file: IO[bytes], progress: Progress | None) -> str:
    """Copy the body to `file`; its SHA-256. Raises OSError when the body is shorter than announced."""
    announced = response.headers.get("Content-Length")
    total = int(announced) if announced and announced.isdigit() else None
    digest, done = hashlib.sha256(), 0
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total, "downloading")
    if total is not None and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
    return digest.hexdigest()
