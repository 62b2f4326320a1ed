"""The one way from an image file to pixels.

Every picture and mask in the product is read here, so that orientation, channels and bit depth mean the same thing in
training, evaluation, audit and export:

- the EXIF orientation is applied;
- colour comes as RGB uint8 (H, W, 3); gray stays (H, W) uint8; 16-bit gray stays (H, W) uint16; 1-bit becomes 0/255;
- an alpha channel is dropped, not composited: the stored colours are the picture;
- floats (TIFF) are 0..1, which becomes 16 bits, else 0..255 or 0..65535, and refused beyond;
- palettes are resolved, CMYK is converted, 16-bit colour keeps its upper 8 bits;
- of an animation the first frame counts;
- a damaged file is refused, also where a lenient decoder would fill the rest with gray.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, PngImagePlugin

from sightline.core.errors import DataError
from sightline.core.frames import split_frame_path
from sightline.media.header import ImageError, ImageHeader, check_file, open_picture, parse_header, read_header
from sightline.media.video_index import read_frame

__all__ = [
    "COLOUR_BASE",
    "FileBuffer",
    "PaletteError",
    "as_rgb8",
    "as_uint8",
    "colour_of_id",
    "decode_image",
    "decode_mask",
    "decode_reduced",
    "decode_scaled",
    "id_of_colour",
    "image_size",
    "pillow_pixels",
    "read_bytes",
    "read_image",
    "read_mask",
    "stretched",
]

COLOUR_BASE = 1 << 24
"""Ids from here on stand for RGB colours: `COLOUR_BASE + 65536 r + 256 g + b`."""

_LARGEST_ROOM = 1 << 24
_LARGE_PIXELS = 1 << 24
_WHITE_8, _WHITE_16 = 255, 65535
_LEAST_OF_255 = 2.0  # a picture of 0..255 as dark as this shows nothing; a resize overshoots 1 by less

Array: TypeAlias = npt.NDArray[Any]
Palette: TypeAlias = Mapping[tuple[int, int, int], int]


class PaletteError(DataError):
    """A mask of colours that no palette was given for, or that holds a colour the palette does not name."""


def read_image(path: str | Path) -> Array:
    """The picture: RGB uint8 (H, W, 3), gray uint8 (H, W), or 16-bit gray uint16 (H, W), upright.

    A frame of a video (`video.mp4#000012`) is one too. Raises DataError when the file is missing, empty, damaged, no
    image, or larger than `MAX_PIXELS`.

    >>> read_image("missing.png")
    Traceback (most recent call last):
    ...
    sightline.core.errors.DataError: missing.png: cannot read the file (No such file or directory).
    """
    frame = split_frame_path(path)
    return decode_image(read_bytes(path), str(path)) if frame is None else read_frame(*frame)


def read_mask(path: str | Path, palette: Palette | None = None) -> Array:
    """The ids of a label mask (H, W), upright: palette indices, 0/1 of a 1-bit file, gray values, 16 or 32 bit.

    A mask stored as RGB has no ids of its own: `palette` maps each colour to one, and without it (or with a colour
    that is not in it) DataError is raised. With a palette the colours of indexed masks count, not their indices.
    """
    return decode_mask(read_bytes(path), str(path), palette)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width after EXIF orientation, from the header alone."""
    return read_header(path).size_hw


def id_of_colour(colour: tuple[int, int, int]) -> int:
    """The id that stands for an RGB colour in a class table's `source_id`."""
    red, green, blue = colour
    return COLOUR_BASE + (red << 16) + (green << 8) + blue


def colour_of_id(value: int) -> tuple[int, int, int]:
    """The RGB colour an id from `COLOUR_BASE` on stands for."""
    return (value >> 16) & 255, (value >> 8) & 255, value & 255


def decode_image(data: bytes, where: str) -> Array:
    """`read_image` for the bytes of a file; `where` names it in errors."""
    return _decode(data, parse_header(io.BytesIO(data), where), where)


def decode_mask(data: bytes, where: str, palette: Palette | None = None) -> Array:
    """`read_mask` for the bytes of a file; `where` names it in errors."""
    header = parse_header(io.BytesIO(data), where)
    with _in_memory(header, where):
        return _upright(_ids(data, header, where, palette), _remaining_orientation(header))


def _ids(data: bytes, header: ImageHeader, where: str, palette: Palette | None) -> Array:
    image = _open_pillow(data, header, where)
    if image.mode == "P" and palette is not None:
        image = image.convert("RGB")  # the classes are given by colour
    if image.mode in {"P", "L", "I", "1"} or image.mode.startswith("I;16"):
        ids = _native(np.asarray(image))
    elif image.mode == "LA":
        ids = np.asarray(image)[..., 0]
    elif image.mode in {"RGB", "RGBA"}:
        ids = _ids_of_colours(np.asarray(image)[..., :3], palette, where)
    else:
        raise DataError(f"a mask must hold integer ids, got pixels of mode {image.mode}", where=where)
    if header.kind == "png" and header.channels == "gray" and header.bits in {2, 4}:
        ids = ids // (255 // (2**header.bits - 1))  # Pillow stretches 2 and 4 bit gray to 0..255
    return ids


