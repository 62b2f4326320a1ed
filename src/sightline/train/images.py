"""Training and validation images: decoded and warped once, kept if memory allows, augmented by seed, batched."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.preprocess import Geometry, Preprocess
from sightline.data.decode import as_uint8, read_image
from sightline.data.labels import read_class_mask
from sightline.train.augment import IGNORE, Sample, augment_sample, build_transforms
from sightline.train.config import Augmentation

__all__ = ["Batch", "NetworkImages", "SeededBatches", "build_loader", "fits_in_memory", "normalise_batch"]


@dataclass
class Batch:
    """Images uint8 (B, C, H, W) at network size, targets as the model's loss takes them, and where they come from."""

    images: Tensor
    targets: dict[str, Tensor]
    rows: list[int]  # rows of the data set's image table

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        moved = {key: value.to(device, non_blocking=True) for key, value in self.targets.items()}
        return Batch(self.images.to(device, non_blocking=True), moved, self.rows)


class NetworkImages(TorchDataset[Sample]):
    """The images of a data set at network size with their labels; `transforms` is None for validation.

    Indexed by (row, seed). With `cache` every warped image stays in memory after its first use.
    """

    def __init__(
        self, dataset: Dataset, preprocess: Preprocess, augmentation: Augmentation | None = None, cache: bool = False
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.paths = [dataset.root / p for p in dataset.images["path"]]
        self.mask_paths = [None if p is None else dataset.root / p for p in dataset.images["mask_path"]]
        sizes = dataset.images.select("height", "width").rows()
        self.geometries: list[Geometry] = [preprocess.geometry(size) for size in sizes]
        self.boxes, self.labels = _labels_by_row(dataset, self.geometries)
        self.transforms = build_transforms(augmentation, preprocess.pad_value) if augmentation is not None else None
        self._kept: list[Sample | None] | None = [None] * len(self.paths) if cache else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, seed = key
        sample = self._load(row)
        if self.transforms is not None:
            sample = augment_sample(sample, self.transforms, seed)
        return {**sample, "row": row}

    def fill_cache(self, workers: int, progress: Callable[[int], None]) -> None:
        """Decode everything now, in threads, so that loader processes share the memory."""
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, _ in enumerate(pool.map(self._load, range(len(self))), start=1):
                progress(done)

    def _load(self, row: int) -> Sample:
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


class SeededBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (row, seed), shuffled anew each epoch by (seed, epoch) alone: any epoch can be repeated or resumed."""

    def __init__(self, count: int, batch: int, seed: int, shuffle: bool) -> None:
        self.count, self.batch, self.seed, self.shuffle = count, batch, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch the next iteration is for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.count) if self.shuffle else np.arange(self.count)
        seeds = rng.integers(0, 2**31, self.count)
        for start in range(0, self.count, self.batch):
            chosen = slice(start, start + self.batch)
            yield list(zip(order[chosen].tolist(), seeds[chosen].tolist(), strict=True))


def build_loader(images: NetworkImages, batches: SeededBatches, workers: int) -> DataLoader[Any]:
    """A loader of `Batch`es; worker processes stay alive between epochs."""
    return DataLoader(
        images, batch_sampler=batches, num_workers=workers, collate_fn=_collate, persistent_workers=workers > 0
    )


def normalise_batch(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (B, C, H, W) → float32, equal to `Preprocess.normalise` of each image."""
    scaled = images.float().mul_(1.0 / 255.0)
    if any(preprocess.mean) or any(s != 1.0 for s in preprocess.std):
        mean = torch.tensor(preprocess.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(preprocess.std, device=images.device).view(1, -1, 1, 1)
        scaled.sub_(mean).div_(std)
    return scaled.contiguous(memory_format=torch.channels_last)


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


def _collate(samples: Sequence[Sample]) -> Batch:
    images = torch.stack([s["image"] for s in samples])
    rows = [s["row"] for s in samples]
    if "mask" in samples[0]:
        return Batch(images, {"mask": torch.stack([s["mask"] for s in samples]).long()}, rows)
    counts = torch.tensor([len(s["labels"]) for s in samples])
    return Batch(
        images,
        {
            "boxes": torch.cat([s["boxes"] for s in samples]),
            "labels": torch.cat([s["labels"] for s in samples]),
            "batch_index": torch.repeat_interleave(torch.arange(len(samples)), counts),
        },
        rows,
    )
