"""Images at network size with their labels: decoded and warped once, kept if memory allows."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.preprocess import Geometry, Preprocess
from sightline.data.decode import as_uint8, read_image
from sightline.data.labels import read_class_mask
from sightline.train.augment.sample import IGNORE, Sample
from sightline.train.object_labels import ObjectLabels

__all__ = ["ImageStore", "fits_in_memory"]


class ImageStore:
    """Gives the samples of a data set by row, before any augmentation; with `cache` each image is read from disk once.

    `with_masks` adds the masks of objects.
    """

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, cache: bool, with_masks: bool = False) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.paths = [dataset.root / p for p in dataset.images["path"]]
        self.mask_paths = [None if p is None else dataset.root / p for p in dataset.images["mask_path"]]
        sizes = dataset.images.select("height", "width").rows()
        self.geometries: list[Geometry] = [preprocess.geometry(size) for size in sizes]
        self.objects = ObjectLabels(dataset, self.geometries)
        self.with_masks = with_masks
        self._kept: list[Sample | None] | None = [None] * len(self.paths) if cache else None

    def __len__(self) -> int:
        return len(self.paths)

    def fill(self, workers: int, progress: Callable[[int], None]) -> None:
        """Decode everything now, in threads, so that loader processes share the memory."""
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, _ in enumerate(pool.map(self.load, range(len(self))), start=1):
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

    def _read(self, row: int) -> Sample:
        geometry = self.geometries[row]
        image = read_image(self.paths[row])
        _require_size(self.paths[row], image.shape[:2], geometry.source_hw)
        # Augmentation works on 8 bits: 16-bit images lose their low byte in training, never in evaluation or export.
        warped = self.preprocess.warp(as_uint8(image), geometry)
        sample: Sample = {"image": np.ascontiguousarray(warped)}
        mask_path = self.mask_paths[row]
        if self.dataset.task == "semantic" and mask_path is not None:
            mask = read_class_mask(mask_path, self.dataset, fill=IGNORE)
            _require_size(mask_path, mask.shape, geometry.source_hw)
            sample["mask"] = np.ascontiguousarray(geometry.mask_to_network(mask, IGNORE))
        return sample


def fits_in_memory(count: int, preprocess: Preprocess) -> bool:
    """Whether `count` images at network size take at most a quarter of the memory that is free now."""
    needed = count * preprocess.size_hw[0] * preprocess.size_hw[1] * (preprocess.channel_count + 1)
    return needed <= _available_bytes() // 4


def _available_bytes() -> int:
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 2**30


def _require_size(path: Path, got_hw: tuple[int, ...], expected_hw: tuple[int, int]) -> None:
    if tuple(got_hw) != expected_hw:
        raise DataError(
            f"size must be {expected_hw[1]}x{expected_hw[0]} as labelled, got {got_hw[1]}x{got_hw[0]}", where=str(path)
        )