def read_bytes(path: str | Path, where: str | None = None) -> bytes:
    """The bytes of an image file; ImageError when it is missing, empty, no regular file or larger than a picture is.

    `where` names it in errors, else its path does.
    """
    where = str(path) if where is None else where
    check_file(Path(path), where)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the file ({error.strerror or error})", where=where) from None


class FileBuffer:
    """Room to read files into, one after another; each thread needs its own.

    Most of the time to read a photograph goes into new memory for it.
    """

    def __init__(self) -> None:
        self._room = bytearray(1)

    def read(self, path: str | Path, where: str) -> bytes | memoryview:
        """`read_bytes` as a view that holds until the next call; a very large file comes as bytes of its own."""
        size = check_file(Path(path), where)
        if size >= _LARGEST_ROOM:
            return read_bytes(path, where)
        if len(self._room) < size:
            self._room = bytearray(2 * size)
        try:
            with Path(path).open("rb", buffering=0) as stream:
                count = stream.readinto(self._room)
        except OSError as error:
            raise ImageError(f"cannot read the file ({error.strerror or error})", where=where) from None
        # A file that is being written is read the plain way.
        return memoryview(self._room)[:count] if count == size else read_bytes(path, where)


def decode_reduced(data: bytes | memoryview, header: ImageHeader, where: str, side: int) -> Array:
    """A picture decoded strictly, upright, as RGB or gray uint8, reduced where that saves work.

    A JPEG comes at a half, a quarter or an eighth of its size, its longer side still at least `side` pixels and its
    shorter one a fifth of that: all of its entropy-coded data is read and checked, the inverse transform is saved.
    16-bit values are stretched so that the picture's greatest becomes 255: cameras fill 10, 12 or 14 of the 16 bits.
    Raises ImageError as `decode_image` does.
    """
    if header.kind != "jpeg" or header.channels not in {"gray", "rgb"}:
        return stretched(_decode(bytes(data), header, where))
    height, width = header.stored_hw
    factor = 8
    while factor > 1 and (max(height, width) < side * factor or min(height, width) * 5 < side * factor):
        factor //= 2
    return _upright(_decode_jpeg(data, header, where, factor), header.orientation)


def stretched(pixels: Array) -> npt.NDArray[np.uint8]:
    """A decoded picture in 8 bits, for looking at: of 16-bit values the greatest becomes 255."""
    greatest = int(pixels.max()) if pixels.dtype == np.uint16 else 0
    return (pixels * (255.0 / greatest)).astype(np.uint8) if greatest > 255 else pixels.astype(np.uint8, copy=False)


def decode_scaled(data: bytes, where: str, least_hw: tuple[int, int]) -> tuple[Array, tuple[int, int]]:
    """A picture as `decode_image` gives it, a JPEG at 1/2, 1/4 or 1/8 while both sides stay at least `least_hw`.

    Also its full size (height, width), upright, which the labels are made for. The entropy-coded data is read whole and
    strictly checked; the inverse transform and the colour conversion of the pixels left out are saved.
    """
    header = parse_header(io.BytesIO(data), where)
    if header.kind != "jpeg" or header.channels not in {"gray", "rgb"}:
        return _decode(data, header, where), header.size_hw
    factor = 8
    while factor > 1 and any(side < least * factor for side, least in zip(header.size_hw, least_hw, strict=True)):
        factor //= 2
    return _upright(_decode_jpeg(data, header, where, factor), header.orientation), header.size_hw


def _decode(data: bytes, header: ImageHeader, where: str) -> Array:
    with _in_memory(header, where):
        if header.kind == "jpeg" and header.channels in {"gray", "rgb"}:
            return _upright(_decode_jpeg(data, header, where), header.orientation)
        image = _open_pillow(data, header, where)
        return _upright(_picture(image, where), _remaining_orientation(header))


