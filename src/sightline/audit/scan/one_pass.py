"""One pass over the files: can each be decoded in full, is it what its name and its labels say, and what does it look
like in outline (a thumbnail and statistics, from which the later checks judge)."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.audit.scan.image_hash import THUMBNAIL, hash_thumbnails
from sightline.audit.scan.masks import MaskReport, examine_mask
from sightline.audit.scan.statistics import COPY_SIDE, PictureStatistics, blockiness, measure_picture
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import picture_file, split_frame_path
from sightline.core.process import Progress
from sightline.data import finding
from sightline.media import (
    FileBuffer,
    ImageError,
    ImageHeader,
    decode_image,
    decode_reduced,
    find_zeroed_block,
    parse_header,
    read_frame,
    stretched,
)

__all__ = ["SCAN_SCHEMA", "FileReport", "Scan", "examine_image", "scan_files", "thumbnails_of"]

_KIND_SUFFIXES = {
    "jpeg": {".jpg", ".jpeg", ".jfif"},
    "mpo": {".jpg", ".jpeg", ".jfif", ".mpo"},
    "png": {".png"},
    "tiff": {".tif", ".tiff"},
    "bmp": {".bmp"},
    "webp": {".webp"},
    "ppm": {".ppm", ".pgm"},
    "gif": {".gif"},
    "avif": {".avif"},
    "jpeg2000": {".jp2"},
    "heif": {".heic", ".heif"},
    "dicom": {".dcm", ".dicom"},
}
_JPEG_START, _JPEG_END, _PNG_END = b"\xff\xd8", b"\xff\xd9", b"IEND\xaeB`\x82"
_WHITE, _USED_SHARE = 65535, 0.25  # cameras of 10, 12 or 14 bits reach a 64th to a quarter of it
_HEAD = 1 << 16  # bytes; enough of almost any JPEG for its header


_LARGE_PIXELS = 1 << 26
_one_at_a_time = threading.Lock()


def _alone(header: ImageHeader) -> AbstractContextManager[object]:
    """What to hold while a picture is decoded: of those that take a gigabyte, one at a time is in memory."""
    height, width = header.stored_hw
    return _one_at_a_time if height * width > _LARGE_PIXELS else nullcontext()


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
    greatest: int | None = None  # value of a picture of 16 bits


def examine_image(file: Path, path: str, image_id: int, size_hw: tuple[int, int]) -> FileReport:
    """Read a file once and check it; `size_hw` is the size its labels assume, after EXIF orientation.

    Never raises for what the file is or holds.
    """
    report = FileReport(path)
    try:
        found = _examine(report, file, size_hw)
    except DataError as error:
        found = [(error.code if isinstance(error, ImageError) else "image-unreadable", error.what)]
    except MemoryError:
        found = [("image-too-large", "the image does not fit into the memory there is")]
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
    with _alone(header):
        picture = _decoded(report, data, header)
        zeroed = find_zeroed_block(data) if header.kind == "jpeg" else None
        if zeroed is not None:
            raise ImageError(f"from byte {zeroed} on a block of the compressed picture is zero", code="image-corrupt")
        _look(report, picture, is_full_size=picture.shape[:2] == header.size_hw)
        del picture
    report.header = header
    return [*_oddities(header, file.suffix.lower()), *_after_the_end(header, data), *_size_mismatch(header, size_hw)]


def _decoded(report: FileReport, data: bytes | memoryview, header: ImageHeader) -> NDArray[np.uint8]:
    """The picture in 8 bits, 16-bit values stretched; their greatest is noted."""
    if header.channels != "gray16" and header.bits != 32:
        return decode_reduced(data, header, report.path, COPY_SIDE)
    values = decode_image(bytes(data), report.path)
    report.greatest = int(values.max()) if values.dtype == np.uint16 else None
    return stretched(values)


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
    if header.bits == 32:
        found.append(("image-16-bit", "the image has 32-bit floats: 0..1 is read as 16 bits, else 0..255 or 0..65535"))
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


SCAN_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "path": pl.String,
    "split": pl.String,
    "group": pl.String,
    "bytes": pl.Int64,  # 0 for a frame of a video
    "sha256": pl.Binary,  # null where the file cannot be read, and for a frame of a video
    # All below is null where the picture cannot be decoded in full.
    "kind": pl.String,  # format: "jpeg", "png", …; null for a frame of a video
    "jpeg_quality": pl.Int16,  # 1..100, from the quantisation table
    "hash": pl.UInt64,  # of the thumbnail, see `sightline.audit.scan.image_hash`
    "thumbnail": pl.Binary,  # 32 × 32 luma, row by row
    **dict.fromkeys(PictureStatistics._fields, pl.Float64),
    "blockiness": pl.Float64,  # null where a JPEG was decoded at reduced size: see `jpeg_quality`
}

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Scan:
    """One row per image file that exists (`SCAN_SCHEMA`), a report per mask file, and the findings of the pass."""

    images: pl.DataFrame
    masks: list[MaskReport]
    findings: list[Finding]


def scan_files(dataset: Dataset, *, workers: int = 2, progress: Progress | None = None) -> Scan:
    """Read every image and mask once, in `workers` threads; `progress` is called from this thread after every file.

    Images that do not exist are not looked for again where the reader has reported them.
    """
    rows = _image_rows(dataset)
    masked = [r for r in rows if r[4] is not None]

    def say(done: int) -> None:
        if progress is not None:
            progress(done, len(rows) + len(masked), "reading files")

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        images, findings = _scan_rows(dataset, rows, pool, say)
        read = pool.map(lambda r: examine_mask(dataset, r[0], r[1], r[4], (r[2], r[3])), masked)
        masks = list(_counted(read, lambda done: say(len(rows) + done)))
    return Scan(images=images, masks=masks, findings=[*findings, *(f for m in masks for f in m.findings)])


def thumbnails_of(images: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The thumbnails (N, 32, 32) of `Scan.images`; zeros where there is none."""
    blank = bytes(THUMBNAIL * THUMBNAIL)
    joined = b"".join(images["thumbnail"].fill_null(blank).to_list())
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


