"""What stands beside and above the road: trees, bushes, buildings and bridges, with the shadows they cast."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.ground import BORDER_PX, Surroundings, paint_deck
from sightline.synth.kernels import over
from sightline.synth.light import Light
from sightline.synth.plane import Points, View, dashes, fill, mask_of, ribbon, straight
from sightline.synth.roads import Lane, Layout
from sightline.synth.textures import GRAIN, ROUGH, FloatImage, floats, noise, texture

BridgeKind: TypeAlias = Literal["footbridge", "road"]

_LEAVES: Final = ((0.050, 0.090, 0.022), (0.070, 0.105, 0.028), (0.040, 0.072, 0.026), (0.095, 0.110, 0.030),
                  (0.060, 0.095, 0.045))  # fmt: skip
_ROOFS: Final = ((0.180, 0.175, 0.170), (0.300, 0.295, 0.285), (0.105, 0.100, 0.100), (0.235, 0.200, 0.165))
_TILES: Final = ((0.260, 0.105, 0.065), (0.200, 0.090, 0.060), (0.110, 0.085, 0.075), (0.150, 0.150, 0.155))


@dataclass(frozen=True, eq=False)
class Canopy:
    """Everything above all vehicles: `layer` (H, W, 4) premultiplied radiance and coverage on the canvas."""

    layer: FloatImage


@dataclass(frozen=True, eq=False)
class Bridge:
    """A deck over the road: polygons in metres and the lanes on it (none on a footbridge)."""

    kind: BridgeKind
    outline: Points
    rails: list[Points]
    lines: list[Points]
    lanes: list[Lane]
    height_m: float

    def paint(self, view: View, rng: np.random.Generator) -> tuple[FloatImage, FloatImage]:
        """Return albedo (H, W, 3) and coverage (H, W) on the canvas."""
        return paint_deck(view, self.outline, self.rails, self.lines, self.kind == "road", rng)


def build_bridge(kind: BridgeKind, layout: Layout, reach_m: float, rng: np.random.Generator) -> Bridge:
    """Return a straight bridge across the layout's main road, near the middle of the picture."""
    middle = layout.spine.length_m / 2 + rng.uniform(-0.45, 0.45) * reach_m
    foot = layout.spine.at(middle)
    ahead = layout.spine.at(middle + 0.5) - foot
    angle = np.arctan2(ahead[1], ahead[0]) + np.pi / 2 + rng.uniform(-0.35, 0.35)
    along = np.array([np.cos(angle), np.sin(angle)])
    axis = straight(foot - along * (2 * reach_m + 25.0), foot + along * (2 * reach_m + 25.0))
    width = float(rng.uniform(2.6, 4.0)) if kind == "footbridge" else 8.2
    rails = [ribbon(axis.offset(side * (width / 2 - 0.15)), 0.3) for side in (-1, 1)]
    lines: list[Points] = []
    lanes: list[Lane] = []
    if kind == "road":
        lines = [ribbon(axis.offset(side * 3.35), 0.15) for side in (-1, 1)] + dashes(axis, 0.15, 2.5, 3.5)
        speed = float(rng.uniform(8.0, 11.0))
        lanes = [Lane(way.offset(1.7), speed, level=1) for way in (axis, axis.reversed())]
    return Bridge(kind, ribbon(axis, width), rails, lines, lanes, float(rng.uniform(5.0, 6.0)))


@dataclass(frozen=True, eq=False)
class _House:
    """A rectangle on the ground: middle and half size in metres, rows of `frame` its long and short direction."""

    view: View
    centre_m: Points
    half_m: Points
    frame: Points

    def outline(self, x1: float, y1: float, x2: float, y2: float) -> Points:
        """Return the canvas corners (4, 2) of a part, given in -1..1 of the half size."""
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]) * self.half_m
        return self.view.to_canvas(corners @ self.frame + self.centre_m)


