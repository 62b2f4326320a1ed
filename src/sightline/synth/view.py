"""From the ground plane to pixels: a camera looking straight down, and polygon filling on its canvas."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.paths import Points
from sightline.synth.textures import FloatImage

SUPERSAMPLE = 2


@dataclass(frozen=True)
class View:
    """Where the camera looks. The canvas is the picture drawn `SUPERSAMPLE` times finer along each axis.

    `size_hw` in final pixels, `px_per_m` at that size, `angle_rad` turns the world clockwise in the picture, and
    `centre_xy_m` is the world point in the middle. `border_px` adds a margin of canvas pixels on every side.
    """

    size_hw: tuple[int, int]
    px_per_m: float
    angle_rad: float = 0.0
    centre_xy_m: tuple[float, float] = (0.0, 0.0)
    border_px: int = 0

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Canvas size in canvas pixels, border included."""
        height, width = self.size_hw
        return SUPERSAMPLE * height + 2 * self.border_px, SUPERSAMPLE * width + 2 * self.border_px

    @property
    def canvas_px_per_m(self) -> float:
        """Canvas pixels per metre."""
        return SUPERSAMPLE * self.px_per_m

    @property
    def reach_m(self) -> float:
        """Half the picture's diagonal in metres: nothing further from the centre is in the picture."""
        return float(np.hypot(*self.size_hw)) / 2 / self.px_per_m

    @cached_property
    def rotation(self) -> Points:
        """Matrix (2, 2) from world to picture directions, lengths kept."""
        cosine, sine = np.cos(self.angle_rad), np.sin(self.angle_rad)
        return np.array([[cosine, -sine], [sine, cosine]])

    def to_canvas(self, points_m: npt.ArrayLike) -> Points:
        """Return canvas coordinates (..., 2), in pixel-edge units, of world points (..., 2) in metres."""
        relative = np.asarray(points_m, dtype=np.float64) - self.centre_xy_m
        turned = relative @ self.rotation.T
        height, width = self.canvas_hw
        return np.asarray(turned * self.canvas_px_per_m + (width / 2, height / 2))

    def to_world(self, points_px: npt.ArrayLike) -> Points:
        """Return world points (..., 2) in metres of canvas coordinates (..., 2): the inverse of `to_canvas`."""
        height, width = self.canvas_hw
        relative = (np.asarray(points_px, dtype=np.float64) - (width / 2, height / 2)) / self.canvas_px_per_m
        return np.asarray(relative @ self.rotation + self.centre_xy_m)

    def world_grid(self) -> tuple[FloatImage, FloatImage]:
        """Return the world x and y in metres of every canvas pixel's centre, each (H, W)."""
        height, width = self.canvas_hw
        columns = (np.arange(width) + 0.5 - width / 2) / self.canvas_px_per_m
        rows = (np.arange(height) + 0.5 - height / 2) / self.canvas_px_per_m
        (cosine, minus_sine), (sine, _) = self.rotation
        x = columns[None, :] * cosine + rows[:, None] * sine + self.centre_xy_m[0]
        y = columns[None, :] * minus_sine + rows[:, None] * cosine + self.centre_xy_m[1]
        return x.astype(np.float32), y.astype(np.float32)

    def with_border(self, border_px: int) -> "View":
        """Return the same view on a canvas that shows `border_px` more canvas pixels on every side."""
        return View(self.size_hw, self.px_per_m, self.angle_rad, self.centre_xy_m, border_px)


def fill(canvas: npt.NDArray[np.uint8], outlines_px: Sequence[npt.ArrayLike], value: int = 255) -> None:
    """Fill polygons given in pixel-edge units on an 8-bit canvas (H, W), antialiased, to 1/16 pixel."""
    for outline in outlines_px:
        points = np.round((np.asarray(outline, dtype=np.float64) - 0.5) * 16)
        if np.abs(points).max() < 2**30:
            cv2.fillPoly(canvas, [points.astype(np.int32)], value, lineType=cv2.LINE_AA, shift=4)


def mask_of(view: View, outlines_m: Sequence[Points]) -> npt.NDArray[np.uint8]:
    """Return the canvas (H, W), 0..255, with world polygons filled."""
    canvas = np.zeros(view.canvas_hw, dtype=np.uint8)
    fill(canvas, [view.to_canvas(outline) for outline in outlines_m])
    return canvas
