"""Many pictures as one: captions and grids. RGB uint8 in and out."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_caption", "tile"]

Picture = NDArray[np.uint8]


def draw_caption(image: Picture, text: str) -> Picture:
    """A copy with a line of text on a dark strip above the image."""
    strip = np.full((22, image.shape[1], 3), 24, np.uint8)
    cv2.putText(strip, text, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def tile(images: Sequence[Picture], columns: int, cell_hw: tuple[int, int]) -> Picture:
    """The images in a grid, each scaled to fit a cell, on a light ground."""
    rows = math.ceil(len(images) / columns)
    gap = 4
    height, width = cell_hw
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 244, np.uint8)
    for i, image in enumerate(images):
        factor = min(height / image.shape[0], width / image.shape[1])
        size_wh = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        top = gap + (i // columns) * (height + gap) + (height - size_wh[1]) // 2
        left = gap + (i % columns) * (width + gap) + (width - size_wh[0]) // 2
        sheet[top : top + size_wh[1], left : left + size_wh[0]] = small
    return sheet