class SceneryBuilder:
    """Places trees and buildings around roads and bridge; collects the canopy and the shadow on the ground.

    `shadow` (H, W) is in 0..1 on the canvas without border.
    """

    def __init__(self, view: View, light: Light, road_distance: FloatImage, bridge: Bridge | None) -> None:
        self.view, self.light = view, light
        self._wide = view.with_border(BORDER_PX)
        self._road_m = road_distance / np.float32(view.canvas_px_per_m)
        self.layer = np.zeros((*view.canvas_hw, 4), dtype=np.float32)
        self._shadow = np.zeros(view.canvas_hw, dtype=np.uint8)
        if bridge:
            self._cast(view.to_canvas(bridge.outline), bridge.height_m, 0.0)
            deck = (mask_of(self._wide, [bridge.outline]) == 0).astype(np.uint8)
            deck_m = cv2.distanceTransform(deck, cv2.DIST_L2, 5) / np.float32(view.canvas_px_per_m)
            np.minimum(self._road_m, deck_m, out=self._road_m)

    def finish(self) -> tuple[Canopy, FloatImage]:
        """Return the canopy and the ground's shadow (H, W) in 0..1 with soft edges."""
        soft = cv2.GaussianBlur(self._shadow, (0, 0), 1.6)
        return Canopy(self.layer), soft.astype(np.float32) * np.float32(1 / 255)

    def add_buildings(self, count: int, rng: np.random.Generator) -> None:
        """Try to place `count` houses clear of the road; those that do not fit are left out."""
        for _ in range(4 * count):
            if count == 0:
                return
            size = rng.uniform((8.0, 7.0), (20.0, 13.0))
            centre = self.view.to_world(rng.uniform(-0.05, 1.05, size=2) * self.view.canvas_hw[::-1])
            angle = float(rng.choice([0.0, np.pi / 2]) + rng.normal(0.0, 0.05))
            if self._clearance(centre, size, angle) < 3.2:
                continue
            self._build(centre, size, angle, rng)
            count -= 1

    def add_trees(self, count: int, surroundings: Surroundings, rng: np.random.Generator) -> None:
        """Plant up to `count` trees and as many bushes, the trees at least a metre from the kerb."""
        height, width = self._wide.canvas_hw
        for _ in range(6 * count):
            if count <= 0:
                return
            x, y = int(rng.integers(width)), int(rng.integers(height))
            beside = float(self._road_m[y, x])
            near = 0.9 if surroundings != "rural" else 1.6
            if not near < beside < 11.0 or (beside > 4.5 and rng.random() < 0.4):
                continue
            spot = np.array([x, y], dtype=np.float64) - BORDER_PX
            if self._built_over(spot):
                continue
            bush = beside > 1.8 and rng.random() < 0.35
            radius = float(rng.uniform(0.6, 1.2)) if bush else float(rng.uniform(1.7, 3.4))
            self._plant(spot, radius, 0.6 * radius if bush else float(rng.uniform(3.5, 6.5)), rng)
            count -= 1

    def _built_over(self, spot: Points) -> bool:
        height, width = self.view.canvas_hw
        x, y = (int(np.clip(v, 0, n - 1)) for v, n in zip(spot, (width, height), strict=True))
        return bool(self.layer[y, x, 3] > 0.5)

    def _clearance(self, centre_m: Points, size_m: Points, angle: float) -> float:
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.5, 0.5, 7))
        cosine, sine = np.cos(angle), np.sin(angle)
        local = np.stack([u.ravel(), v.ravel()], axis=1) * size_m
        points = local @ np.array([[cosine, sine], [-sine, cosine]]) + centre_m
        pixels = self._wide.to_canvas(points)
        height, width = self._wide.canvas_hw
        rows = np.clip(pixels[:, 1].astype(int), 0, height - 1)
        columns = np.clip(pixels[:, 0].astype(int), 0, width - 1)
        inside = self.view.to_canvas(points)
        if any(self._built_over(p) for p in inside[::3]):
            return 0.0
        return float(self._road_m[rows, columns].min())

    def _cast(self, outline_px: Points, height_m: float, base_m: float) -> None:
        """Add the shadow of a convex prism between two heights."""
        scale = self.view.canvas_px_per_m
        low = outline_px + self.light.shadow_shift_m(base_m) * scale
        high = outline_px + self.light.shadow_shift_m(height_m) * scale
        hull = cv2.convexHull(np.concatenate([low, high]).astype(np.float32))[:, 0]
        fill(self._shadow, [hull])

    def _build(self, centre_m: Points, size_m: Points, angle: float, rng: np.random.Generator) -> None:
        """Draw one house and its shadow."""
        frame = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        house = _House(self.view, centre_m, size_m / 2, frame)
        self._cast(house.outline(-1.0, -1.0, 1.0, 1.0), float(rng.uniform(4.0, 9.0)), 0.0)
        if rng.random() < 0.5:
            self._pitched_roof(house, rng)
        else:
            self._flat_roof(house, rng)

    def _pitched_roof(self, house: _House, rng: np.random.Generator) -> None:
        """Draw two tiled slopes, each lit as it faces the sun, and the ridge between them."""
        colour = floats(_TILES[int(rng.integers(len(_TILES)))])
        towards = np.array([np.cos(self.light.azimuth_rad), np.sin(self.light.azimuth_rad)])
        course = 0.22 / house.half_m[1]
        for sign in (-1.0, 1.0):
            facing = float((house.frame[1] * sign @ self.view.rotation.T) @ towards)
            lit = float(np.clip(0.86 + 0.5 * self.light.slope * facing, 0.15, 1.6))
            self._roof(house.outline(-1.0, min(0.0, sign), 1.0, max(0.0, sign)), colour, lit, rng)
            for share in np.arange(0.0, 1.0 - course, 2 * course):
                low, high = sorted((sign * share, sign * (share + course)))
                self._roof(house.outline(-1.0, low, 1.0, high), colour * np.float32(0.88), lit, rng)
        self._roof(house.outline(-1.0, -0.5 * course, 1.0, 0.5 * course), colour * np.float32(0.7), 1.0, rng)

    def _flat_roof(self, house: _House, rng: np.random.Generator) -> None:
        """Draw a parapet, the roof inside it, and a few boxes of plant with their shadows."""
        colour = floats(_ROOFS[int(rng.integers(len(_ROOFS)))])
        self._roof(house.outline(-1.0, -1.0, 1.0, 1.0), colour * np.float32(1.35), 1.0, rng)
        inner_x, inner_y = 1.0 - 0.35 / house.half_m
        self._roof(house.outline(-inner_x, -inner_y, inner_x, inner_y), colour, 1.0, rng)
        shift = (self.light.shadow_shift_m(0.9) @ self.view.rotation @ house.frame.T) / house.half_m
        for _ in range(int(rng.integers(2, 6))):
            centre = rng.uniform(-0.75, 0.75, size=2) * (1.0 - 1.2 / house.half_m)
            reach = rng.uniform(0.4, 1.1, size=2) / house.half_m
            self._roof(house.outline(*(centre + shift - reach), *(centre + shift + reach)), colour, 0.15, rng)
            self._roof(house.outline(*(centre - reach), *(centre + reach)), floats([0.42, 0.42, 0.41]), 1.0, rng)

    def _roof(self, outline_px: Points, colour: FloatImage, lit: float, rng: np.random.Generator) -> None:
        height, width = self.view.canvas_hw
        left, top = np.maximum(np.floor(outline_px.min(axis=0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(outline_px.max(axis=0)).astype(int) + 1, (width, height))
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), dtype=np.uint8)
        fill(mask, [outline_px - (left, top)])
        weight = mask.astype(np.float32) / 255.0
        light = self.light.sun_rgb * np.float32(lit) + self.light.sky_rgb
        grain = texture(mask.shape, {GRAIN: 0.05, ROUGH: 0.05}, rng)
        stamp = np.dstack([(weight * grain)[..., None] * (colour * light), weight]).astype(np.float32)
        over_premultiplied(self.layer, stamp, int(top), int(left))

    def _plant(self, spot_px: Points, radius_m: float, height_m: float, rng: np.random.Generator) -> None:
        """Draw one crown of overlapping clumps of leaves, lit from the sun's side, and its shadow."""
        scale = self.view.canvas_px_per_m
        radius = radius_m * scale
        relief, coverage = _crown(radius, rng)
        size = relief.shape[0]
        slope_y, slope_x = (floats(slope) for slope in np.gradient(relief))
        azimuth = self.light.azimuth_rad
        towards = -(slope_x * np.float32(np.cos(azimuth)) + slope_y * np.float32(np.sin(azimuth)))
        lit = floats(np.clip(0.75 + 0.55 * self.light.slope * towards, 0.12, 1.7))
        depth = floats(np.clip(0.45 + 0.75 * relief / max(float(relief.max()), 1e-6), 0.3, 1.1))
        colour = floats(_LEAVES[int(rng.integers(len(_LEAVES)))]) * np.float32(rng.uniform(0.8, 1.25))
        leaves = texture((size, size), {ROUGH: 0.30, GRAIN: 0.22}, rng, floor=0.2)
        albedo = (leaves * coverage)[..., None] * colour
        radiance = albedo * (lit[..., None] * self.light.sun_rgb + depth[..., None] * self.light.sky_rgb)
        stamp = np.dstack([radiance, coverage]).astype(np.float32)
        left, top = np.round(spot_px - size / 2).astype(int)
        over_premultiplied(self.layer, stamp, int(top), int(left))
        shade = (coverage * 235).astype(np.uint8)
        for share in (0.4, 0.7, 1.0):  # a crown is as deep as it is wide: its shadow reaches back towards the trunk
            shift = self.light.shadow_shift_m(share * height_m) * scale
            _stamp_maximum(self._shadow, shade, int(top + shift[1]), int(left + shift[0]))


