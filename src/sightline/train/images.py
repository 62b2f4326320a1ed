"""Training and validation images: decoded and warped once, kept if memory allows, augmented by seed, batched."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from sightline.core.dataset import Dataset
from sightline.core.preprocess import Geometry, Preprocess
from sightline.train.augment import Sample, augment_sample, build_transforms
from sightline.train.cache import DiskCache
from sightline.train.config import Augmentation
from sightline.train.distributed import Processes
from sightline.train.pixels import NetworkPixels

__all__ = ["Batch", "NetworkImages", "SeededBatches", "SharedBatches", "build_loader", "normalise_batch"]

_ALONE = Processes()


@dataclass
class Batch:
    """Images uint8 (B, C, H, W) at network size, targets as the model's loss takes them, and where they come from."""

    images: Tensor
    targets: dict[str, Tensor]
    rows: list[int]  # rows of the data set's image table

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU can read on its own."""
        return Batch(self.images.pin_memory(), {k: v.pin_memory() for k, v in self.targets.items()}, self.rows)

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        moved = {key: value.to(device, non_blocking=True) for key, value in self.targets.items()}
        return Batch(self.images.to(device, non_blocking=True), moved, self.rows)


class NetworkImages(TorchDataset[Sample]):
    """The images of a data set at network size with their labels; `transforms` is None for validation.

    Indexed by (row, seed). With `cache` every warped image stays in memory after its first use; with `disk`, what
    `pixels.store` has put there is read from the disk cache.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        cache: bool = False,
        disk: DiskCache | None = None,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.pixels = NetworkPixels(dataset, preprocess, disk)
        self.geometries = self.pixels.geometries
        self.boxes, self.labels = _labels_by_row(dataset, self.geometries)
        self.transforms = build_transforms(augmentation, preprocess.pad_value) if augmentation is not None else None
        self._kept: list[Sample | None] | None = [None] * len(self.geometries) if cache else None

    def __len__(self) -> int:
        return len(self.geometries)

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
        sample: Sample = dict(self.pixels.read(row))
        if "mask" not in sample:
            sample["boxes"] = torch.from_numpy(self.boxes[row])
            sample["labels"] = torch.from_numpy(self.labels[row])
        return sample


class SeededBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (row, seed), shuffled anew each epoch by (seed, epoch) alone: any epoch can be repeated or resumed.

    Of several processes each gets its share of every batch, so that together they see what one would; the last batch of
    an epoch may leave some without an image.
    """

    def __init__(
        self, count: int, batch: int, seed: int, shuffle: bool, processes: Processes = _ALONE
    ) -> None:
        self.count, self.batch, self.seed, self.shuffle = count, batch, seed, shuffle
        self.processes = processes
        self.epoch = 0
        self._resumed = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch the next iteration is for."""
        self.epoch = epoch

    def resume_at(self, epoch: int, done: int) -> None:
        """Go on in `epoch` (from 0) after its first `done` batches; later epochs are whole."""
        self.epoch, self._resumed = epoch, (epoch, done)

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.count) if self.shuffle else np.arange(self.count)
        seeds = rng.integers(0, 2**31, self.count)
        resumed_epoch, done = self._resumed
        first = done if self.epoch == resumed_epoch else 0
        for start in range(first * self.batch, self.count, self.batch):
            chosen = slice(start + self.processes.rank, min(start + self.batch, self.count), self.processes.count)
            yield list(zip(order[chosen].tolist(), seeds[chosen].tolist(), strict=True))


class SharedBatches(Sampler[list[tuple[int, int]]]):
    """Rows in order in whole batches, each given to one process: together they see every image once."""

    def __init__(self, count: int, batch: int, processes: Processes = _ALONE) -> None:
        self.count, self.batch = count, batch
        self.indices = processes.share(math.ceil(count / batch))

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for index in self.indices:
            start = index * self.batch
            yield [(row, 0) for row in range(start, min(start + self.batch, self.count))]


def build_loader(
    images: NetworkImages, batches: Sampler[list[tuple[int, int]]], workers: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """A loader of `Batch`es; worker processes stay alive between epochs. torch's own generator is not drawn from."""
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_Collate(images),
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),  # seeds of the workers; augmentation has its own for each image
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)  # the worker is a thread's worth of work itself


def normalise_batch(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (B, C, H, W) → float32, equal to `Preprocess.normalise` of each image."""
    scaled = images.float().mul_(1.0 / 255.0)
    if any(preprocess.mean) or any(s != 1.0 for s in preprocess.std):
        mean = torch.tensor(preprocess.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(preprocess.std, device=images.device).view(1, -1, 1, 1)
        scaled.sub_(mean).div_(std)
    return scaled.contiguous(memory_format=torch.channels_last)


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


class _Collate:
    """Stacks samples into a `Batch`; also none at all, which is what a process may get of an epoch's last batch."""

    def __init__(self, images: NetworkImages) -> None:
        self._shape = (images.preprocess.channel_count, *images.preprocess.size_hw)
        self._is_semantic = images.dataset.task == "semantic"

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        if samples:
            return _collate(samples)
        nothing = torch.zeros(0, dtype=torch.int64)
        targets = {"boxes": torch.zeros(0, 4), "labels": nothing, "batch_index": nothing}
        if self._is_semantic:
            targets = {"mask": torch.zeros(0, *self._shape[1:], dtype=torch.int64)}
        return Batch(torch.zeros(0, *self._shape, dtype=torch.uint8), targets, [])


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
