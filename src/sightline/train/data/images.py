"""Training and validation images, augmented by seed, in batches."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from sightline.core.dataset import Dataset
from sightline.core.keypoints import Keypoints
from sightline.core.preprocess import Geometry, Preprocess
from sightline.models import Model
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.geometry import swap_sides
from sightline.train.augment.policy import Augmentation, needs_masks
from sightline.train.augment.sample import Draw, Sample
from sightline.train.data.keypoint_targets import keypoint_targets
from sightline.train.data.mask_targets import mask_targets
from sightline.train.data.oriented_targets import oriented_targets
from sightline.train.data.store import ImageStore, Keeping

__all__ = ["Batch", "NetworkImages", "SeededBatches", "build_loader", "normalise_batch", "varied_sizes"]

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

    def without_images(self) -> "Batch":
        """A batch of the same kind and size with no image in it."""
        return Batch(self.images[:0], {key: value[:0] for key, value in self.targets.items()}, [])

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU copies from while the host goes on; the loader asks for it."""
        pinned = {key: value.pin_memory() for key, value in self.targets.items()}
        return Batch(self.images.pin_memory(), pinned, self.rows)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the objects becomes targets beside their boxes: masks, so many keypoints of each, oriented boxes."""

    masks: bool = False
    keypoints: int = 0
    oriented: bool = False

    @classmethod
    def of(cls, model: Model) -> "Wanted":
        """What the model's loss takes."""
        points = len(Keypoints.load(dict(model.arguments["keypoints"]))) if model.task == "pose" else 0
        return cls(masks=model.task == "instance", keypoints=points, oriented=model.task == "obb")


class NetworkImages(TorchDataset[Sample]):
    """The images of a data set at network size with their labels, augmented where an augmentation is given.

    Indexed by a `Draw`, or by (row, seed). What is `wanted` of the objects becomes targets too.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        keeping: Keeping = Keeping(),  # noqa: B008 - frozen
        *,
        wanted: Wanted = Wanted(),
    ) -> None:
        self.dataset, self.wanted = dataset, wanted
        drawn = wanted.masks or (augmentation is not None and needs_masks(augmentation, dataset))
        self.store = ImageStore(dataset, preprocess, keeping, with_masks=drawn, oriented=wanted.oriented)
        self.augmenter: Augmenter | None = None
        if augmentation is not None:
            self.augmenter = Augmenter(
                augmentation,
                self.store.load,
                len(self.store),
                preprocess.pad_value,
                [geometry.content_xyxy for geometry in self.geometries],
                dataset.images["group"].rank("dense").fill_null(0).to_list(),
                swap_sides(dataset.classes, self.store.objects.keypoint_count),
            )

    def __len__(self) -> int:
        return len(self.store)

    @property
    def geometries(self) -> list[Geometry]:
        """How each image came to network size."""
        return self.store.geometries

    def __getitem__(self, key: Draw | tuple[int, int]) -> Sample:
        draw = Draw(*key)
        sample = self.store.load(draw.row) if self.augmenter is None else self.augmenter.sample(draw)
        return {**sample, "row": draw.row}

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """One batch of samples of this data set; of none where a process's share of a batch is empty."""
        if not samples:
            return self.collate([self[0, 0]]).without_images()
        # Stacked as (B, H, W, C) and seen as (B, C, H, W): the channels-last layout that the network works in.
        images = torch.from_numpy(np.stack([s["image"] for s in samples])).permute(0, 3, 1, 2)
        rows = [s["row"] for s in samples]
        if "mask" in samples[0]:
            return Batch(images, {"mask": torch.from_numpy(np.stack([s["mask"] for s in samples])).long()}, rows)
        counts = torch.tensor([len(s["labels"]) for s in samples])
        targets = {name: torch.from_numpy(np.concatenate([s[name] for s in samples])) for name in ("boxes", "labels")}
        targets["batch_index"] = torch.repeat_interleave(torch.arange(len(samples)), counts)
        if self.wanted.masks:
            targets |= mask_targets(samples)
        if self.wanted.oriented:
            targets |= oriented_targets(samples)
        if self.wanted.keypoints:
            targets["keypoints"] = keypoint_targets(samples, self.wanted.keypoints)
        return Batch(images, targets, rows)


class SeededBatches(Sampler[list[Draw]]):
    """Batches of draws, shuffled anew each epoch by (seed, epoch) alone: any epoch can be repeated or resumed.

    `sizes` are network sizes one of which each batch takes; after `heavy_epochs` epochs images are no longer mixed.
    Of `share` = (rank, world), every world-th draw of each batch is given, from the rank-th on: perhaps none.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        shuffle: bool,
        sizes: Sequence[tuple[int, int]] = (),
        heavy_epochs: float = math.inf,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.count, self.batch, self.seed, self.shuffle = count, batch, seed, shuffle
        self.sizes, self.heavy_epochs, self.share = sizes, heavy_epochs, share
        self.epoch = 0
        self.done = 0  # batches of the epoch that are not to be given again

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the epoch the next iteration is for, and how many of its batches have been done already."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.count) if self.shuffle else np.arange(self.count)
        seeds = rng.integers(0, 2**31, self.count)
        epoch_seed = int(rng.integers(2**31))
        choices = rng.integers(0, max(1, len(self.sizes)), len(self))
        heavy = self.epoch < self.heavy_epochs
        for index, start in enumerate(range(0, self.count, self.batch)):
            if index < self.done:
                continue
            chosen = slice(start + self.share[0], start + self.batch, self.share[1])
            size = self.sizes[choices[index]] if self.sizes else None
            yield [
                Draw(row, seed, epoch_seed, size, heavy)
                for row, seed in zip(order[chosen].tolist(), seeds[chosen].tolist(), strict=True)
            ]


def varied_sizes(size_hw: tuple[int, int], share: float) -> list[tuple[int, int]]:
    """Network sizes within ± `share` of one, in steps of 32 pixels of the longer side, its aspect kept to a step."""
    if not share:
        return []
    longer = max(size_hw)
    low, high = math.ceil(longer * (1 - share) / 32), math.floor(longer * (1 + share) / 32)
    return [
        tuple(max(32, round(side * steps * 32 / longer / 32) * 32) for side in size_hw)  # type: ignore[misc]
        for steps in range(max(1, low), high + 1)
    ]


def build_loader(
    images: NetworkImages, batches: SeededBatches, workers: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """A loader of `Batch`es; worker processes stay alive between epochs and each prepares `PREFETCH` batches ahead."""
    if workers:
        # A forked process inherits the locks of OpenCV's threads and not the threads: it must find none.
        cv2.setNumThreads(1)
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=images.collate,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # loaders draw a number each epoch, which must not be one of the network's
    )


def normalise_batch(images: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (B, C, H, W) → float32, equal to `Preprocess.normalise` of each image."""
    scaled = images.float().mul_(1.0 / 255.0)
    if any(preprocess.mean) or any(s != 1.0 for s in preprocess.std):
        mean = torch.tensor(preprocess.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(preprocess.std, device=images.device).view(1, -1, 1, 1)
        scaled.sub_(mean).div_(std)
    return scaled.contiguous(memory_format=torch.channels_last)