def over_premultiplied(layer: FloatImage, stamp: FloatImage, top: int, left: int) -> None:
    """Composite a premultiplied stamp (h, w, 4) over a premultiplied layer (H, W, 4), clipped to it."""
    height, width = layer.shape[:2]
    y1, y2 = max(0, top), min(height, top + stamp.shape[0])
    x1, x2 = max(0, left), min(width, left + stamp.shape[1])
    if y2 <= y1 or x2 <= x1:
        return
    part = stamp[y1 - top : y2 - top, x1 - left : x2 - left]
    window = layer[y1:y2, x1:x2]
    coverage = part[..., 3] + window[..., 3] * (1.0 - part[..., 3])
    over(window[..., :3], np.ascontiguousarray(part), 0, 0)
    window[..., 3] = coverage


def _stamp_maximum(canvas: npt.NDArray[np.uint8], stamp: npt.NDArray[np.uint8], top: int, left: int) -> None:
    height, width = canvas.shape
    y1, y2 = max(0, top), min(height, top + stamp.shape[0])
    x1, x2 = max(0, left), min(width, left + stamp.shape[1])
    if y2 > y1 and x2 > x1:
        part = stamp[y1 - top : y2 - top, x1 - left : x2 - left]
        np.maximum(canvas[y1:y2, x1:x2], part, out=canvas[y1:y2, x1:x2])


