"""One training sample from one draw: images are chosen, laid out by a matrix each, put together, and coloured."""

from collections.abc import Callable

import cv2
import numpy as np

from sightline.train.augment.composition import blend, box_areas, cut_sample, join_tiles, paste_objects
from sightline.train.augment.geometry import (
    IDENTITY,
    Matrix,
    affine,
    flip,
    scale,
    translate,
    warp,
    warp_sample,
)
from sightline.train.augment.photometry import change_pixels
from sightline.train.augment.policy import Augmentation
from sightline.train.augment.sample import Draw, Sample, boxes_of_masks

__all__ = ["Augmenter"]

_MIXUP_SHAPE = 32.0  # of the symmetric beta distribution both images' shares are drawn from: near one half


class Augmenter:
    """Makes samples by a policy. `load(row)` gives the sample of a row at network size, unchanged.

    Everything drawn comes from the draw's seeds alone, so a sample is the same in every process and at every time.
    """

    def __init__(
        self,
        policy: Augmentation,
        load: Callable[[int], Sample],
        count: int,
        pad_value: int,
        groups: list[int] | None = None,
        sides: tuple[int, ...] | None = None,
    ) -> None:
        self.policy = policy
        self.load = load
        self.count = count
        self.pad_value = pad_value
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
        made.pop("whole", None)
        return made

    def _other(self, draw: Draw, rng: np.random.Generator) -> Sample:
        return self._laid_out(draw._replace(row=int(rng.integers(self.count))), rng, mosaic=False)

    def _laid_out(self, draw: Draw, rng: np.random.Generator, mosaic: bool) -> Sample:
        """One image, or four around a point, moved by the policy's geometry and cut to the canvas."""
        source = self.load(draw.row)
        size_hw = source["image"].shape[:2]
        target_hw = draw.size_hw or size_hw
        move = scale(target_hw[1] / size_hw[1], target_hw[0] / size_hw[0]) @ self._geometry(size_hw, rng)
        if not mosaic:
            return cut_sample(self._moved(source, move, target_hw), self.policy)
        others = [self.load(int(row)) for row in rng.integers(0, self.count, 3)]
        height, width = size_hw
        x, y = rng.uniform(0, width), rng.uniform(0, height)  # where the four meet
        corners = ((x - width, y - height), (x, y - height), (x - width, y), (x, y))
        moves = [move @ translate(*corner) for corner in corners]
        tiles = [self._moved(part, m, target_hw) for part, m in zip((source, *others), moves, strict=True)]
        whole = np.ones(size_hw, np.uint8)
        covers = [warp(whole, m, target_hw, cv2.INTER_NEAREST, 0) for m in moves]
        return cut_sample(join_tiles(tiles, covers, self.pad_value), self.policy)

    def _moved(self, source: Sample, matrix: Matrix, target_hw: tuple[int, int]) -> Sample:
        moved = warp_sample(source, matrix, target_hw, self.pad_value, self.sides)
        if "masks" in source:
            moved["whole"] = source["masks"].sum((1, 2), dtype=np.float64) * abs(np.linalg.det(matrix[:2, :2]))
            if matrix[0, 1] or matrix[1, 0]:  # the box around a turned box is wider than its object
                moved["boxes"] = boxes_of_masks(moved["masks"])
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
