"""Decoded images on disk, found by what they were made from: a changed file or setting simply has another name.

One file per image: magic, shape, CRC-32, pixels. The name is the SHA-256 of the image file's bytes, of the
preprocessing, of the way of decoding, of the decoder's versions and of the version of this format. So an entry can
never be stale, several runs and data sets share a folder, and deleting any part of it is always allowed. Labels and
masks are never kept here.
"""

import functools
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.core.files import atomic_path
from sightline.core.frames import split_frame_path
from sightline.core.preprocess import Geometry, Preprocess
from sightline.core.runs import package_versions

__all__ = ["PixelCache", "content_key"]

_FORMAT = 1
_HEADER = struct.Struct("<8sIIIII")  # magic, format, height, width, channels, CRC-32
_MAGIC = b"SIGHTPIX"
_DECODERS = ("simplejpeg", "pillow", "opencv-python-headless", "av")


def content_key(digest: str, path: Path, preprocess: Preprocess, geometry: Geometry, decode: str) -> str:
    """The name of an image's entry, 64 hexadecimal digits; `digest` is that of the bytes of the file of `path`."""
    frame = split_frame_path(path)
    # Weights may carry any normalisation; it is applied after the cache and does not make other pixels.
    pixels = preprocess.model_dump_json(exclude={"mean", "std"})
    index = "" if frame is None else str(frame[1])
    parts = (f"format {_FORMAT}", digest, index, pixels, repr(geometry), decode, _decoder_versions())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _decoder_versions() -> str:
    return ",".join(f"{name} {version}" for name, version in package_versions(_DECODERS).items())


class PixelCache:
    """Pixels uint8 (H, W, C) by key in a folder. Nothing here raises for a full or forbidden disk: `fault` says it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault: str | None = None  # why nothing more is written
        self.remade = 0  # entries that were there but damaged

    def get(self, key: str) -> NDArray[np.uint8] | None:
        """The pixels of an entry, writable; None where there is none, or it is cut short or damaged."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        pixels = _unpack(data)
        self.remade += pixels is None
        return pixels

    def put(self, key: str, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels of an entry, in one step; the first failure sets `fault` and ends writing."""
        if self.fault is not None:
            return
        body = np.ascontiguousarray(pixels)
        try:
            with atomic_path(self._path(key)) as temporary, temporary.open("wb") as stream:
                stream.write(_HEADER.pack(_MAGIC, _FORMAT, *body.shape, zlib.crc32(body.data)))
                stream.write(body.data)
        except OSError as error:
            self.fault = f"{error.strerror or error} ({self.folder})"

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.pixels"


def _unpack(data: bytes) -> NDArray[np.uint8] | None:
    if len(data) < _HEADER.size:
        return None
    magic, version, height, width, channels, checksum = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    known = (magic, version) == (_MAGIC, _FORMAT) and len(body) == height * width * channels
    if not known or zlib.crc32(body) != checksum:
        return None
    return np.frombuffer(body, np.uint8).reshape(height, width, channels).copy()
