"""Training and validation images, augmented by seed, in batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from sightline.core.dataset import Dataset
from sightline.core.preprocess import Geometry, Preprocess
from sightline.train.augment import Sample, augment_sample, build_transforms
from sightline.train.config import Augmentation
from sightline.train.image_store import ImageStore, Keeping

__all__ = ["Batch", "NetworkImages", "SeededBatches", "build_loader", "collate", "normalise_batch"]

PREFETCH = 2
"""Batches each worker process holds ready."""


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

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU copies from while the host goes on; the loader asks for it."""
        pinned = {key: value.pin_memory() for key, value in self.targets.items()}
        return Batch(self.images.pin_memory(), pinned, self.rows)


class NetworkImages(TorchDataset[Sample]):
    """The images of a data set at network size with their labels, augmented where an augmentation is given.

    Indexed by (row, seed).
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        keeping: Keeping = Keeping(),  # noqa: B008 - frozen
    ) -> None:
        self.dataset = dataset
        self.store = ImageStore(dataset, preprocess, keeping)
        self.transforms = build_transforms(augmentation, preprocess.pad_value) if augmentation is not None else None

    def __len__(self) -> int:
        return len(self.store)

    @property
    def geometries(self) -> list[Geometry]:
        """How each image came to network size."""
        return self.store.geometries

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, seed = key
        sample = self.store.load(row)
        if self.transforms is not None:
            sample = augment_sample(sample, self.transforms, seed)
        return {**sample, "row": row}


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


def build_loader(
    images: NetworkImages, batches: SeededBatches, workers: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """A loader of `Batch`es; worker processes stay alive between epochs and each prepares `PREFETCH` batches ahead."""
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin_memory,
    )


def normalise_batch(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (B, C, H, W) → float32, equal to `Preprocess.normalise` of each image."""
    scaled = images.float().mul_(1.0 / 255.0)
    if any(preprocess.mean) or any(s != 1.0 for s in preprocess.std):
        mean = torch.tensor(preprocess.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(preprocess.std, device=images.device).view(1, -1, 1, 1)
        scaled.sub_(mean).div_(std)
    return scaled.contiguous(memory_format=torch.channels_last)


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of samples of one task."""
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
