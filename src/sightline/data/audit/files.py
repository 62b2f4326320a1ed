"""What the audit learns from one file: can it be decoded in full, is it what its name and its labels say."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.decode import decode_image, read_mask
from sightline.data.image_header import ImageHeader, parse_header
from sightline.data.labels import mask_palette, unexpected_values, value_counts

__all__ = ["FileReport", "MaskReport", "examine_image", "examine_mask"]

_KIND_SUFFIXES = {
    "jpeg": {".jpg", ".jpeg"},
    "mpo": {".jpg", ".jpeg", ".mpo"},
    "png": {".png"},
    "tiff": {".tif", ".tiff"},
    "bmp": {".bmp"},
    "webp": {".webp"},
    "ppm": {".ppm", ".pgm"},
}
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"


@dataclass
class FileReport:
    """One image file: findings, SHA-256 of its bytes (None when it cannot be read), and its size on disk."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    digest: bytes | None = None
    size_bytes: int = 0


@dataclass
class MaskReport:
    """One mask file: findings and the number of pixels of each class id (ignored pixels in none)."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    pixels: np.ndarray[Any, np.dtype[np.int64]] | None = None


def examine_image(file: Path, path: str, image_id: int, size_hw: tuple[int, int]) -> FileReport:
    """Read a file once and check it; `size_hw` is the size its labels assume, after EXIF orientation."""
    report = FileReport(path)

    def add(code: str, message: str) -> None:
        report.findings.append(finding(code, message, path=path, image_id=image_id))

    try:
        data = file.read_bytes()
    except OSError as error:
        add("image-missing" if isinstance(error, FileNotFoundError) else "image-unreadable", str(error.strerror))
        return report
    report.digest, report.size_bytes = hashlib.sha256(data).digest(), len(data)
    try:
        header = parse_header(io.BytesIO(data), path)
        _decode_strictly(data, header, path)
    except DataError as error:
        add("image-unreadable", error.what)
        return report
    for code, message in _oddities(header, file.suffix.lower(), data):
        add(code, message)
    if header.size_hw != size_hw:
        got, claimed = header.size_hw, size_hw
        add(
            "image-size-mismatch",
            f"the image has {got[1]} × {got[0]} pixels, its labels assume {claimed[1]} × {claimed[0]}",
        )
    return report


def examine_mask(file: Path, path: str, image_id: int, size_hw: tuple[int, int], dataset: Dataset) -> MaskReport:
    """Read a mask and check its size and values against its image and the data set's classes."""
    report = MaskReport(path)

    def add(code: str, message: str) -> None:
        report.findings.append(finding(code, message, path=path, image_id=image_id))

    palette = mask_palette(dataset, fill=len(dataset.classes))
    try:
        values = read_mask(file, palette)
    except DataError as error:
        add("mask-unexpected-value" if "palette" in error.what else "mask-unreadable", error.what)
        return report
    if values.shape != size_hw:
        add(
            "mask-size-mismatch",
            f"the mask has {values.shape[1]} × {values.shape[0]} pixels, its image {size_hw[1]} × {size_hw[0]}",
        )
    if palette is None:
        strange = unexpected_values(values, dataset)
        if strange:
            add("mask-unexpected-value", f"the mask holds the values {strange[:10]}, which belong to no class")
        sources = [i if s is None else s for i, s in enumerate(dataset.classes["source_id"].to_list())]
        by_value = value_counts(values)
        counts = [by_value.get(s, 0) for s in sources]
    else:
        counts = np.bincount(values.ravel(), minlength=len(dataset.classes))[: len(dataset.classes)].tolist()
    report.pixels = np.array(counts, dtype=np.int64)
    if len(counts) > 1 and sum(counts[1:]) == 0:
        add("mask-empty", f"the mask holds nothing but {dataset.class_names[0]}")
    return report


def _decode_strictly(data: bytes, header: ImageHeader, path: str) -> None:
    if header.kind == "jpeg" and header.channels in {"gray", "rgb"}:
        try:
            # All of the entropy-coded data is still read at 1/8 scale; what is saved is the inverse transform.
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
        except ValueError as error:
            raise DataError(f"must be an undamaged JPEG, got: {error}", where=path) from None
    else:
        decode_image(data, path)


def _oddities(header: ImageHeader, suffix: str, data: bytes) -> list[tuple[str, str]]:
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
    end = {"jpeg": _JPEG_END, "png": _PNG_END}.get(header.kind)
    if end is not None and not data.rstrip(b"\0").endswith(end):
        found.append(("image-trailing-bytes", "the file does not end where the picture ends"))
    return found
