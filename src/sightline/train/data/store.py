"""Images at network size with their labels: decoded and warped once, kept in memory or on disk where that is wanted.

On disk they are found by what they were made from: a changed file or setting simply has another name. One file per
image: magic, shape, CRC-32, pixels. The name is the SHA-256 of the image file's bytes, of the preprocessing, of the way
of decoding, of the decoder's versions and of the version of this format. So an entry can never be stale, several runs
and data sets share a folder, and deleting any part of it is always allowed. Labels and masks are never kept there.
"""

import functools
import hashlib
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.files import atomic_path, file_sha256
from sightline.core.frames import IGNORE_INDEX, picture_file, split_frame_path
from sightline.core.preprocess import Geometry, Preprocess
from sightline.core.runs import package_versions
from sightline.data import read_class_mask
from sightline.media import as_uint8, decode_image, decode_scaled, read_bytes, read_image
from sightline.train.augment.sample import Sample
from sightline.train.data.objects import ObjectLabels
from sightline.train.machine import available_bytes

__all__ = ["ImageStore", "Keeping", "PixelCache", "content_key", "fits_in_memory", "needed_bytes"]

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


Decode = Literal["full", "scaled"]


@dataclass(frozen=True)
class Keeping:
    """Where decoded images stay (in memory; in a folder; nowhere) and how they are decoded."""

    in_memory: bool = False
    folder: Path | None = None
    decode: Decode = "full"


class ImageStore:
    """Gives the samples of a data set by row, before any augmentation, each image kept as `keeping` says.

    `with_masks` adds the masks of objects, `oriented` the corners of their oriented boxes.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        keeping: Keeping,
        *,
        with_masks: bool = False,
        oriented: bool = False,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.keeping = keeping
        self.disk = PixelCache(keeping.folder) if keeping.folder is not None else None
        self.paths = [dataset.root / p for p in dataset.images["path"]]
        self.mask_paths = [None if p is None else dataset.root / p for p in dataset.images["mask_path"]]
        sizes = dataset.images.select("height", "width").rows()
        self.geometries: list[Geometry] = [preprocess.geometry(size) for size in sizes]
        self.objects = ObjectLabels(dataset, self.geometries, with_masks=with_masks, oriented=oriented)
        self.with_masks = with_masks
        self._kept: list[Sample | None] | None = [None] * len(self.paths) if keeping.in_memory else None
        self._keys: list[str | None] = [None] * len(self.paths)
        self._video_digests: dict[Path, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def fill(self, workers: int, progress: Callable[[int], None]) -> None:
        """Decode everything now, in threads, so that loader processes share the memory and find the disk filled."""
        work = self.load if self._kept is not None else self.pixels
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, _ in enumerate(pool.map(work, range(len(self))), start=1):
                progress(done)

    def load(self, row: int) -> Sample:
        """The sample of a row; the caller must not write into its arrays."""
        kept = None if self._kept is None else self._kept[row]
        sample = self._read(row) if kept is None else kept
        if self._kept is not None:
            self._kept[row] = sample
        if "mask" in sample:
            return dict(sample)
        masks = {"masks": self.objects.masks(row)} if self.with_masks else {}
        return {**sample, **self.objects.of(row), **masks}

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """The image of a row at network size, uint8 (H, W, C), from the disk cache if it has it."""
        if self.disk is None:
            return self.warp(row, self.decode(row))
        # The bytes say which entry is theirs, whatever the file's name, size and times; they are read once a run.
        key = self._keys[row] = self._keys[row] or self._key(row)
        found = self.disk.get(key)
        if found is None:
            found = self.warp(row, self.decode(row))
            self.disk.put(key, found)
        return found

    def decode(self, row: int) -> NDArray[Any]:
        """The picture of a row, 8 bits a value; DataError where it has not the labelled size."""
        path, geometry = self.paths[row], self.geometries[row]
        if split_frame_path(path) is not None:
            image = read_image(path)
            size_hw = image.shape[:2]
        else:
            data = read_bytes(path)
            if self.keeping.decode == "scaled":
                image, size_hw = decode_scaled(data, str(path), geometry.resized_hw)
            else:
                image = decode_image(data, str(path))
                size_hw = image.shape[:2]
        _require_size(path, size_hw, geometry.source_hw)
        # Augmentation works on 8 bits: 16-bit images lose their low byte in training, never in evaluation or export.
        return as_uint8(image)

    def warp(self, row: int, image: NDArray[Any]) -> NDArray[np.uint8]:
        """A decoded picture at network size, uint8 (H, W, C)."""
        return np.ascontiguousarray(self.preprocess.warp(image, self.geometries[row]))

    def _key(self, row: int) -> str:
        path = self.paths[row]
        if split_frame_path(path) is None:
            digest = hashlib.sha256(read_bytes(path)).hexdigest()
        else:  # a video is read once for all its frames
            video = picture_file(path)
            if video not in self._video_digests:
                self._video_digests[video] = file_sha256(video)
            digest = self._video_digests[video]
        return content_key(digest, path, self.preprocess, self.geometries[row], self.keeping.decode)

    def _read(self, row: int) -> Sample:
        geometry = self.geometries[row]
        sample: Sample = {"image": self.pixels(row)}
        mask_path = self.mask_paths[row]
        if self.dataset.task == "semantic" and mask_path is not None:
            mask = read_class_mask(mask_path, self.dataset)
            _require_size(mask_path, mask.shape, geometry.source_hw)
            sample["mask"] = np.ascontiguousarray(geometry.mask_to_network(mask, IGNORE_INDEX))
        return sample


def needed_bytes(count: int, preprocess: Preprocess) -> int:
    """What `count` images at network size take with their masks, in bytes."""
    return count * preprocess.size_hw[0] * preprocess.size_hw[1] * (preprocess.channel_count + 1)


def fits_in_memory(count: int, preprocess: Preprocess) -> bool:
    """Whether `count` images at network size take at most a quarter of the memory that is free now."""
    return needed_bytes(count, preprocess) <= available_bytes() // 4


def _require_size(path: Path, got_hw: tuple[int, ...], expected_hw: tuple[int, int]) -> None:
    if tuple(got_hw) != expected_hw:
        raise DataError(
            f"size must be {expected_hw[1]}x{expected_hw[0]} as labelled, got {got_hw[1]}x{got_hw[0]}", where=str(path)
        )
