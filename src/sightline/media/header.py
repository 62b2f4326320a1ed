"""What an image file says about itself, read from its header alone: format, size, orientation, channels."""

import stat
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from PIL import Image, UnidentifiedImageError

from sightline.core.errors import DataError
from sightline.core.frames import split_frame_path
from sightline.media.dicom import DICOM, DICOM_SUFFIXES, is_dicom, open_dicom
from sightline.media.video_index import frame_size

__all__ = [
    "DICOM",
    "HEIC",
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Channels",
    "ImageError",
    "ImageHeader",
    "check_file",
    "open_picture",
    "parse_header",
    "read_header",
]

MAX_PIXELS = 2**28
"""Largest image that is decoded (16,384 × 16,384; 0.8 GB as RGB). A larger claim is refused as a decompression bomb."""

MAX_FILE_BYTES = 2**31
"""Largest image file that is read; even `MAX_PIXELS` of 16-bit colour, not compressed at all, are smaller."""

HEIC = find_spec("pi_heif") is not None
"""Whether HEIC pictures can be decoded: libheif comes with the extra `heic`."""
_HEIC_SUFFIXES = (".heic", ".heif")
_HEAD = 132  # bytes that tell every format
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".avif", ".jp2"}
    | {*(_HEIC_SUFFIXES if HEIC else ()), *(DICOM_SUFFIXES if DICOM else ())}
)
"""What names of image files end in, in lower case: the one list, for data sets and for `run`."""
PILLOW_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may open. Others are no pictures of a data set, or are drawn by running another program (PostScript)."""

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
_LUMA_SUM, _LOW_LUMA_SUM = 3688, 105  # example table of ITU T.81, annex K.1, which is quality 50: all, first eight


class ImageError(DataError):
    """An image file cannot be used; `code` is the finding that says why (`image-missing`, `image-truncated`, …)."""

    def __init__(
        self, what: str, *, where: str | None = None, do: str | None = None, code: str = "image-unreadable"
    ) -> None:
        super().__init__(what, where=where, do=do)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.what, self.where, self.do, self.code))


def _rebuild(what: str, where: str | None, do: str | None, code: str) -> ImageError:
    return ImageError(what, where=where, do=do, code=code)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A file's own claims. `stored_hw` is as stored; `size_hw` is after EXIF `orientation` (1..8, 1 = upright)."""

    kind: str  # "jpeg", "png", "video" for a frame of one, or Pillow's name in lower case
    stored_hw: tuple[int, int]
    orientation: int
    channels: Channels
    bits: int  # per channel
    alpha: bool
    frames: int = 1
    quality: int | None = None  # of a JPEG: 1..100, estimated from its luma quantisation table

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width once the orientation is applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(path: str | Path) -> ImageHeader:
    """The header of an image file; ImageError when the file is missing, empty, no image, or larger than `MAX_PIXELS`.

    A frame of a video (`video.mp4#000012`) has kind "video".
    """
    file = Path(path)
    frame = split_frame_path(file)
    if frame is not None:
        return ImageHeader("video", frame_size(*frame), 1, "rgb", 8, alpha=False)
    check_file(file, str(file))
    try:
        with file.open("rb") as stream:
            return parse_header(stream, str(file))
    except OSError as error:
        raise ImageError(f"cannot read the image ({error.strerror or error})", where=str(file)) from None


def check_file(file: Path, where: str) -> int:
    """The size of a file in bytes; ImageError unless it is a regular file of 1 to `MAX_FILE_BYTES` bytes.

    Reading a pipe or a device would wait forever.
    """
    try:
        status = file.stat()
    except FileNotFoundError as error:
        raise ImageError(f"cannot read the image ({error.strerror})", where=where, code="image-missing") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the image ({getattr(error, 'strerror', None) or error})", where=where) from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise ImageError(f"cannot read the image (an image must be a file, got {what})", where=where)
    if status.st_size == 0:
        raise ImageError("an image must have content, got an empty file", where=where, code="image-empty-file")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(
            f"an image file must have at most {MAX_FILE_BYTES:,} bytes, got {status.st_size:,}",
            where=where,
            code="image-too-large",
        )
    return status.st_size


def parse_header(stream: BinaryIO, where: str) -> ImageHeader:
    """The header of an image in an open file or buffer; `where` names it in errors.

    ImageError with the code of what is wrong: empty, truncated or corrupt header, no known format, too large.
    """
    stream.seek(0)
    magic = stream.read(8)
    if not magic:
        raise ImageError("an image must have content, got an empty file", where=where, code="image-empty-file")
    try:
        if magic.startswith(_JPEG):
            header = _jpeg_header(stream)
        elif magic == _PNG:
            header = _png_header(stream)
        else:
            header = _pillow_header(stream, where)
    except (EOFError, struct.error, ValueError, IndexError) as error:
        code = "image-truncated" if isinstance(error, (EOFError, struct.error)) else "image-corrupt"
        raise ImageError(f"an image must have a complete header, got: {error}", where=where, code=code) from None
    height, width = header.stored_hw
    if height < 1 or width < 1:
        what = f"an image must be at least 1 × 1 pixels, got {width} × {height}"
        raise ImageError(what, where=where, code="image-corrupt")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"an image must have at most {MAX_PIXELS:,} pixels, got {width} × {height}",
            where=where,
            do="Cut it into tiles, or remove the file if it is damaged or hostile",
            code="image-too-large",
        )
    return header


