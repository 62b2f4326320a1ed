"""Faults of image files: bytes, encodings, and pictures that do not look like the others."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sightline.synth.faults.site import Fault, Picture, Plant, Planted, Site

__all__ = ["IMAGE_FAULTS"]

_EXIF_ORIENTATION = 0x0112


def _bytes_changed(code: str, change: Callable[[bytes], bytes]) -> Plant:
    def plant(site: Site) -> list[Planted]:
        path = site.pick()
        site.write(path, change(site.read(path)))
        return [Planted(code, path)]

    return plant


def _redrawn(code: str, change: Callable[[Picture], Picture], quality: int = 95) -> Plant:
    def plant(site: Site) -> list[Planted]:
        path = site.pick()
        site.write_picture(path, change(site.picture(path)), quality)
        return [Planted(code, path)]

    return plant


def _reencoded(code: str, change: Callable[[Image.Image], bytes], suffix: str) -> Plant:
    """The picture under another encoding; the lists and the label keep pointing at it."""

    def plant(site: Site) -> list[Planted]:
        path = site.pick()
        target = Path(path).with_suffix(suffix).as_posix()
        with Image.open(io.BytesIO(site.read(path))) as image:
            data = change(image)
        site.remove(path)
        site.write(target, data)
        for name in ("train.txt", "val.txt"):
            site.write_lines(name, [line.replace(path, target) for line in site.lines(name)])
        return [Planted(code, target)]

    return plant


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _with_damage(data: bytes) -> bytes:
    """A run of zero bytes in the middle of the compressed scan, as a bad block on a disk leaves it."""
    start = len(data) // 2
    return data[:start] + bytes(256) + data[start + 256 :]


def _huge_png(_: Image.Image) -> bytes:
    """A PNG whose header claims 200,000 x 200,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(64))), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def _turned(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        exif[_EXIF_ORIENTATION] = 3
        return _saved(image, "JPEG", quality=95, exif=exif)


def _transparent(image: Image.Image) -> bytes:
    image.putalpha(200)
    return _saved(image, "PNG")


def _deep(image: Image.Image) -> bytes:
    gray = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return _saved(Image.fromarray(gray), "PNG")


def _twelve_bits(image: Image.Image) -> bytes:
    """As a camera of 12 bits fills a file of 16."""
    return _saved(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 16), "PNG")


def _animated(image: Image.Image) -> bytes:
    other = Image.fromarray(255 - np.asarray(image))
    return _saved(image, "WEBP", save_all=True, append_images=[other], lossless=True)


