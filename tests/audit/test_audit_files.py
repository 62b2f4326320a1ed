"""One image file in the audit: every kind of damage, hostile files, and what the scan keeps about the picture."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, PngImagePlugin
from scipy.ndimage import gaussian_filter

from sightline.audit import audit_dataset
from sightline.audit.scan.image_hash import hash_thumbnails
from sightline.audit.scan.one_pass import SCAN_SCHEMA, examine_image, scan_files, thumbnails_of
from sightline.audit.scan.statistics import measure_picture
from sightline.core.errors import DataError
from sightline.data import read_dataset
from sightline.media.damage import find_zeroed_block
from sightline.media.decode import decode_reduced, read_image
from sightline.media.header import ImageError, parse_header, read_header

SIZE_HW = (360, 480)


def picture(seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(0, s * 80, (*size_hw, 3)), (s, s, 0)) for s in (1, 4, 16)]
    return np.clip(sum(layers) + 128, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def codes(file: Path, size_hw: tuple[int, int] = SIZE_HW) -> list[str]:
    return [f.code for f in examine_image(file, file.name, 0, size_hw).findings]


def zeroed(data: bytes, start: float = 0.5, count: int = 256) -> bytes:
    place = int(len(data) * start)
    return data[:place] + bytes(count) + data[place + count :]


def flipped(data: bytes, rng: np.random.Generator, count: int) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(len(data) * 0.3, len(data) * 0.95, count):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


DAMAGES = {
    "truncated": (lambda d: d[: len(d) * 2 // 3], "image-truncated"),
    "without its end mark": (lambda d: d[:-2], "image-truncated"),
    "a block of zeros": (zeroed, "image-corrupt"),
    "bytes after the end": (lambda d: d + b"PK\x03\x04", "image-trailing-bytes"),
    "another file after the end": (lambda d: d + encoded(picture(1)) + b"!", "image-trailing-bytes"),
    "cut inside the header": (lambda d: d[:100], "image-truncated"),
    "no bytes": (lambda _: b"", "image-empty-file"),
    "no image": (lambda _: b"<html>404</html>", "image-unreadable"),
}


@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_generated_jpegs(tmp_path: Path, damage: str, progressive: bool) -> None:
    change, code = DAMAGES[damage]
    file = tmp_path / "a.jpg"
    for seed in range(3):
        whole = encoded(picture(seed), quality=85, progressive=progressive)
        file.write_bytes(whole)
        assert codes(file) == []
        file.write_bytes(change(whole))
        assert codes(file) == [code]


@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
def test_flipped_bits(tmp_path: Path, progressive: bool) -> None:
    """JPEG has no checksum, so a single bit often leaves a valid file; the reduced scale misses nothing more."""
    rng = np.random.default_rng(0)
    whole = encoded(picture(), quality=85, progressive=progressive)
    header = parse_header(io.BytesIO(whole), "x")
    reduced, full = 0, 0
    for _ in range(20):
        damaged = flipped(whole, rng, 10)
        reduced += raises(lambda d=damaged: decode_reduced(d, header, "x", 60))
        full += raises(lambda d=damaged: simplejpeg.decode_jpeg(d, strict=True))
    assert reduced == full
    assert reduced >= 16


def raises(work) -> bool:
    try:
        work()
    except (DataError, ValueError):
        return True
    return False


@pytest.mark.real_data
def test_damage_of_real_jpegs(data_root: Path, tmp_path: Path) -> None:
    files = sorted((data_root / "coco128_lightly" / "images").rglob("*.jpg"))[:12]
    files += sorted((data_root / "det_bccd").rglob("*.jpg"))[:12]
    file = tmp_path / "a.jpg"
    for source in files:
        whole = source.read_bytes()
        size_hw = read_header(source).size_hw
        with Image.open(io.BytesIO(whole)) as image:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=85, progressive=True)
        for base in (whole, buffer.getvalue()):
            for name in ("truncated", "without its end mark", "bytes after the end"):
                change, code = DAMAGES[name]
                file.write_bytes(change(base))
                assert code in codes(file, size_hw), (source, name)
        file.write_bytes(zeroed(whole))
        assert "image-corrupt" in codes(file, size_hw), source


@pytest.mark.real_data
def test_real_jpegs_hold_no_zeroed_block(data_root: Path) -> None:
    files = sorted(data_root.rglob("*.jpg"))
    assert len(files) > 1000
    assert [f for f in files if find_zeroed_block(f.read_bytes()) is not None] == []


def test_flat_jpegs_hold_no_zeroed_block() -> None:
    """Tables made for the file may give an empty block the code of zeros."""
    for value in (0, 128, 255):
        flat = np.full((300, 400, 3), value, np.uint8)
        for options in ({}, {"optimize": True}, {"progressive": True}, {"quality": 5, "optimize": True}):
            assert find_zeroed_block(encoded(flat, **options)) is None
    assert find_zeroed_block(encoded(picture(), comment=bytes(500))) is None


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_kinds_that_are_cut(tmp_path: Path, kind: str) -> None:
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_deflate"}}.get(kind, {})
    whole = encoded(picture(), kind, **options)
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(whole)
    assert codes(file) == []
    file.write_bytes(whole[: len(whole) // 2])
    assert codes(file)[0] in {"image-truncated", "image-corrupt"}


def test_a_png_that_is_damaged(tmp_path: Path) -> None:
    whole = encoded(picture(), "PNG")
    file = tmp_path / "a.png"
    for data, code in (
        (whole[:-12], "image-truncated"),  # the end mark
        (whole[: len(whole) // 2], "image-truncated"),
        (zeroed(whole), "image-corrupt"),
        (whole + b"appended", "image-trailing-bytes"),
        (whole[:8] + bytes(20), "image-corrupt"),
    ):
        file.write_bytes(data)
        assert codes(file) == [code]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_hostile_files_are_refused_before_they_cost_anything(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IEND", b""))
    assert codes(file) == ["image-too-large"]
    # Text and profiles that unpack to gigabytes: Pillow's limits hold, and the file is named.
    small = encoded(picture(), "PNG")
    bomb = zlib.compress(bytes(2**28), 9)
    for kind, body in ((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb)):
        file.write_bytes(small[:33] + chunk(kind, body) + small[33:])
        assert codes(file) in ([], ["image-corrupt"])
    # A picture whose data is far longer than its size, and an EXIF block that points outside itself.
    file.write_bytes(small[:33] + chunk(b"IDAT", bomb) + chunk(b"IEND", b""))
    assert set(codes(file)) <= {"image-corrupt", "image-truncated"}
    jpeg = encoded(picture())
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 60000) + b"\xff" * 60000
    file = file.with_suffix(".jpg")
    file.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert codes(file) == []


def test_a_postscript_file_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    assert codes(file) == ["image-unreadable"]


def test_pipes_folders_and_absent_files_do_not_hang(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe.jpg", tmp_path / "folder.jpg"
    os.mkfifo(pipe)
    folder.mkdir()
    assert codes(pipe) == ["image-unreadable"]
    assert codes(folder) == ["image-unreadable"]
    assert codes(tmp_path / "absent.jpg") == ["image-missing"]
    for file in (pipe, folder, tmp_path / "absent.jpg"):
        with pytest.raises(ImageError, match="cannot read"):
            read_header(file)
        with pytest.raises(ImageError, match="cannot read"):
            read_image(file)


def test_readers_and_audit_name_the_damage_alike(tmp_path: Path, save_image) -> None:
    """What a reader meets in the header has the code the audit would give it."""
    for name in ("a", "b", "c", "d", "e"):
        save_image(f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "d.png").write_bytes(b"nothing")
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    (tmp_path / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head))
    found = {(f.code, f.path) for f in read_dataset(tmp_path, format="yolo").findings if f.code.startswith("image")}
    expected = {"b": "image-empty-file", "c": "image-truncated", "d": "image-unreadable", "e": "image-too-large"}
    assert found == {(code, f"{name}.png") for name, code in expected.items()}


def test_the_error_keeps_its_code_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("it is damaged", where="a.jpg", do="look", code="image-corrupt")))
    assert (error.code, str(error)) == ("image-corrupt", "a.jpg: it is damaged. Look.")


def test_labels_drawn_before_the_picture_was_turned(tmp_path: Path) -> None:
    pixels = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(pixels, exif=exif))
    report = examine_image(file, "a.jpg", 0, SIZE_HW)  # as stored, while upright it is turned
    assert [f.code for f in report.findings] == ["image-exif-orientation", "image-size-mismatch"]
    assert "drawn on the picture before its EXIF orientation 6 turned it" in report.findings[1].message
    assert codes(file, SIZE_HW[::-1]) == ["image-exif-orientation"]


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 2000), (2000, 3), (33, 17), (161, 159), (720, 1280), (479, 641)])
def test_the_reduced_picture_is_the_picture(size_hw: tuple[int, int]) -> None:
    pixels = picture(0, size_hw)
    data = encoded(pixels, quality=95)
    header = parse_header(io.BytesIO(data), "x")
    reduced = decode_reduced(data, header, "x", 160)
    full = decode_reduced(data, header, "x", 10**6)
    assert full.shape == pixels.shape
    assert max(reduced.shape[:2]) >= min(160, max(size_hw))
    assert min(reduced.shape[:2]) >= min(32, *size_hw)
    small, large = measure_picture(reduced), measure_picture(full)
    assert np.abs(small[0].astype(int) - large[0]).max() <= 12
    assert small[1].brightness == pytest.approx(large[1].brightness, abs=2)


def test_quality_is_read_from_the_tables() -> None:
    for quality in (1, 3, 10, 25, 50, 75, 90, 95, 100):
        data = simplejpeg.encode_jpeg(picture(), quality=quality)
        assert parse_header(io.BytesIO(data), "x").quality == pytest.approx(quality, abs=2)
    assert parse_header(io.BytesIO(encoded(picture(), "PNG")), "x").quality is None


def test_what_the_scan_keeps(tmp_path: Path, save_image) -> None:
    for name in ("a", "b", "c"):
        save_image(f"{name}.png", size_hw=(48, 64))
        (tmp_path / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    Image.fromarray(picture()).save(tmp_path / "d.jpg", quality=80)
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:-30])
    dataset = read_dataset(tmp_path)
    calls: list[tuple[int, int]] = []
    scan = scan_files(dataset, progress=lambda done, total, what: calls.append((done, total)))
    assert dict(scan.images.schema) == SCAN_SCHEMA
    assert scan.images.equals(scan_files(dataset, workers=1).images)
    assert calls == [(n, 4) for n in range(1, 5)]
    rows = {r["path"]: r for r in scan.images.iter_rows(named=True)}
    assert [rows[p]["kind"] for p in sorted(rows)] == ["png", "png", None, "jpeg"]
    assert rows["d.jpg"]["jpeg_quality"] == 80
    assert rows["a.png"]["blockiness"] == pytest.approx(1, abs=0.3)
    assert rows["c.png"]["hash"] is None
    assert rows["c.png"]["sha256"] is not None
    pictures = thumbnails_of(scan.images)
    known = scan.images["hash"].is_not_null().to_numpy()
    assert hash_thumbnails(pictures)[known].tolist() == scan.images["hash"].drop_nulls().to_list()
    assert "image-truncated" in {f.code for f in audit_dataset(dataset).findings}


def test_sixteen_bits_are_stretched_for_looking_at(tmp_path: Path) -> None:
    """A 12-bit camera in a 16-bit file is not dark."""
    values = (picture()[..., 0].astype(np.uint16) * 16).astype(np.uint16)
    file = tmp_path / "a.png"
    Image.fromarray(values).save(file)
    report = examine_image(file, "a.png", 0, SIZE_HW)
    plain = measure_picture(picture()[..., 0])[1]
    assert report.statistics is not None
    assert report.statistics.brightness == pytest.approx(plain.brightness * 255 / picture()[..., 0].max(), abs=2)


def test_png_text_is_harmless(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 1000, zip=True)
    file = tmp_path / "a.png"
    Image.fromarray(picture()).save(file, pnginfo=info)
    assert codes(file) == []
