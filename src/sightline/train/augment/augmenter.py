"""One training sample from one draw: images are chosen, laid out by a matrix each, put together, and coloured."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.train.augment.composition import (
    Rectangle,
    blend,
    box_areas,
    crop_sample,
    cut_sample,
    join_tiles,
    meeting_point,
    paste_objects,
)
from sightline.train.augment.geometry import (
    IDENTITY,
    Matrix,
    affine,
    flip,
    invert,
    map_boxes,
    scale,
    translate,
    warp,
    warp_sample,
)
from sightline.train.augment.photometry import change_pixels
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Draw, Sample

__all__ = ["Augmenter"]

_MIXUP_SHAPE = 32.0  # of the symmetric beta distribution both images' shares are drawn from: near one half
_OWN_KEYS = ("whole", "left", "content")  # of a sample that is being made


class Augmenter:
    """Makes samples by a policy. `load(row)` gives the sample of a row at network size, unchanged.

    Everything drawn comes from the draw's seeds alone, so a sample is the same in every process and at every time.
    `contents` says where on it each row's image lies, the rest being padding; `groups`, which sequence it belongs to;
    `sides`, as `move_objects` takes them.
    """

    def __init__(
        self,
        policy: Augmentation,
        load: Callable[[int], Sample],
        count: int,
        pad_value: int,
        contents: Sequence[Rectangle],
        groups: Sequence[int] | None = None,
        sides: NDArray[np.int64] | None = None,
    ) -> None:
        self.policy = policy
        self.load = load
        self.count = count
        self.pad_value = pad_value
        self.contents = contents
        self.groups = groups
        self.sides = sides

    def sample(self, draw: Draw) -> Sample:
        """The sample of a draw, with the visibility rule applied."""
        policy = self.policy
        rng = np.random.default_rng(draw.seed)
        mosaic, mixup, paste = (bool(p) for p in rng.random(3) < (policy.mosaic, policy.mixup, policy.copy_paste))
        pixels_rng = np.random.default_rng(int(rng.integers(2**63)))
        if policy.photometry == "sequence" and self.groups is not None:
            pixels_rng = np.random.default_rng((draw.epoch_seed, self.groups[draw.row]))
        made = self._laid_out(draw, rng, mosaic and draw.heavy)
        if paste and draw.heavy:
            made = paste_objects(made, self._other(draw, rng), policy, rng)
        if mixup and draw.heavy:
            made = blend(made, self._other(draw, rng), rng.beta(_MIXUP_SHAPE, _MIXUP_SHAPE))
        made["image"] = np.ascontiguousarray(change_pixels(made["image"], policy, pixels_rng))
        return {key: value for key, value in made.items() if key not in _OWN_KEYS}

    def _other(self, draw: Draw, rng: np.random.Generator) -> Sample:
        return self._laid_out(draw._replace(row=int(rng.integers(self.count))), rng, mosaic=False)

    def _laid_out(self, draw: Draw, rng: np.random.Generator, mosaic: bool) -> Sample:
        """One image, or four around a point, moved by the policy's geometry and cut to the canvas."""
        source = self._source(draw.row)
        size_hw = source["image"].shape[:2]
        target_hw = draw.size_hw or size_hw
        move = scale(target_hw[1] / size_hw[1], target_hw[0] / size_hw[0]) @ self._geometry(size_hw, rng)
        if not mosaic:
            return cut_sample(self._moved(source, move, target_hw), self.policy)
        rows = [draw.row, *rng.integers(0, self.count, 3).tolist()]
        tiles = [crop_sample(self._source(row), self.contents[row]) for row in rows]
        view = map_boxes(np.array([0, 0, target_hw[1], target_hw[0]]), invert(move))[0]
        x, y = meeting_point(tiles, view, rng.random(2))
        joined, (at_x, at_y) = join_tiles(tiles, self.pad_value)
        return cut_sample(self._moved(joined, move @ translate(x - at_x, y - at_y), target_hw), self.policy)

    def _source(self, row: int) -> Sample:
        sample = self.load(row)
        if not self.policy.copy_paste:
            return sample
        x1, y1, x2, y2 = self.contents[row]
        content = np.zeros(sample["image"].shape[:2], np.uint8)
        content[y1:y2, x1:x2] = 1
        return {**sample, "content": content}

    def _moved(self, source: Sample, matrix: Matrix, target_hw: tuple[int, int]) -> Sample:
        moved = warp_sample(source, matrix, target_hw, self.pad_value, self.sides)
        if "masks" in source:
            # Counted in the source's pixels, where rounding takes nothing from an object that is not cut.
            canvas = np.ones(target_hw, np.uint8)
            seen = warp(canvas, invert(matrix), source["image"].shape[:2], cv2.INTER_NEAREST, 0)
            moved["whole"], moved["left"] = source["masks"].sizes(), source["masks"].sizes(seen > 0)
            # What is left of a box that is turned or cut is wider than what is left of the object in it.
            changed = (moved["left"] < moved["whole"]) | bool(matrix[0, 1] or matrix[1, 0])
            fitted = (changed & source["masks"].outlined)[:, None]
            moved["boxes"] = np.where(fitted, moved["masks"].boxes(), moved["boxes"])
        elif "boxes" in source:
            moved["whole"] = box_areas(moved["boxes"])
        return moved

    def _geometry(self, size_hw: tuple[int, int], rng: np.random.Generator) -> Matrix:
        """Affine, crop and flips of this policy as one matrix; every value is drawn whether it is used or not."""
        policy, (height, width) = self.policy, size_hw
        zoom = 1.0 + rng.uniform(-1, 1) * policy.scale
        shift = rng.uniform(-1, 1, 2) * policy.translate
        turn, shear_x, shear_y = rng.uniform(-1, 1, 3) * (policy.rotate, policy.shear, policy.shear)
        chances = rng.random(3)
        side, place = rng.uniform(policy.crop_min, 1), rng.random(2)
        matrix = IDENTITY
        if zoom != 1.0 or turn or shear_x or shear_y or shift.any():
            about_middle = affine(size_hw, zoom, turn, (shear_x, shear_y))
            matrix = translate(shift[0] * width, shift[1] * height) @ about_middle
        if chances[0] < policy.crop:
            left, top = place * (1 - side) * (width, height)
            matrix = scale(1 / side, 1 / side) @ translate(-left, -top) @ matrix
        return flip(size_hw, bool(chances[1] < policy.flip_lr), bool(chances[2] < policy.flip_ud)) @ matrix