@contextmanager
def _in_memory(header: ImageHeader, where: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        height, width = header.stored_hw
        message = f"an image must fit into the memory there is, got {width} × {height} pixels"
        raise ImageError(message, where=where, do="Cut it into tiles", code="image-too-large") from None


def _decode_jpeg(data: bytes | memoryview, header: ImageHeader, where: str, factor: int = 1) -> Array:
    colour = "GRAY" if header.channels == "gray" else "RGB"
    height, width = (-(-side // factor) for side in header.stored_hw)
    try:
        # Strict: a truncated or corrupted scan raises instead of ending in gray.
        pixels: Array = simplejpeg.decode_jpeg(
            data, colorspace=colour, min_height=height, min_width=width, min_factor=factor, strict=True
        )
    except ValueError as error:
        code = "image-truncated" if "Premature end" in str(error) else "image-corrupt"
        raise ImageError(f"must be an undamaged JPEG, got: {error}", where=where, code=code) from None
    return pixels[..., 0] if colour == "GRAY" else pixels


def _open_pillow(data: bytes, header: ImageHeader, where: str) -> Image.Image:
    stream = io.BytesIO(data)
    try:
        # The PNG class directly: `Image.open` warns from 89 million pixels on, and MAX_PIXELS has been checked.
        is_png = header.kind == "png"
        image = PngImagePlugin.PngImageFile(stream) if is_png else open_picture(stream)
        image.load()
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(str(error), where=where, code="image-too-large") from None
    except Exception as error:  # noqa: BLE001 - damaged data makes Pillow's plug-ins raise anything
        is_short = isinstance(error, (EOFError, struct.error)) or "truncated" in str(error).lower()
        code = "image-truncated" if is_short else "image-corrupt"
        raise ImageError(f"must be an undamaged image, got: {error}", where=where, code=code) from None
    return image


def _remaining_orientation(header: ImageHeader) -> int:
    return 1 if header.kind == "tiff" else header.orientation  # Pillow turns TIFF itself while loading


def _picture(image: Image.Image, where: str) -> Array:
    mode = image.mode
    if mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if mode == "L":
        return np.array(image)
    if mode in {"LA", "La"}:
        return np.ascontiguousarray(np.asarray(image)[..., 0])
    if mode == "I" or mode.startswith("I;16"):
        return _as_uint16(_native(np.asarray(image)), where)
    if mode == "F":
        return _of_floats(np.asarray(image), where)
    if mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return _rgb(image)


def _rgb(image: Image.Image) -> Array:
    """The colours as an array of its own. A large picture goes in strips: as a whole it would be there four times."""
    width, height = image.size
    if width * height <= _LARGE_PIXELS:
        return np.array(image.convert("RGB"))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(_LARGE_PIXELS // width, 1)
    for top in range(0, height, rows):
        end = min(top + rows, height)
        pixels[top:end] = np.asarray(image.crop((0, top, width, end)).convert("RGB"))
    return pixels


def pillow_pixels(image: Image.Image) -> Array:
    """The pixels of a picture opened with Pillow, as `read_image` gives those of a file: upright, RGB or gray."""
    orientation = image.getexif().get(0x0112, 1)
    return _upright(_picture(image, "the picture"), orientation if isinstance(orientation, int) else 1)


def _as_uint16(values: Array, where: str) -> Array:
    if values.dtype == np.uint16:
        return values
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"32-bit gray values must be 0..65535, got {low}..{high}", where=where)
    return values.astype(np.uint16)


def _of_floats(values: Array, where: str) -> Array:
    """Floats on one of the scales that say where white is; any other would be a guess, different for each picture."""
    low, high = float(values.min()), float(values.max())
    beyond = 1 < high < _LEAST_OF_255  # a 0..1 that something overshot would be read as black
    if not 0 <= low <= high <= _WHITE_16 or beyond:  # also what is no number
        message = f"pixels of 32-bit floats must be 0..1, 0..255 or 0..65535, got {low:g}..{high:g}"
        raise DataError(message, where=where, do="Save it with 8 or 16 bits, scaled alike for the whole data set")
    scale, dtype = (_WHITE_16, np.uint16) if high <= 1 else (1, np.uint8 if high <= _WHITE_8 else np.uint16)
    rounded: Array = np.rint(values * scale).astype(dtype)
    return rounded


def _native(values: Array) -> Array:
    """0/1 instead of booleans, and the machine's byte order."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _ids_of_colours(pixels: Array, palette: Palette | None, where: str) -> Array:
    if palette is None:
        raise PaletteError(
            "a mask must hold one id per pixel, got RGB colours",
            where=where,
            do="Give `palette` (class: [r, g, b]) in a sightline.yaml beside the data",
        )
    weights = np.array([1 << 16, 1 << 8, 1], dtype=np.int64)
    packed = pixels.astype(np.int64) @ weights
    colours = np.array(sorted(palette), dtype=np.int64).reshape(-1, 3)
    keys, ids = colours @ weights, np.array([palette[c] for c in sorted(palette)], dtype=np.int32)
    slot = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    unknown = packed != keys[slot]
    if unknown.any():
        y, x = (int(v[0]) for v in np.nonzero(unknown))
        colour = tuple(int(v) for v in pixels[y, x])
        raise PaletteError(f"mask colours must be in the palette, got {colour} at x={x}, y={y}", where=where)
    return ids[slot]


def _upright(pixels: Array, orientation: int) -> Array:
    """`pixels` as the EXIF orientation wants them seen (EXIF 2.32, tag 0x0112)."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def as_uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The picture with 8 bits per value; of 16 the upper ones."""
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8, copy=False)


def as_rgb8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A decoded picture, (H, W) or (H, W, 3) of 8 or 16 bits, as RGB uint8 (H, W, 3)."""
    pixels = as_uint8(image)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