def _jpeg_header(stream: BinaryIO) -> ImageHeader:
    stream.seek(2)
    orientation, quality = 1, None
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
            return ImageHeader("jpeg", (height, width), orientation, channels, bits, alpha=False, quality=quality)
        if marker == 0xE1:
            body = stream.read(length - 2) if length > 2 else b""
            if body.startswith(b"Exif\0\0"):
                orientation = _exif_orientation(body[6:])
        elif marker == 0xDB:
            body = stream.read(max(length - 2, 0))
            quality = _quality(body) if quality is None else quality
        else:
            stream.seek(max(length - 2, 0), SEEK_CUR)


def _next_marker(stream: BinaryIO) -> int:
    first = stream.read(1)
    if not first:
        raise EOFError("the JPEG ends inside its header")
    if first != b"\xff":
        raise ValueError("no JPEG marker where one must be")
    code = b"\xff"
    while code == b"\xff":
        code = stream.read(1)
    if not code:
        raise EOFError("the JPEG ends inside its header")
    return code[0]


def _quality(tables: bytes) -> int | None:
    """The quality a table stands for in the scale of the Independent JPEG Group; table 0 is luma, and comes first."""
    if len(tables) < 65 or tables[0] != 0:  # table 0 of 8-bit steps
        return None
    # Steps end at 255, which those of high frequencies reach first: then the lowest eight tell the scale.
    count, standard = (64, _LUMA_SUM) if max(tables[1:65]) < 255 else (8, _LOW_LUMA_SUM)
    scale = 100 * sum(tables[1 : count + 1]) / standard
    return min(max(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1), 100)


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


_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def _what_else(stream: BinaryIO) -> tuple[str, str | None]:
    """What a file is that is no picture we decode, and what to do, as far as its first bytes tell."""
    stream.seek(0)
    head = stream.read(256)
    if head.startswith(_POINTER):
        return "a Git LFS pointer: the picture itself was never fetched", "Run 'git lfs pull' in the repository"
    if head.lstrip().lower().startswith(_PAGES):
        return "a page of HTML or XML: the download brought an error page", "Download the picture again"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "a HEIC picture, which is not decoded", "Install sightline[heic], or convert it to JPEG or PNG"
    if is_dicom(head):
        return "a DICOM picture, which is not decoded", "Install sightline[dicom], or convert it to PNG"
    if head[:2] == b"PK":
        return "a zip archive", "Unpack it"
    return "no known image format (JPEG, PNG, BMP, TIFF, WebP, …)", None


def open_picture(stream: BinaryIO) -> Image.Image:
    """The picture in a stream, opened and not yet decoded, whatever the format; raises what its decoder raises."""
    stream.seek(0)
    head = stream.read(_HEAD)
    stream.seek(0)
    if DICOM and is_dicom(head):
        return open_dicom(stream)
    if HEIC and head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head:
        from pi_heif.as_plugin import HeifImageFile  # not registered with Pillow, which would be for everybody

        return HeifImageFile(stream)  # type: ignore[no-any-return]
    return Image.open(stream, formats=PILLOW_FORMATS)


def _pillow_header(stream: BinaryIO, where: str) -> ImageHeader:
    try:
        with open_picture(stream) as image:
            width, height = image.size
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1) or 1)
            mode, frames = image.mode, int(getattr(image, "n_frames", 1))
            kind = (image.format or "other").lower()
            alpha = "A" in image.getbands() or "transparency" in image.info
    except UnidentifiedImageError:
        what, do = _what_else(stream)
        raise ImageError(f"must be an image, got {what}", where=where, do=do) from None
    except Image.DecompressionBombError as error:
        raise ImageError(str(error), where=where, code="image-too-large") from None
    except Exception as error:  # noqa: BLE001 - a damaged header makes Pillow's plug-ins raise anything
        raise ValueError(str(error) or type(error).__name__) from None
    if kind == "tiff" and orientation >= 5:  # Pillow already turns the size of such a TIFF
        height, width = width, height
    channels = _PILLOW_CHANNELS.get(mode, "other")
    bits = 16 if channels == "gray16" else 32 if mode == "F" else 8
    return ImageHeader(kind, (height, width), orientation if orientation <= 8 else 1, channels, bits, alpha, frames)
