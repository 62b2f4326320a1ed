"""The pixels of a data set at network size: decoded and warped as evaluation does it, or read from the disk cache."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frame_paths import picture_file
from sightline.core.preprocess import Geometry, Preprocess
from sightline.core.runs import package_versions
from sightline.data.decode import as_uint8, read_image
from sightline.data.labels import read_class_mask
from sightline.train.augment import IGNORE
from sightline.train.cache import DiskCache, FileDigests, content_key

__all__ = ["NetworkPixels"]

_RECIPE = 1  # raised whenever decoding or warping gives other pixels than before


class NetworkPixels:
    """Images (C, H, W) and semantic masks (H, W) of a data set by row, uint8 at network size.

    Pictures are always decoded whole and then warped: a decoder that scales while decoding is faster, but gives other
    pixels than evaluation and export see.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess, disk: DiskCache | None = None) -> None:
        self.dataset, self.preprocess, self.disk = dataset, preprocess, disk
        self.paths = [dataset.root / p for p in dataset.images["path"]]
        masks = dataset.images["mask_path"] if dataset.task == "semantic" else [None] * len(self.paths)
        self.mask_paths = [None if p is None else dataset.root / p for p in masks]
        sizes = dataset.images.select("height", "width").rows()
        self.geometries: list[Geometry] = [preprocess.geometry(size) for size in sizes]
        self._keys: dict[tuple[int, str], str] = {}  # of what the disk cache may hold

    def read(self, row: int) -> dict[str, Tensor]:
        """`image`, and `mask` where the row has one; DataError for files that are unusable or of another size."""
        parts = {"image": self._part(row, "image")}
        if self.mask_paths[row] is not None:
            parts["mask"] = self._part(row, "mask")
        return {name: torch.from_numpy(pixels) for name, pixels in parts.items()}

    def size_of(self, row: int) -> int:
        """Bytes of a row at network size."""
        return sum(int(np.prod(self._shape(row, name))) for name in self._parts(row))

    def store(self, rows: Sequence[int], workers: int, progress: Callable[[int], None]) -> str:
        """Put these rows into the disk cache, in threads, and say how many were there or found room."""
        assert self.disk is not None
        digests, recipe = FileDigests(), self._recipe()
        with ThreadPoolExecutor(max(1, workers)) as pool:
            parts = [(row, name) for row in range(len(self.paths)) for name in self._parts(row)]
            keys = pool.map(lambda part: self._key(*part, digests, recipe), parts)
            self._keys = dict(zip(parts, keys, strict=True))
            sizes = {self._keys[part]: int(np.prod(self._shape(*part))) for part in parts}
            there, room = self.disk.admit(sizes)
            missing = [part for part in parts if part[0] in set(rows) and self._keys[part] in room]
            for done, _ in enumerate(pool.map(lambda part: self._write(*part), missing), start=1):
                progress(done)
        kept = len(there | room)
        return (
            f"disk cache: {kept} of {len(sizes)} pictures in {self.disk.folder} ({len(there)} were there already)"
            + ("" if kept == len(sizes) else "; the others are decoded each time, a larger cache_gb would hold them")
        )

    def _parts(self, row: int) -> tuple[str, ...]:
        return ("image",) if self.mask_paths[row] is None else ("image", "mask")

    def _shape(self, row: int, name: str) -> tuple[int, ...]:
        size = self.geometries[row].target_hw
        return (self.preprocess.channel_count, *size) if name == "image" else size

    def _part(self, row: int, name: str) -> NDArray[np.uint8]:
        key = self._keys.get((row, name))
        kept = self.disk.read(key, self._shape(row, name)) if self.disk is not None and key is not None else None
        return self._decode(row, name) if kept is None else kept

    def _decode(self, row: int, name: str) -> NDArray[np.uint8]:
        geometry = self.geometries[row]
        if name == "image":
            image = read_image(self.paths[row])
            _require_size(self.paths[row], image.shape[:2], geometry.source_hw)
            # Augmentation works on 8 bits: 16-bit images lose their low byte in training, never elsewhere.
            return np.ascontiguousarray(self.preprocess.warp(as_uint8(image), geometry).transpose(2, 0, 1))
        path = self.mask_paths[row]
        assert path is not None
        mask = read_class_mask(path, self.dataset, fill=IGNORE)
        _require_size(path, mask.shape, geometry.source_hw)
        return geometry.mask_to_network(mask, IGNORE)

    def _write(self, row: int, name: str) -> None:
        assert self.disk is not None
        self.disk.write(self._keys[row, name], self._decode(row, name))

    def _recipe(self) -> Mapping[str, tuple[object, ...]]:
        """All that decides the pixels beside the file: for images and for masks."""
        warped = self.preprocess.model_dump(mode="json", exclude={"mean", "std"})
        decoders = package_versions(["simplejpeg", "pillow", "av"])
        classes = (self.dataset.classes.rows(), sorted(self.dataset.ignore_values))
        common = (_RECIPE, cv2.__version__, sorted(decoders.items(), key=str))
        return {"image": ("image", *common, sorted(warped.items())), "mask": ("mask", *common, classes)}

    def _key(
        self, row: int, name: str, digests: FileDigests, recipe: Mapping[str, tuple[object, ...]]
    ) -> str:
        path = self.paths[row] if name == "image" else self.mask_paths[row]
        assert path is not None
        file = picture_file(path)
        frame = "" if file == path else path.name.rpartition("#")[2]
        return content_key(digests.of(file), frame, *recipe[name], self.geometries[row])


def _require_size(path: Path, got_hw: tuple[int, ...], expected_hw: tuple[int, int]) -> None:
    if tuple(got_hw) != expected_hw:
        raise DataError(
            f"size must be {expected_hw[1]}x{expected_hw[0]} as labelled, got {got_hw[1]}x{got_hw[0]}", where=str(path)
        )
