"""Pictures of images with their labels, whole or around a box; a stand-in where an image cannot be read."""

from typing import Any, TypeAlias

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.data import examine_class_mask
from sightline.draw.lettering import fit_text, write_text
from sightline.draw.truth import TruthStyle, draw_class_map, draw_objects
from sightline.draw.view import Picture, View, show_tones, view_around, view_whole
from sightline.media import read_image

__all__ = ["Scenes", "stand_in"]

Row: TypeAlias = dict[str, Any]
Box: TypeAlias = tuple[float, float, float, float]

CONTEXT = 1.8
"""A crop around an object is this many times as high or wide as the object."""
LEAST_PX = 24.0
"""A crop shows at least so many pixels of the image, so that a tiny object is not all one sees."""
_STAND_IN, _LETTER_PX = (222, 224, 228), 13


class Scenes:
    """Draws the images of one data set; the last image read is kept, as its objects are often drawn in turn."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._last: tuple[int, Picture] | None = None

    def row(self, image_id: int) -> Row:
        """The image's row of the images table."""
        return self.dataset.images.filter(pl.col("image_id") == image_id).row(0, named=True)

    def objects(self, image_id: int) -> pl.DataFrame:
        """The image's rows of the objects table."""
        return self.dataset.objects.filter(pl.col("image_id") == image_id)

    def pixels(self, image_id: int) -> Picture:
        """The image as RGB uint8 (H, W, 3); DataError when it cannot be read."""
        if self._last is None or self._last[0] != image_id:
            path = self.dataset.image_path(self.row(image_id)["path"])
            self._last = image_id, show_tones(read_image(path))
        return self._last[1]

    def whole(self, image_id: int, cell_hw: tuple[int, int], style: TruthStyle, *, labels: bool = True) -> Picture:
        """The whole image in a cell, with its labels or without."""
        try:
            pixels = self.pixels(image_id)
        except DataError as error:
            return stand_in(cell_hw, error.what)
        row = self.row(image_id)
        # Labels may assume another size than the image has: both are shown in full then.
        height, width = max(row["height"], pixels.shape[0]), max(row["width"], pixels.shape[1])
        view = view_whole((height, width), cell_hw)
        return self._draw(row, pixels, view, style) if labels else view.show(pixels)

    def around(
        self,
        image_id: int,
        box_xyxy: Box,
        cell_hw: tuple[int, int],
        style: TruthStyle,
        *,
        context: float = CONTEXT,
        least_px: float = LEAST_PX,
    ) -> Picture:
        """The image around a box, with its labels."""
        row = self.row(image_id)
        box = _within_reach(box_xyxy, row["width"], row["height"])
        size_hw = row["height"], row["width"]
        view = view_around(box, size_hw, cell_hw, context=context, least_px=least_px)
        try:
            return self._draw(row, self.pixels(image_id), view, style)
        except DataError as error:
            return stand_in(cell_hw, error.what)

    def _draw(self, row: Row, pixels: Picture, view: View, style: TruthStyle) -> Picture:
        if self.dataset.task != "semantic":
            picture = view.show(pixels)
            draw_objects(picture, view, self.objects(row["image_id"]), self.dataset, style)
            return picture
        try:
            mask = examine_class_mask(self.dataset.image_path(row["mask_path"] or ""), self.dataset)
        except DataError:
            return view.show(pixels)
        # Values of no class are no reason to show nothing: they are hatched like those that never count.
        return draw_class_map(pixels, view, mask.ids, self.dataset.class_names)


def stand_in(cell_hw: tuple[int, int], reason: str) -> Picture:
    """A grey picture that says why there is no other."""
    height, width = cell_hw
    picture = np.full((min(height, 96), width, 3), _STAND_IN, np.uint8)
    for y, text in ((38, "no picture"), (60, reason)):
        write_text(picture, fit_text(text, width - 16, _LETTER_PX), (8, y), (70, 70, 70), _LETTER_PX)
    return picture


def _within_reach(box: Box, width: int, height: int) -> Box:
    """The box cut at one image's size beyond the image: labels may be a million pixels off."""
    x1, x2 = (float(np.clip(v, -width, 2 * width)) for v in (box[0], box[2]))
    y1, y2 = (float(np.clip(v, -height, 2 * height)) for v in (box[1], box[3]))
    return x1, y1, x2, y2
