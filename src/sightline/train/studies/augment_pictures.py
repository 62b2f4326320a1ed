"""What the network sees while it learns: training images after augmentation, with the labels that are left."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.frames import IGNORE_INDEX
from sightline.core.preprocess import Preprocess
from sightline.draw import PALETTE, TINT, class_key, dot, draw_class_map, outline_box, outline_mask, tint, view_whole
from sightline.draw.look import Cell, Sheet
from sightline.train.augment.sample import Sample
from sightline.train.config import Augmentation
from sightline.train.data.images import NetworkImages

__all__ = ["augmented_sheets", "draw_sample"]

_HIDDEN = 1  # a keypoint that is labelled, but not seen


def augmented_sheets(
    dataset: Dataset, preprocess: Preprocess, augmentation: Augmentation, *, images: int, draws: int, seed: int
) -> Iterator[Sheet]:
    """One sheet: a row for each of `images` random images, as it is at network size and then `draws` augmented.

    The pictures are made by what training reads its images through, at network size. The same seed gives the same.
    """
    count = min(images, len(dataset))
    if not count:
        return
    rng = np.random.default_rng([seed, 0])
    rows = sorted(rng.choice(len(dataset), count, replace=False).tolist())
    plain, changed = NetworkImages(dataset, preprocess), NetworkImages(dataset, preprocess, augmentation)
    names = dataset.class_names
    cells = []
    for row in rows:
        path = str(dataset.images["path"][row])
        seen = [("as it is", plain[row, 0])]
        seen += [(f"draw {n}", changed[row, s]) for n, s in enumerate(rng.integers(0, 2**31, draws).tolist(), start=1)]
        cells += [Cell(draw_sample(sample, names), path, (_said(what, sample),)) for what, sample in seen]
    height, width = preprocess.size_hw
    yield Sheet(
        "augment",
        "augment",
        f"{dataset.name}: {count} images as the network sees them",
        cells,
        f"{width} × {height} pixels; first as it is, then {draws} times augmented, with seed {seed}.",
        class_key(dataset, dataset.images["image_id"].gather(rows).to_list()),
        columns=draws + 1,
    )


def draw_sample(sample: Sample, class_names: tuple[str, ...]) -> NDArray[np.uint8]:
    """A sample as an RGB picture (H, W, 3) with its boxes, keypoints and masks of objects, or its mask as a tint.

    Objects have masks where the policy makes training use them.
    """
    picture = _rgb(np.asarray(sample["image"]))
    view = view_whole(picture.shape[:2], picture.shape[:2])
    if "mask" in sample:
        return draw_class_map(picture, view, np.asarray(sample["mask"]).astype(np.uint8), class_names)
    for place, label in enumerate(sample["labels"].tolist()):
        red, green, blue = (int(c) for c in PALETTE.by_idx(label).as_rgb())
        _draw_object(picture, sample, place, (red, green, blue))
    return picture


def _draw_object(picture: NDArray[np.uint8], sample: Sample, place: int, colour: tuple[int, int, int]) -> None:
    if "masks" in sample:
        covered = sample["masks"].mask(place)
        tint(picture, covered.astype(np.float32), colour, TINT)
        outline_mask(picture, covered, colour, 1, dashed=False)
    outline_box(picture, sample["boxes"][place].tolist(), colour, 1, dashed=False)
    for x, y, visible in sample["keypoints"][place].tolist() if "keypoints" in sample else ():
        if visible:
            dot(picture, (x, y), colour, 2, hollow=visible == _HIDDEN)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with three channels last, whether channels come first, as training has them, or last."""
    channels_last = image if image.shape[-1] in {1, 3} else image.transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(channels_last, (*channels_last.shape[:2], 3))).copy()


def _said(what: str, sample: Sample) -> str:
    if "mask" in sample:
        mask = np.asarray(sample["mask"])
        return f"{what} · {np.mean((mask != 0) & (mask != IGNORE_INDEX)):.1%} not class 0"
    count = len(sample["labels"])
    return f"{what} · {count} object{'s' if count != 1 else ''}"