def _image_rows(dataset: Dataset) -> list[Any]:
    rows = dataset.images.select("image_id", "path", "height", "width", "mask_path", "split", "group").rows()
    if not any(f.code == "image-missing" for f in dataset.findings):
        return rows
    return [r for r in rows if picture_file(dataset.image_path(r[1])).is_file()]


def _scan_rows(
    dataset: Dataset, rows: list[Any], pool: ThreadPoolExecutor, done: Callable[[int], object]
) -> tuple[pl.DataFrame, list[Finding]]:
    files = pool.map(lambda r: examine_image(dataset.image_path(r[1]), r[1], r[0], (r[2], r[3])), rows)
    reports = list(_counted(files, done))
    table = [(r[0], r[1], r[5], r[6], *_columns(f)) for r, f in zip(rows, reports, strict=True)]
    images = pl.DataFrame(table, schema=SCAN_SCHEMA, orient="row")
    hashes = pl.Series("hash", hash_thumbnails(thumbnails_of(images)), dtype=pl.UInt64)
    images = images.with_columns(hash=pl.when(pl.col("thumbnail").is_not_null()).then(hashes))
    found = [f for r in reports for f in r.findings]
    return images, [*_said_once(found, len(reports)), *_unused_range(reports)]


OF_THE_CAMERA = ("image-gray", "image-alpha", "image-cmyk", "image-16-bit")
_FEWEST_SAID_ONCE = 10  # fewer are as soon read one by one


def _said_once(found: list[Finding], images: int) -> list[Finding]:
    """The findings, with what more than half of the images share as one finding: it is how the set was taken."""
    kept, whole = found, []
    for code, said in sorted({(f.code, f.message) for f in found if f.code in OF_THE_CAMERA}):
        alike = [f for f in found if (f.code, f.message) == (code, said)]
        if len(alike) < _FEWEST_SAID_ONCE or 2 * len(alike) <= images:
            continue
        paths = sorted(f.path for f in alike if f.path is not None)
        message = f"{len(alike)} of {images} images: {said}"
        whole.append(finding(code, message, path=paths[0], count=len(alike), facts={"images": paths}))
        kept = [f for f in kept if (f.code, f.message) != (code, said)]
    return [*kept, *whole]


def _unused_range(reports: Sequence[FileReport]) -> list[Finding]:
    """16-bit pictures none of which comes near white: of their upper 8 bits, which training sees, little is left."""
    deep = {r.path: r.greatest for r in reports if r.greatest is not None}
    greatest = max(deep.values(), default=_WHITE)
    if greatest > _USED_SHARE * _WHITE:
        return []
    message = (
        f"the greatest value of {len(deep)} pictures of 16 bits is {greatest}, {greatest / _WHITE:.1%} of the range; "
        f"training takes the upper 8 bits, in which they have {greatest // 256 + 1} of 256 steps"
    )
    facts = {"greatest": greatest, "images": sorted(deep)}
    return [finding("image-16-bit-dark", message, path=min(deep), count=len(deep), facts=facts)]


def _columns(report: FileReport) -> Sequence[Any]:
    """The values of `SCAN_SCHEMA` after the first four; the hashes are made of all thumbnails at once."""
    statistics = report.statistics or (None,) * len(PictureStatistics._fields)
    return (
        report.size_bytes,
        report.digest,
        None if report.header is None else report.header.kind,
        None if report.header is None else report.header.quality,
        None,
        None if report.thumbnail is None else report.thumbnail.tobytes(),
        *statistics,
        report.blockiness,
    )


def _counted(items: Iterable[_Item], done: Callable[[int], object]) -> Iterator[_Item]:
    for count, item in enumerate(items, start=1):
        done(count)
        yield item
