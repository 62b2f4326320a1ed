"""What stands beside and above the road: trees, bushes, buildings and bridges, with the shadows they cast."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.data.synth.ground import BORDER_PX, Surroundings, paint_deck
from sightline.data.synth.kernels import over
from sightline.data.synth.light import Light
from sightline.data.synth.paths import Points, dashes, ribbon, straight
from sightline.data.synth.roads import Lane, Layout
from sightline.data.synth.textures import GRAIN, ROUGH, FloatImage, floats, noise, texture
from sightline.data.synth.view import View, fill, mask_of

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


class SceneryBuilder:
    """Places trees and buildings around roads and bridge, and collects the canopy and the shadow they throw on the ground.

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
        """Draw one house: a flat roof with parapet and plant, or a pitched roof of two tiled slopes."""
        height_m = float(rng.uniform(4.0, 9.0))
        frame = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

        def outline(x1: float, y1: float, x2: float, y2: float) -> Points:
            corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
            return self.view.to_canvas(corners @ frame + centre_m)

        half_x, half_y = size_m / 2
        walls = outline(-half_x, -half_y, half_x, half_y)
        self._cast(walls, height_m, 0.0)
        pitched = rng.random() < 0.5
        if pitched:
            colour = floats(_TILES[int(rng.integers(len(_TILES)))])
            rows = [(y, y + 0.22) for y in np.arange(-half_y, half_y, 0.44)]
            for sign in (-1.0, 1.0):
                facing = frame[1] * sign @ self.view.rotation.T
                towards = np.array([np.cos(self.light.azimuth_rad), np.sin(self.light.azimuth_rad)])
                lit = float(np.clip(0.86 + 0.5 * self.light.slope * (facing @ towards), 0.15, 1.6))
                self._roof(outline(-half_x, min(0.0, sign * half_y), half_x, max(0.0, sign * half_y)), colour, lit, rng)
                for y1, y2 in rows:
                    if y1 * sign >= 0:
                        self._roof(outline(-half_x, y1, half_x, y2), colour * np.float32(0.88), lit, rng)
            self._roof(outline(-half_x, -0.12, half_x, 0.12), colour * np.float32(0.7), 1.0, rng)
            return
        colour = floats(_ROOFS[int(rng.integers(len(_ROOFS)))])
        self._roof(walls, colour * np.float32(1.35), 1.0, rng)
        self._roof(outline(-half_x + 0.35, -half_y + 0.35, half_x - 0.35, half_y - 0.35), colour, 1.0, rng)
        for _ in range(int(rng.integers(2, 6))):
            x, y = rng.uniform(-0.75, 0.75, size=2) * (half_x - 1.2, half_y - 1.2)
            w, h = rng.uniform(0.4, 1.1, size=2)
            shift = self.light.shadow_shift_m(0.9) @ self.view.rotation @ frame.T
            self._roof(
                outline(x - w + shift[0], y - h + shift[1], x + w + shift[0], y + h + shift[1]), colour, 0.15, rng
            )
            self._roof(outline(x - w, y - h, x + w, y + h), floats([0.42, 0.42, 0.41]), 1.0, rng)

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
        slope_y, slope_x = np.gradient(relief)
        azimuth = self.light.azimuth_rad
        towards = -(slope_x * np.float32(np.cos(azimuth)) + slope_y * np.float32(np.sin(azimuth)))
        lit = np.clip(0.75 + 0.55 * self.light.slope * towards, 0.12, 1.7)
        depth = np.clip(0.45 + 0.75 * relief / max(float(relief.max()), 1e-6), 0.3, 1.1)
        colour = floats(_LEAVES[int(rng.integers(len(_LEAVES)))]) * np.float32(rng.uniform(0.8, 1.25))
        leaves = texture((size, size), {ROUGH: 0.30, GRAIN: 0.22}, rng, floor=0.2)
        albedo = (leaves * coverage)[..., None] * colour
        radiance = albedo * (lit[..., None] * self.light.sun_rgb + depth[..., None] * self.light.sky_rgb)
        stamp = np.dstack([radiance, coverage]).astype(np.float32)
        left, top = np.round(spot_px - size / 2).astype(int)
        over_premultiplied(self.layer, stamp, int(top), int(left))
        shift = self.light.shadow_shift_m(height_m) * scale
        _stamp_maximum(self._shadow, (coverage * 235).astype(np.uint8), int(top + shift[1]), int(left + shift[0]))


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
