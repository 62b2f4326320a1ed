"""Images at network size with their labels: decoded and warped once, kept if memory allows."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.preprocess import Geometry, Preprocess
from sightline.data.decode import as_uint8, read_image
from sightline.data.labels import read_class_mask
from sightline.train.augment import IGNORE, Sample

__all__ = ["ImageStore", "fits_in_memory"]


class ImageStore:
    """Gives the samples of a data set by row, before any augmentation; with `cache` each is read from disk once."""

    def __init__(self, dataset: Dataset, preprocess: Preprocess, *, cache: bool) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.paths = [dataset.root / p for p in dataset.images["path"]]
        self.mask_paths = [None if p is None else dataset.root / p for p in dataset.images["mask_path"]]
        sizes = dataset.images.select("height", "width").rows()
        self.geometries: list[Geometry] = [preprocess.geometry(size) for size in sizes]
        self.boxes, self.labels = _labels_by_row(dataset, self.geometries)
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
        if self._kept is not None and (kept := self._kept[row]) is not None:
            return dict(kept)
        sample = self._read(row)
        if self._kept is not None:
            self._kept[row] = sample
        return dict(sample)

    def _read(self, row: int) -> Sample:
        geometry = self.geometries[row]
        image = read_image(self.paths[row])
        _require_size(self.paths[row], image.shape[:2], geometry.source_hw)
        # Augmentation works on 8 bits: 16-bit images lose their low byte in training, never in evaluation or export.
        warped = self.preprocess.warp(as_uint8(image), geometry)
        sample: Sample = {"image": torch.from_numpy(np.ascontiguousarray(warped.transpose(2, 0, 1)))}
        mask_path = self.mask_paths[row]
        if self.dataset.task == "semantic" and mask_path is not None:
            mask = read_class_mask(mask_path, self.dataset, fill=IGNORE)
            _require_size(mask_path, mask.shape, geometry.source_hw)
            sample["mask"] = torch.from_numpy(geometry.mask_to_network(mask, IGNORE))
        else:
            sample["boxes"] = torch.from_numpy(self.boxes[row])
            sample["labels"] = torch.from_numpy(self.labels[row])
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


def _labels_by_row(
    dataset: Dataset, geometries: Sequence[Geometry]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    rows = dataset.images.select("image_id").with_row_index("row")
    objects = dataset.usable_objects.join(rows, on="image_id").sort("row", "object_id")
    corners = objects.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
    class_ids = objects["class_id"].to_numpy().astype(np.int64)
    ends = np.searchsorted(objects["row"].to_numpy(), np.arange(len(geometries)), side="right")
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    boxes = [
        g.boxes_to_network(corners[a:b]).astype(np.float32) for g, a, b in zip(geometries, starts, ends, strict=True)
    ]
    return boxes, [class_ids[a:b].copy() for a, b in zip(starts, ends, strict=True)]
