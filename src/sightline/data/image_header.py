"""What an image file says about itself, read from its header alone: format, size, orientation, channels."""

import struct
from dataclasses import dataclass
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from PIL import Image, UnidentifiedImageError

from sightline.core.errors import DataError

__all__ = ["MAX_PIXELS", "MAX_SIDE", "Channels", "ImageHeader", "parse_header", "read_header"]

MAX_PIXELS = 2**28
"""Largest image that is decoded (16,384 × 16,384; 0.8 GB as RGB). A larger claim is refused as a decompression bomb."""

MAX_SIDE = 2**20
"""Largest width or height that is believed where only a label file states it."""

Channels: TypeAlias = Literal["gray", "gray-alpha", "gray16", "rgb", "rgb16", "rgba", "palette", "cmyk", "other"]

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start-of-frame markers (ITU T.81, table B.1)
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_PNG_CHANNELS: dict[int, Channels] = {0: "gray", 2: "rgb", 3: "palette", 4: "gray-alpha", 6: "rgba"}
_PILLOW_CHANNELS: dict[str, Channels] = {
    "1": "gray",
    "L": "gray",
    "LA": "gray-alpha",
    "I;16": "gray16",
    "I;16B": "gray16",
    "I;16L": "gray16",
    "RGB": "rgb",
    "RGBA": "rgba",
    "RGBX": "rgb",
    "P": "palette",
    "PA": "palette",
    "CMYK": "cmyk",
}
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A file's own claims. `stored_hw` is as stored; `size_hw` is after EXIF `orientation` (1..8, 1 = upright)."""

    kind: str  # "jpeg", "png", or Pillow's name in lower case
    stored_hw: tuple[int, int]
    orientation: int
    channels: Channels
    bits: int  # per channel
    alpha: bool
    frames: int = 1

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width once the orientation is applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(path: str | Path) -> ImageHeader:
    """The header of an image file; DataError when the file is missing, empty, no image, or larger than `MAX_PIXELS`."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            return parse_header(stream, str(file))
    except OSError as error:
        raise DataError(f"cannot read the image ({error.strerror or error})", where=str(file)) from None


def parse_header(stream: BinaryIO, where: str) -> ImageHeader:
    """The header of an image in an open file or buffer; `where` names it in errors."""
    stream.seek(0)
    magic = stream.read(8)
    if not magic:
        raise DataError("an image must have content, got an empty file", where=where)
    try:
        if magic.startswith(_JPEG):
            header = _jpeg_header(stream)
        elif magic == _PNG:
            header = _png_header(stream)
        else:
            header = _pillow_header(stream)
    except (struct.error, ValueError, IndexError) as error:
        raise DataError(f"an image must have a complete header, got: {error}", where=where) from None
    height, width = header.stored_hw
    if height < 1 or width < 1:
        raise DataError(f"an image must be at least 1 × 1 pixels, got {width} × {height}", where=where)
    if height * width > MAX_PIXELS:
        raise DataError(
            f"an image must have at most {MAX_PIXELS:,} pixels, got {width} × {height}",
            where=where,
            do="Cut it into tiles, or remove the file if it is damaged or hostile",
        )
    return header


def _jpeg_header(stream: BinaryIO) -> ImageHeader:
    stream.seek(2)
    orientation = 1
    while True:
        marker = _next_marker(stream)
        if marker in _BARE:
            continue
        if marker in {0xD9, 0xDA}:
            raise ValueError("image data before the size")
        (length,) = struct.unpack(">H", stream.read(2))
        if marker in _FRAMES:
            bits, height, width, components = struct.unpack(">BHHB", stream.read(6))
            channels: Channels = {1: "gray", 3: "rgb", 4: "cmyk"}.get(components, "other")  # type: ignore[assignment]
            return ImageHeader("jpeg", (height, width), orientation, channels, bits, alpha=False)
        if marker == 0xE1:
            body = stream.read(length - 2) if length > 2 else b""
            if body.startswith(b"Exif\0\0"):
                orientation = _exif_orientation(body[6:])
        else:
            stream.seek(max(length - 2, 0), SEEK_CUR)


def _next_marker(stream: BinaryIO) -> int:
    if stream.read(1) != b"\xff":
        raise ValueError("no JPEG marker where one must be")
    code = b"\xff"
    while code == b"\xff":
        code = stream.read(1)
    if not code:
        raise ValueError("the JPEG ends inside its header")
    return code[0]


def _png_header(stream: BinaryIO) -> ImageHeader:
    length, kind, width, height, bits, colour = struct.unpack(">I4sIIBB", stream.read(18))
    if kind != b"IHDR" or colour not in _PNG_CHANNELS:
        raise ValueError("no PNG image header")
    stream.seek(length - 10 + 4, SEEK_CUR)
    orientation, transparent, frames = 1, False, 1
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind in {b"eXIf", b"tRNS", b"acTL"}:
            body = stream.read(min(length, 1 << 20))
            orientation = _exif_orientation(body) if kind == b"eXIf" else orientation
            transparent = transparent or kind == b"tRNS"
            frames = struct.unpack(">I", body[:4])[0] if kind == b"acTL" else frames
            stream.seek(max(length - len(body), 0) + 4, SEEK_CUR)
        else:
            stream.seek(length + 4, SEEK_CUR)
    channels = _PNG_CHANNELS[colour]
    if bits == 16 and channels in {"gray", "rgb"}:
        channels = "gray16" if channels == "gray" else "rgb16"
    return ImageHeader("png", (height, width), orientation, channels, bits, transparent or colour in {4, 6}, frames)


def _exif_orientation(tiff: bytes) -> int:
    """Orientation 1..8 of an EXIF block (TIFF structure, tag 0x0112); 1 when absent or nonsense."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION_TAG:
            return int(value) if 1 <= value <= 8 else 1
    return 1


def _pillow_header(stream: BinaryIO) -> ImageHeader:
    stream.seek(0)
    try:
        with Image.open(stream) as image:
            width, height = image.size
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1) or 1)
            mode, frames = image.mode, int(getattr(image, "n_frames", 1))
            kind = (image.format or "other").lower()
            alpha = "A" in image.getbands() or "transparency" in image.info
    except UnidentifiedImageError:
        raise ValueError("no known image format (JPEG, PNG, BMP, TIFF, WebP, …)") from None
    except Exception as error:  # noqa: BLE001 - a damaged header makes Pillow's plug-ins raise anything
        raise ValueError(str(error) or type(error).__name__) from None
    if kind == "tiff" and orientation >= 5:  # Pillow already turns the size of such a TIFF
        height, width = width, height
    channels = _PILLOW_CHANNELS.get(mode, "other")
    bits = 16 if channels == "gray16" else 8
    return ImageHeader(kind, (height, width), orientation if orientation <= 8 else 1, channels, bits, alpha, frames)