def _crown(radius_px: float, rng: np.random.Generator) -> tuple[FloatImage, FloatImage]:
    """Return relief in pixels and coverage 0..1 of a crown, square arrays a little wider than its diameter."""
    size = int(2.5 * radius_px) + 4
    relief = np.zeros((size, size), dtype=np.float32)
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32) + np.float32(0.5)
    for _ in range(int(rng.integers(14, 24))):
        angle, reach = rng.uniform(0, 2 * np.pi), radius_px * 0.72 * np.sqrt(rng.random())
        clump = radius_px * rng.uniform(0.24, 0.42)
        dx, dy = xs - (size / 2 + reach * np.cos(angle)), ys - (size / 2 + reach * np.sin(angle))
        inside = np.maximum(clump**2 - dx * dx - dy * dy, 0.0)
        base = 0.7 * radius_px * (1.0 - 0.5 * (reach / radius_px) ** 2)
        relief = np.maximum(relief, np.where(inside > 0, np.sqrt(inside) + base, 0.0)).astype(np.float32)
    ragged = relief - 0.50 * radius_px + 0.10 * radius_px * noise(ROUGH, (size, size), rng)
    coverage = np.clip(ragged * 0.7 + 0.5, 0.0, 1.0).astype(np.float32)
    coverage[relief <= 0] = 0.0
    return floats(cv2.GaussianBlur(relief, (0, 0), 1.0 + 0.04 * radius_px)), coverage
