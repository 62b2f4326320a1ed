"""What the audit learns from one image file: can it be decoded in full, is it what its name and its labels say, and
what does it look like in outline (a thumbnail and statistics, from which the later checks judge)."""

import hashlib
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.audit.scan.statistics import COPY_SIDE, PictureStatistics, blockiness, measure_picture
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import split_frame_path
from sightline.data import finding
from sightline.media import (
    FileBuffer,
    ImageError,
    ImageHeader,
    decode_reduced,
    find_zeroed_block,
    parse_header,
    read_frame,
)

__all__ = ["FileReport", "examine_image"]

_KIND_SUFFIXES = {
    "jpeg": {".jpg", ".jpeg"},
    "mpo": {".jpg", ".jpeg", ".mpo"},
    "png": {".png"},
    "tiff": {".tif", ".tiff"},
    "bmp": {".bmp"},
    "webp": {".webp"},
    "ppm": {".ppm", ".pgm"},
}
_JPEG_START, _JPEG_END, _PNG_END = b"\xff\xd8", b"\xff\xd9", b"IEND\xaeB`\x82"
_HEAD = 1 << 16  # bytes; enough of almost any JPEG for its header


class _Scratch(threading.local):
    """Each thread's own room to read files into."""

    def __init__(self) -> None:
        self.buffer = FileBuffer()


_scratch = _Scratch()


@dataclass
class FileReport:
    """One image file: findings, and what was learnt as far as it could be read.

    `digest` is the SHA-256 of its bytes, None when they cannot be read and for a frame of a video; `thumbnail` is
    (32, 32) luma; `blockiness` is measured only where the picture was decoded at its full size.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    digest: bytes | None = None
    size_bytes: int = 0
    header: ImageHeader | None = None
    thumbnail: NDArray[np.uint8] | None = None
    statistics: PictureStatistics | None = None
    blockiness: float | None = None


def examine_image(file: Path, path: str, image_id: int, size_hw: tuple[int, int]) -> FileReport:
    """Read a file once and check it; `size_hw` is the size its labels assume, after EXIF orientation.

    Never raises for what the file is or holds.
    """
    report = FileReport(path)
    try:
        found = _examine(report, file, size_hw)
    except DataError as error:
        found = [(error.code if isinstance(error, ImageError) else "image-unreadable", error.what)]
    report.findings += [finding(code, message, path=path, image_id=image_id) for code, message in found]
    return report


def _examine(report: FileReport, file: Path, size_hw: tuple[int, int]) -> list[tuple[str, str]]:
    """Fill the report in; what is odd about the file, by code. Raises DataError when it cannot be read in full."""
    frame = split_frame_path(file)
    if frame is not None:
        _look(report, read_frame(*frame), is_full_size=True)
        return []
    data = _scratch.buffer.read(file, report.path)
    report.digest, report.size_bytes = hashlib.sha256(data).digest(), len(data)
    header = _header(data, report.path)
    picture = decode_reduced(data, header, report.path, COPY_SIDE)
    zeroed = find_zeroed_block(data) if header.kind == "jpeg" else None
    if zeroed is not None:
        raise ImageError(f"from byte {zeroed} on a block of the compressed picture is zero", code="image-corrupt")
    report.header = header
    _look(report, picture, is_full_size=picture.shape[:2] == header.size_hw)
    return [*_oddities(header, file.suffix.lower()), *_after_the_end(header, data), *_size_mismatch(header, size_hw)]


def _header(data: bytes | memoryview, where: str) -> ImageHeader:
    if data[:2] == _JPEG_START and len(data) > _HEAD:
        try:
            return parse_header(io.BytesIO(data[:_HEAD]), where)
        except ImageError:
            pass  # a large profile or preview stands before the size
    return parse_header(io.BytesIO(data), where)


def _look(report: FileReport, picture: NDArray[np.uint8], *, is_full_size: bool) -> None:
    report.thumbnail, report.statistics = measure_picture(picture)
    if is_full_size:
        report.blockiness = blockiness(picture if picture.ndim == 2 else picture[..., 1])  # green is most of the luma


def _oddities(header: ImageHeader, suffix: str) -> list[tuple[str, str]]:
    found = []
    if suffix not in _KIND_SUFFIXES.get(header.kind, {suffix}):
        found.append(("image-wrong-extension", f"the file is {header.kind.upper()}, its name ends in '{suffix}'"))
    if header.orientation != 1:
        found.append(("image-exif-orientation", f"the file is stored with EXIF orientation {header.orientation}"))
    if header.channels in {"gray", "gray16", "gray-alpha"}:
        found.append(("image-gray", "the image has one channel"))
    if header.alpha:
        found.append(("image-alpha", "the image has an alpha channel"))
    if header.channels == "cmyk":
        found.append(("image-cmyk", "the image is in CMYK"))
    if header.bits == 16:
        found.append(("image-16-bit", f"the image has 16 bits per channel ({header.channels})"))
    if header.frames > 1:
        found.append(("image-animated", f"the file holds {header.frames} frames"))
    return found


def _after_the_end(header: ImageHeader, view: bytes | memoryview) -> list[tuple[str, str]]:
    """Bytes behind the picture's end mark (zeros as padding are common and harmless), or a PNG without one."""
    end = {"jpeg": _JPEG_END, "png": _PNG_END}.get(header.kind)
    if end is None or view[-len(end) :] == end:
        return []
    data = bytes(view)
    if data.rstrip(b"\0").endswith(end):
        return []
    if header.kind == "png" and end not in data:
        return [("image-truncated", "the PNG lacks its end mark: at least its last bytes are lost")]
    return [("image-trailing-bytes", f"{len(data) - data.rfind(end) - len(end)} bytes follow the end of the picture")]


def _size_mismatch(header: ImageHeader, size_hw: tuple[int, int]) -> list[tuple[str, str]]:
    if header.size_hw == size_hw:
        return []
    height, width = header.size_hw
    message = f"the image has {width} × {height} pixels, its labels assume {size_hw[1]} × {size_hw[0]}"
    if header.stored_hw == size_hw:
        message += f": they were drawn on the picture before its EXIF orientation {header.orientation} turned it"
    return [("image-size-mismatch", message)]