def _copied(code: str, quality: int | None) -> Plant:
    """A second file of the same picture in the same split, with the same labels."""

    def plant(site: Site) -> list[Planted]:
        path = site.pick()
        copy = f"images/train/z_copy_of_{Path(path).stem}.jpg"
        if quality is None:
            site.write(copy, site.read(path))
        else:
            small = cv2.resize(site.picture(path), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
            site.write_picture(copy, np.asarray(small, np.uint8), quality)
        site.write(site.label(copy), site.read(site.label(path)))
        site.add_line("train.txt", f"./{copy}")
        return [Planted(code, copy)]

    return plant


def _missing(site: Site) -> list[Planted]:
    document = site.document("annotations/instances_train.json")
    path = str(document["images"][1]["file_name"])
    site.remove(path)
    return [Planted("image-missing", path)]


def _size_mismatch(site: Site) -> list[Planted]:
    name = "annotations/instances_train.json"
    document = site.document(name)
    entry = document["images"][2]
    entry["width"] += 64
    site.write_document(name, document)
    return [Planted("image-size-mismatch", entry["file_name"])]


def _duplicate_entry(site: Site) -> list[Planted]:
    name = "annotations/instances_train.json"
    document = site.document(name)
    document["images"].append(document["images"][0] | {"id": 10_000})
    places = site.write_document(name, document)
    return [Planted("image-duplicate-entry", name, places["images", len(document["images"]) - 1])]


def _same_stem(site: Site) -> list[Planted]:
    path = sorted(p.name for p in (site.root / "JPEGImages").rglob("*.jpg"))[0]
    file = next((site.root / "JPEGImages").rglob(path))
    target = file.with_suffix(".png").relative_to(site.root).as_posix()
    site.write_picture(target, 255 - site.picture(file.relative_to(site.root).as_posix()))
    return [Planted("image-same-stem", target)]


def _stem_in_two_folders(site: Site) -> list[Planted]:
    path = site.pick("val")
    name = f"images/val/{Path(site.pick('train')).name}"
    site.write(name, site.read(path))
    site.write(site.label(name), site.read(site.label(path)))
    site.remove(path)
    site.remove(site.label(path))
    site.write_lines("val.txt", [line.replace(path, name) for line in site.lines("val.txt")])
    return [Planted("image-stem-in-two-folders")]


IMAGE_FAULTS: dict[str, Fault] = {
    "image-missing": Fault("coco", _missing),
    "image-empty-file": Fault("yolo", _bytes_changed("image-empty-file", lambda _: b"")),
    "image-truncated": Fault("yolo", _bytes_changed("image-truncated", lambda data: data[: len(data) * 2 // 3])),
    "image-corrupt": Fault("yolo", _bytes_changed("image-corrupt", _with_damage)),
    "image-too-large": Fault("yolo", _reencoded("image-too-large", _huge_png, ".png")),
    "image-unreadable": Fault("yolo", _bytes_changed("image-unreadable", lambda _: b"<html>not found</html>")),
    "image-trailing-bytes": Fault("yolo", _bytes_changed("image-trailing-bytes", lambda b: b + b"PK\x03\x04" * 9)),
    "image-exif-orientation": Fault("yolo", _bytes_changed("image-exif-orientation", _turned)),
    "image-wrong-extension": Fault("yolo", _reencoded("image-wrong-extension", lambda i: _saved(i, "PNG"), ".jpg")),
    "image-gray": Fault("yolo", _redrawn("image-gray", lambda p: np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)))),
    "image-alpha": Fault("yolo", _reencoded("image-alpha", _transparent, ".png")),
    "image-cmyk": Fault("yolo", _reencoded("image-cmyk", lambda i: _saved(i.convert("CMYK"), "JPEG"), ".jpg")),
    "image-16-bit": Fault("yolo", _reencoded("image-16-bit", _deep, ".png"), ("image-gray",)),
    "image-16-bit-dark": Fault(
        "yolo", _reencoded("image-16-bit-dark", _twelve_bits, ".png"), ("image-gray", "image-16-bit")
    ),
    "image-animated": Fault("yolo", _reencoded("image-animated", _animated, ".webp")),
    "image-size-mismatch": Fault("coco", _size_mismatch, ("label-bad-segmentation",)),
    "image-duplicate-entry": Fault("coco", _duplicate_entry),
    "image-same-stem": Fault("voc", _same_stem),
    "image-stem-in-two-folders": Fault("yolo", _stem_in_two_folders),
    "image-duplicate": Fault("yolo", _copied("image-duplicate", None)),
    "image-near-duplicate": Fault("yolo", _copied("image-near-duplicate", 60)),
    "image-dark": Fault("yolo", _redrawn("image-dark", lambda p: (p * 0.04).astype(np.uint8)), ("image-flat",)),
    "image-bright": Fault(
        "yolo", _redrawn("image-bright", lambda p: (255 - (255 - p) * 0.04).astype(np.uint8)), ("image-flat",)
    ),
    "image-flat": Fault("yolo", _redrawn("image-flat", lambda p: (118 + (p - p.mean()) * 0.02).astype(np.uint8))),
    "image-blurred": Fault(
        "yolo", _redrawn("image-blurred", lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 9.0), np.uint8))
    ),
    "image-blocky": Fault("yolo", _redrawn("image-blocky", lambda p: p, quality=3)),
    "image-odd-size": Fault(
        "yolo", _redrawn("image-odd-size", lambda p: np.asarray(cv2.resize(p, (1600, 96)), np.uint8))
    ),
    "image-odd-colour": Fault(
        "yolo", _redrawn("image-odd-colour", lambda p: (p * np.array([0.2, 0.3, 1.0])).astype(np.uint8))
    ),
}
