"""Masks as targets: covered shares of cells, and masks that stay with their boxes through every augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import DataError
from sightline.core.preprocess import Preprocess
from sightline.data import read_dataset
from sightline.models import MASK_STRIDE
from sightline.models.contract import check_targets
from sightline.train.augment.augmenter import Augmenter
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Draw
from sightline.train.data.images import NetworkImages, Wanted
from sightline.train.data.mask_targets import mask_targets
from sightline.train.data.splits import require_outlines

from .test_augment_objects import GEOMETRY, SIZE, contents, scene


def unpacked(targets: dict, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, H / 4, W / 4) shares in 0..1, zeros outside the boxes."""
    cells, values = targets["cells"].numpy(), targets["masks"].numpy()
    whole, first = np.zeros((len(cells), size_hw[0] // MASK_STRIDE, size_hw[1] // MASK_STRIDE)), 0
    for full, (x1, y1, x2, y2) in zip(whole, cells, strict=True):
        full[y1:y2, x1:x2] = values[first : first + (y2 - y1) * (x2 - x1)].reshape(y2 - y1, x2 - x1) / 255
        first += (y2 - y1) * (x2 - x1)
    assert first == len(values)
    return whole


@given(st.integers(0, 300))
def test_cells_hold_the_share_that_the_object_covers(seed: int) -> None:
    """Objects that overlap each have all of theirs."""
    samples = [scene(seed), scene(seed + 1, count=2), scene(seed + 2, count=0)]
    got = unpacked(mask_targets(samples), SIZE)
    masks = [sample["masks"].mask(i) for sample in samples for i in range(len(sample["masks"]))]
    blocks = np.array(masks).reshape(len(masks), SIZE[0] // 4, 4, SIZE[1] // 4, 4)
    assert np.abs(got - blocks.mean((2, 4))).max() <= 0.5 / 255 + 1e-9


@given(st.integers(0, 500), contents)
def test_masks_stay_in_their_boxes_whatever_is_done(seed: int, content: tuple[int, int, int, int]) -> None:
    """Within a pixel at every side: masks are sampled at the middles of pixels, boxes are moved exactly."""
    policy = Augmentation.none().model_copy(
        update={**GEOMETRY, "mosaic": 0.5, "mixup": 0.3, "copy_paste": 0.5, "min_visible": 0.0}
    )
    done = Augmenter(policy, lambda row: scene(row, content), 4, 0, [content] * 4).sample(Draw(0, seed))
    full = done["masks"].sizes() > 0
    off = np.abs(done["masks"].boxes()[full] - done["boxes"][full])
    assert off.max(initial=0.0) <= 1.0 + 1e-4
    cells = unpacked(mask_targets([done]), SIZE)
    assert ((cells > 0).any((1, 2)) == full).all()


def test_a_batch_of_generated_images_fits_the_contract(traffic: Path) -> None:
    dataset = read_dataset(traffic)
    images = NetworkImages(dataset, Preprocess(size_hw=(96, 96)), Augmentation(), wanted=Wanted(masks=True))
    batch = images.collate([images[row, row] for row in range(4)])
    check_targets("instance", batch.targets, len(dataset.class_names))
    assert len(batch.targets["masks"]) > 0
    check_targets("instance", batch.without_images().targets, len(dataset.class_names))
    bare = NetworkImages(dataset, Preprocess(size_hw=(96, 96)), Augmentation(rotate=10.0))
    check_targets("detect", bare.collate([bare[0, 0]]).targets, len(dataset.class_names))


def test_a_box_alone_is_named(traffic: Path) -> None:
    dataset = read_dataset(traffic)
    require_outlines(dataset, "yolo11n-seg", masks=True)
    third = pl.col("object_id") == dataset.objects["object_id"][2]
    bare = [pl.when(third).then(None).otherwise(pl.col(c)).alias(c) for c in ("rle", "polygon")]
    mixed = replace(dataset, objects=dataset.objects.with_columns(bare))
    with pytest.raises(DataError, match=r"a mask or a polygon to train 'yolo11n-seg', got 1 of \d+ without"):
        require_outlines(mixed, "yolo11n-seg", masks=True)
