"""A window onto an image, shown at a chosen size: what maps image pixels to pixels of the picture that is drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Picture", "View", "show_tones", "view_around", "view_whole"]

Picture: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]

SMOOTH_UP_TO = 4.0
"""Beyond this enlargement the image's pixels are shown as squares: there is nothing left to smooth."""
TONE_QUANTILES = (0.001, 0.999)
_OUTSIDE_LIGHT, _OUTSIDE_DARK, _OUTSIDE_CELL = 214, 190, 8


@dataclass(frozen=True)
class View:
    """Part of an image, `window_xyxy` in whole image pixels (it may reach outside the image), shown in `size_hw`.

    Pixel edges map to pixel edges: image coordinate x lies at `(x - x1) * scale`, the left edge of a picture's pixel i
    at coordinate i.
    """

    window_xyxy: tuple[int, int, int, int]
    size_hw: tuple[int, int]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Pixels of the picture for one of the image, along x and y."""
        x1, y1, x2, y2 = self.window_xyxy
        return self.size_hw[1] / (x2 - x1), self.size_hw[0] / (y2 - y1)

    def place(self, points_xy: npt.ArrayLike) -> Floats:
        """Image coordinates (..., 2) as coordinates of the picture."""
        origin = np.array(self.window_xyxy[:2], np.float64)
        return np.asarray((np.asarray(points_xy, np.float64) - origin) * self.scale_xy, np.float64)

    def place_boxes(self, boxes_xyxy: npt.ArrayLike) -> Floats:
        """Boxes (N, 4) of the image as boxes of the picture."""
        return self.place(np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2)).reshape(-1, 4)

    def show(self, image: npt.NDArray[Any]) -> Picture:
        """The window of an RGB image (H, W, 3) as a new picture; what lies outside the image is a light chequer."""
        return self._resize(_cut(image, self.window_xyxy, _chequer))

    def show_ids(self, ids: npt.NDArray[Any], outside: int) -> npt.NDArray[Any]:
        """The window of a map (H, W) of ids, each pixel of the picture with the id of the image's pixel it shows."""
        part = _cut(ids, self.window_xyxy, lambda h, w: np.full((h, w), outside, ids.dtype))
        x = np.arange(self.size_hw[1]) * part.shape[1] // self.size_hw[1]
        y = np.arange(self.size_hw[0]) * part.shape[0] // self.size_hw[0]
        return np.asarray(part[y[:, None], x[None, :]])

    def show_share(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """The window of a mask (H, W): the share, 0..1, of each pixel of the picture that it covers."""
        part = _cut(mask.astype(np.float32), self.window_xyxy, lambda h, w: np.zeros((h, w), np.float32))
        shrinks = part.shape[0] > self.size_hw[0]
        # Shrunk by area, a line thinner than a pixel turns faint instead of into dots.
        how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
        return np.asarray(cv2.resize(part, self.size_hw[::-1], interpolation=how), np.float32)

    def _resize(self, part: Picture) -> Picture:
        if part.shape[:2] == self.size_hw:
            return np.ascontiguousarray(part)
        scale = max(self.scale_xy)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if scale <= SMOOTH_UP_TO else cv2.INTER_NEAREST_EXACT
        return np.asarray(cv2.resize(part, self.size_hw[::-1], interpolation=how), np.uint8)


def view_whole(size_hw: tuple[int, int], cell_hw: tuple[int, int]) -> View:
    """The whole image as large as fits the cell; small images are enlarged."""
    return _fitted((0, 0, size_hw[1], size_hw[0]), cell_hw)


def view_around(
    box_xyxy: Sequence[float], size_hw: tuple[int, int], cell_hw: tuple[int, int], *, context: float, least_px: float
) -> View:
    """A box with what is around it: `context` times its size, at least `least_px` image pixels high and wide.

    The window has the cell's shape. It is pushed into the image as far as the box lets it.
    """
    x1, x2 = sorted((box_xyxy[0], box_xyxy[2]))
    y1, y2 = sorted((box_xyxy[1], box_xyxy[3]))
    shape = cell_hw[1] / cell_hw[0]
    height = max((y2 - y1) * context, (x2 - x1) * context / shape, least_px, least_px / shape)
    sides = round(height * shape), round(height)
    left = _pushed((x1 + x2) / 2, sides[0], size_hw[1], (x1, x2))
    top = _pushed((y1 + y2) / 2, sides[1], size_hw[0], (y1, y2))
    window = left[0], top[0], left[1], top[1]
    return _fitted(window, cell_hw)


def show_tones(image: npt.NDArray[Any]) -> Picture:
    """A decoded picture as RGB uint8 (H, W, 3) for the eye: 16-bit values are stretched from black to white.

    Sensors often use a few of 16 bits only; their upper eight bits alone would be black.
    """
    pixels = image
    if pixels.dtype != np.uint8:
        low, high = np.quantile(pixels, TONE_QUANTILES)
        stretched = (pixels.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
        pixels = np.clip(stretched, 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels)


def _fitted(window: tuple[int, int, int, int], cell_hw: tuple[int, int]) -> View:
    width, height = window[2] - window[0], window[3] - window[1]
    scale = min(cell_hw[0] / height, cell_hw[1] / width)
    return View(window, (max(1, round(height * scale)), max(1, round(width * scale))))


def _pushed(centre: float, side: int, limit: int, span: tuple[float, float]) -> tuple[int, int]:
    """Start and end of a window of a side around a centre, inside 0..limit or what the span needs beyond it."""
    margin = (side - (span[1] - span[0])) / 4
    low = 0 if span[0] >= 0 else round(span[0] - margin)
    high = limit if span[1] <= limit else round(span[1] + margin)
    if side >= high - low:
        return low, max(high, low + 1)
    start = min(max(round(centre - side / 2), low), high - side)
    return start, start + max(1, side)


def _cut(pixels: npt.NDArray[Any], window: tuple[int, int, int, int], outside: Any) -> npt.NDArray[Any]:
    x1, y1, x2, y2 = window
    height, width = pixels.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return pixels[y1:y2, x1:x2]
    part: npt.NDArray[Any] = outside(y2 - y1, x2 - x1)
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if right > left and bottom > top:
        part[top - y1 : bottom - y1, left - x1 : right - x1] = pixels[top:bottom, left:right]
    return part


def _chequer(height: int, width: int) -> Picture:
    y, x = np.ogrid[:height, :width]
    light = (y // _OUTSIDE_CELL + x // _OUTSIDE_CELL) % 2 == 0
    gray = np.where(light, _OUTSIDE_LIGHT, _OUTSIDE_DARK).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)
