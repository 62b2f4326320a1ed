"""The one decode path against Pillow 13's own EXIF transposition, and damaged files of every kind."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sightline.core.errors import DataError
from sightline.media import decode
from sightline.media import header as header_module
from sightline.media.decode import decode_image, decode_mask, image_size, read_image, read_mask
from sightline.media.header import MAX_PIXELS, ImageError, parse_header, read_header

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_as_pillow_applies_it(kind: str, orientation: int) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    header = parse_header(io.BytesIO(data), "x")
    assert np.array_equal(decode_image(data, "x"), expected)
    assert header.size_hw == expected.shape[:2]
    assert header.orientation == orientation


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    orientation=st.integers(1, 8),
    mode=st.sampled_from(["1", "L", "P", "I;16"]),
)
def test_header_and_pixels_agree_on_the_size_of_masks(height: int, width: int, orientation: int, mode: str) -> None:
    values = np.random.default_rng(height * 31 + width).integers(0, 2, (height, width))
    image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "1":
        image = Image.fromarray(values.astype(bool))
    elif mode == "P":
        image = with_palette(values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "PNG", exif=exif)
    mask = decode_mask(data, "x")
    assert mask.shape == parse_header(io.BytesIO(data), "x").size_hw
    assert sorted(np.unique(mask)) == sorted(np.unique(values))
    assert np.array_equal(np.sort(mask.ravel()), np.sort(values.ravel()))


def with_palette(values: np.ndarray) -> Image.Image:
    paletted = Image.new("P", (values.shape[1], values.shape[0]))
    paletted.putpalette([0, 0, 0, 128, 0, 0])
    paletted.putdata(values.ravel().tolist())
    return paletted


def test_channels_and_depths() -> None:
    gray16 = np.array([[0, 256], [65535, 7]], dtype=np.uint16)
    assert np.array_equal(decode_image(encoded(Image.fromarray(gray16), "PNG"), "x"), gray16)
    gray = PIXELS[..., 0]
    assert np.array_equal(decode_image(encoded(Image.fromarray(gray), "PNG"), "x"), gray)
    bits = decode_image(encoded(Image.fromarray(gray > 100), "PNG"), "x")
    assert bits.dtype == np.uint8
    assert np.array_equal(bits, np.where(gray > 100, 255, 0))
    alpha = np.dstack([PIXELS, np.zeros((5, 9), np.uint8)])
    assert np.array_equal(decode_image(encoded(Image.fromarray(alpha), "PNG"), "x"), PIXELS)  # dropped, not composited
    cmyk = Image.fromarray(PIXELS).convert("CMYK")
    assert np.array_equal(decode_image(encoded(cmyk, "TIFF"), "x"), np.asarray(cmyk.convert("RGB")))
    assert decode_image(encoded(Image.fromarray(gray), "JPEG"), "x").shape == (5, 9)
    assert decode_image(encoded(Image.fromarray(PIXELS), "JPEG"), "x").flags.writeable


def test_palette_picture_with_transparency_becomes_rgb() -> None:
    image = with_palette(np.array([[0, 1], [1, 0]]))
    data = encoded(image, "PNG", transparency=bytes([0, 255]))
    assert decode_image(data, "x").tolist() == [[[0, 0, 0], [128, 0, 0]], [[128, 0, 0], [0, 0, 0]]]
    assert parse_header(io.BytesIO(data), "x").alpha


@pytest.mark.parametrize(("bits", "values"), [(2, [0, 1, 2, 3]), (4, [0, 5, 10, 15])])
def test_low_bit_depth_masks_keep_their_ids(bits: int, values: list[int]) -> None:
    row = 0
    for value in values:
        row = (row << bits) | value
    packed = b"\0" + row.to_bytes(bits * 4 // 8, "big")
    mask = decode_mask(png(4, 1, bits, 0, packed), "x")
    assert mask.tolist() == [values]


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_masks_need_a_palette() -> None:
    colours = np.array([[[0, 0, 0], [128, 0, 0]]], dtype=np.uint8)
    data = encoded(Image.fromarray(colours), "PNG")
    with pytest.raises(DataError, match="RGB colours"):
        decode_mask(data, "m.png")
    assert decode_mask(data, "m.png", {(0, 0, 0): 0, (128, 0, 0): 7}).tolist() == [[0, 7]]
    with pytest.raises(DataError, match=r"\(128, 0, 0\) at x=1, y=0"):
        decode_mask(data, "m.png", {(0, 0, 0): 0, (0, 128, 0): 1})


def jpeg() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG", quality=90)


def test_damaged_jpegs_are_refused() -> None:
    whole = jpeg()
    assert decode_image(whole, "x").shape == (64, 64, 3)
    zeroed = bytearray(whole)
    zeroed[len(whole) // 2 : len(whole) // 2 + 200] = bytes(200)
    for damaged in (whole[: len(whole) // 2], whole[:-2], bytes(zeroed)):
        with pytest.raises(DataError, match=r"^x: must be an undamaged JPEG"):
            decode_image(damaged, "x")


def test_damaged_pngs_are_refused() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "PNG")
    for damaged in (whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
        with pytest.raises(DataError, match="undamaged image"):
            decode_image(damaged, "x")


def test_decompression_bomb_is_refused_from_the_header(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png(50_000, 50_000, 8, 2, b"\0" * 100))
    for read in (read_image, read_mask, image_size):
        with pytest.raises(DataError, match=f"at most {MAX_PIXELS:,} pixels, got 50000 × 50000"):
            read(bomb)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"hello, this is no image", "no known image format"),
        (b"\xff\xd8", "JPEG"),
        (b"\xff\xd8\xff\xd9", "before the size"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "no PNG image header"),
        (png(0, 4, 8, 0, b""), "at least 1 × 1"),
    ],
)
def test_what_is_no_image_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "odd.jpg"
    file.write_bytes(content)
    for read in (read_image, read_mask, read_header):
        with pytest.raises(DataError) as raised:
            read(file)
        assert message in str(raised.value)
        assert str(raised.value).startswith(str(file))
        assert "\n" not in str(raised.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_image(path)
        with pytest.raises(DataError, match="cannot read"):
            image_size(path)


def test_float_pictures_are_read_on_a_scale_that_says_where_white_is() -> None:
    for top, white, dtype in ((1.0, 65535, np.uint16), (255.0, 255, np.uint8), (4000.0, 4000, np.uint16)):
        data = encoded(Image.fromarray(np.array([[0, top / 2, top]], np.float32)), "TIFF")
        pixels = decode_image(data, "x")
        assert (pixels.dtype, pixels.tolist()) == (dtype, [[0, np.rint(white / 2), white]])
        assert parse_header(io.BytesIO(data), "x").bits == 32
    for strange in (-0.5, 70000.0, np.nan, np.inf):
        data = encoded(Image.fromarray(np.array([[0, strange]], np.float32)), "TIFF")
        with pytest.raises(DataError, match=r"32-bit floats must be 0\.\.1, 0\.\.255 or 0\.\.65535, got"):
            decode_image(data, "x")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_files_decode_or_are_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "WEBP"]))
    whole = bytearray(encoded(Image.fromarray(PIXELS), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    mutated = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (decode_image, decode_mask):
        try:
            pixels = read(mutated, "x")
        except DataError:
            continue
        assert pixels.size >= 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a page of HTML or XML"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
        (b"PK\3\4 an archive", "a zip archive"),
        (b"nothing of the kind", "no known image format"),
    ],
)
def test_what_stands_in_place_of_a_picture_is_named(
    tmp_path: Path, content: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header_module, "HEIC", False)
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=f"must be an image, got {what}"):
        read_header(file)


def test_large_pictures_are_converted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image.fromarray(PIXELS), Image.fromarray(PIXELS).quantize(7), Image.fromarray(PIXELS).convert("CMYK")]
    files = [encoded(p, "TIFF" if p.mode == "CMYK" else "PNG") for p in pictures]
    whole = [decode_image(data, "x") for data in files]
    monkeypatch.setattr(decode, "_LARGE_PIXELS", 20)
    assert all(np.array_equal(decode_image(data, "x"), pixels) for data, pixels in zip(files, whole, strict=True))


def test_what_does_not_fit_into_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    data = encoded(Image.fromarray(PIXELS), "PNG")
    monkeypatch.setattr(decode, "_open_pillow", full)
    for read in (decode_image, decode_mask):
        with pytest.raises(ImageError, match="must fit into the memory there is, got 9 × 5 pixels") as raised:
            read(data, "x")
        assert raised.value.code == "image-too-large"


PHONE = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABoQABAAAAAAAAAEEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA"
    "AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA"
    "AAAoY2xhcAAAAEAAAAABAAAAIAAAAAEAAAAAAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAE"
    "ltZGF0AAAAPSgBr1jm9Oq//+Vrv/6j/IfJ//9f/0q9V+/ck/6s3Vpa/3P0fRXdlA5uGcMnVNrcJetN1Xo0zzWlNDNHn0Q="
)
"""A picture of 64 × 32 pixels, red on its left half and blue on its right, as libheif packs it."""


def test_heic_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="the extra heic")
    data = base64.b64decode(PHONE)
    header = parse_header(io.BytesIO(data), "x")
    assert (header.kind, header.size_hw, header.channels, header.orientation) == ("heif", (32, 64), "rgb", 1)
    pixels = decode_image(data, "x")
    assert pixels.shape == (32, 64, 3)
    assert np.abs(pixels[16, [8, 56]].astype(int) - [[200, 30, 30], [20, 30, 220]]).max() < 12
    for size in (40, 200, len(data) - 40):
        with pytest.raises(ImageError):
            decode_image(data[:size], "x")
