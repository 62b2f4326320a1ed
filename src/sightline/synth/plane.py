"""The ground plane: curves in metres (lanes, ribbons, dashes), and a camera looking straight down on them.

World frame: metres, x right and y down as in the image, so the right-hand side of a direction (dx, dy) is (-dy, dx).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.textures import FloatImage

__all__ = []

Points = npt.NDArray[np.float64]

STEP_M = 0.5


@dataclass(frozen=True, eq=False)
class Path:
    """A smooth curve sampled every half metre; `points` (N, 2) in metres, direction of travel along the array."""

    points: Points

    @property
    def length_m(self) -> float:
        """Arc length of the whole path."""
        return float(self.arc_m[-1])

    @cached_property
    def arc_m(self) -> Points:
        """Arc length at every point, (N,), starting at 0."""
        steps = np.hypot(*np.diff(self.points, axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @cached_property
    def right_normals(self) -> Points:
        """Unit vectors to the right of the direction of travel, (N, 2)."""
        tangents = np.gradient(self.points, axis=0)
        tangents /= np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-12)[:, None]
        return np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)

    def at(self, arc_m: npt.ArrayLike) -> Points:
        """Return positions (..., 2) at arc lengths, extended straight beyond both ends."""
        arc = np.asarray(arc_m, dtype=np.float64)
        inside = np.clip(arc, 0.0, self.length_m)
        position = np.stack([np.interp(inside, self.arc_m, self.points[:, i]) for i in (0, 1)], axis=-1)
        first = (self.points[1] - self.points[0]) / (self.arc_m[1] - self.arc_m[0])
        last = (self.points[-1] - self.points[-2]) / (self.arc_m[-1] - self.arc_m[-2])
        before, after = np.minimum(arc, 0.0), np.maximum(arc - self.length_m, 0.0)
        return np.asarray(position + before[..., None] * first + after[..., None] * last)

    def offset(self, right_m: float) -> "Path":
        """Return the parallel curve `right_m` metres to the right, resampled to half-metre steps."""
        return resample(self.points + right_m * self.right_normals)

    def reversed(self) -> "Path":
        """Return the same curve travelled the other way."""
        return Path(np.ascontiguousarray(self.points[::-1]))


def resample(points: Points) -> Path:
    """Return the polyline `points` (N, 2) as a path of about half-metre steps."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    wanted = np.linspace(0.0, arc[-1], max(2, round(arc[-1] / STEP_M) + 1))
    return Path(np.stack([np.interp(wanted, arc, points[:, i]) for i in (0, 1)], axis=1))


def straight(start_xy: npt.ArrayLike, end_xy: npt.ArrayLike) -> Path:
    """Return the straight path between two points in metres."""
    return resample(np.asarray([start_xy, end_xy], dtype=np.float64))


def winding(length_m: float, bends_per_m: Points) -> Path:
    """Return a path through the origin at half its length, heading +x there, with curvature given along it.

    `bends_per_m` are curvatures in 1/m at equally spaced arc lengths, interpolated between.
    """
    arc = np.arange(-length_m / 2, length_m / 2 + STEP_M / 2, STEP_M)
    knots = np.linspace(arc[0], arc[-1], len(bends_per_m))
    curvature = np.interp(arc, knots, bends_per_m)
    middle = len(arc) // 2
    heading = np.cumsum(curvature) * STEP_M
    heading -= heading[middle]
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * STEP_M
    return Path(points - points[middle])


def fillet(corner_xy: Points, towards_a: Points, towards_b: Points, radius_m: float) -> Points:
    """Return the arc (N, 2) of `radius_m` that rounds a corner, from the side of unit vector a to that of b."""
    half = np.arccos(np.clip(towards_a @ towards_b, -1.0, 1.0)) / 2
    bisector = towards_a + towards_b
    centre = corner_xy + bisector / np.hypot(*bisector) * radius_m / np.sin(half)
    tangent = radius_m / np.tan(half)
    start, end = corner_xy + towards_a * tangent - centre, corner_xy + towards_b * tangent - centre
    angle_a, angle_b = np.arctan2(start[1], start[0]), np.arctan2(end[1], end[0])
    sweep = (angle_b - angle_a + np.pi) % (2 * np.pi) - np.pi
    angles = angle_a + sweep * np.linspace(0.0, 1.0, 17)
    return np.asarray(centre + radius_m * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def ribbon(path: Path, width_m: float, start_m: float | None = None, end_m: float | None = None) -> Points:
    """Return the outline (N, 2) of a band of `width_m` centred on the path between two arc lengths."""
    first = 0.0 if start_m is None else start_m
    last = path.length_m if end_m is None else end_m
    arc = np.linspace(first, last, max(2, int((last - first) / STEP_M) + 1))
    centre = path.at(arc)
    tangents = path.at(arc + 0.05) - path.at(arc - 0.05)
    tangents /= np.hypot(tangents[:, 0], tangents[:, 1])[:, None]
    normals = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1) * width_m / 2
    return np.concatenate([centre + normals, (centre - normals)[::-1]])


def dashes(path: Path, width_m: float, dash_m: float, gap_m: float, phase_m: float = 0.0) -> list[Points]:
    """Return outlines of a dashed line along the path."""
    starts = np.arange(phase_m, path.length_m - dash_m, dash_m + gap_m)
    return [ribbon(path, width_m, float(s), float(s + dash_m)) for s in starts]


def rounded_rectangle(
    x1: float, y1: float, x2: float, y2: float, radii_m: tuple[float, float], taper_m: tuple[float, float] = (0.0, 0.0)
) -> Points:
    """Return a convex outline (N, 2) with corners rounded by (rear, front) radii; x grows to the front.

    `taper_m` narrows each side of the (rear, front) end by so many metres.
    """
    outline = []
    half, middle = (y2 - y1) / 2, (y1 + y2) / 2
    for side in (1, -1):
        ends = ((x2, 1.0, radii_m[1], taper_m[1]), (x1, -1.0, radii_m[0], taper_m[0]))
        for x, direction, radius, taper in ends if side == 1 else ends[::-1]:
            angles = np.linspace(0.0, np.pi / 2, 5)
            along = x - direction * radius * (1 - np.cos(angles))
            across = middle + side * (half - taper - radius * (1 - np.sin(angles)))
            arc = np.stack([along, across], axis=1)
            outline.append(arc if (direction > 0) == (side > 0) else arc[::-1])
    return np.concatenate(outline)


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
