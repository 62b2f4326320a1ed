"""A traffic scene without its vehicles, and the drawing of one picture with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.ground import Surroundings, paint_ground
from sightline.synth.kernels import light_level, over, place_sprite
from sightline.synth.light import Camera, Light, sample_camera, sample_light
from sightline.synth.placement import Placed
from sightline.synth.plane import View, fill
from sightline.synth.roads import Lane, LayoutKind, build_layout
from sightline.synth.scenery import BridgeKind, SceneryBuilder, build_bridge
from sightline.synth.sprites import MARGIN_M, SPRITE_PX_PER_M, Sprite, lit_sprite
from sightline.synth.textures import FloatImage, floats

PX_PER_M = (7.9, 8.9)  # a car is 32 to 43 pixels long


@dataclass(frozen=True, eq=False)
class Level:
    """A surface that carries vehicles: reflectance (H, W, 3), coverage and standing shadow (H, W) on the canvas."""

    albedo: FloatImage
    coverage: FloatImage
    shadow: FloatImage


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything of a scene that stands still. `transmittances[k]` (H, W) is what passes all above level k."""

    view: View
    light: Light
    levels: tuple[Level, ...]
    canopy: FloatImage
    transmittances: tuple[FloatImage, ...]
    lanes: tuple[Lane, ...]
    shutter_s: float
    camera: Camera = field(repr=False)


def build_stage(
    kind: LayoutKind, size_hw: tuple[int, int], bridge: BridgeKind | None, rng: np.random.Generator
) -> Stage:
    """Return a random scene; a bridge only spans layouts of a single road (`straight`, `curve`)."""
    view = _sample_view(kind, size_hw, rng)
    light = sample_light(rng)
    layout = build_layout(kind, view.reach_m + float(np.hypot(*view.centre_xy_m)), rng)
    surroundings: Surroundings = ("urban", "suburban", "rural")[int(rng.choice(3, p=[0.35, 0.4, 0.25]))]
    ground = paint_ground(view, layout, surroundings, rng)
    deck = build_bridge(bridge, layout, view.reach_m, rng) if bridge else None
    scenery = SceneryBuilder(view, light, ground.road_distance, deck)
    if surroundings != "rural":
        scenery.add_buildings(int(rng.poisson(1.6)), rng)
    area_m2 = view.size_hw[0] * view.size_hw[1] / view.px_per_m**2
    scenery.add_trees(int(rng.poisson(4.5 * area_m2 / 1450.0)), surroundings, rng)
    canopy, shadow = scenery.finish()
    ones = np.ones(view.canvas_hw, dtype=np.float32)
    levels = [Level(ground.albedo, ones, shadow)]
    passing = [1.0 - canopy.layer[..., 3]]
    lanes = list(layout.lanes)
    if deck:
        albedo, coverage = deck.paint(view, rng)
        levels.append(Level(albedo, coverage, np.zeros(view.canvas_hw, dtype=np.float32)))
        passing.insert(0, passing[0] * (1.0 - coverage))
        lanes += deck.lanes
    shutter_s = float(np.exp(rng.uniform(np.log(1 / 400), np.log(1 / 40))))
    camera = sample_camera(_meter(light, levels, canopy.layer), rng)
    return Stage(view, light, tuple(levels), canopy.layer, tuple(passing), tuple(lanes), shutter_s, camera)


def _sample_view(kind: LayoutKind, size_hw: tuple[int, int], rng: np.random.Generator) -> View:
    spread = (5.0, 5.0) if kind in {"crossing", "tee"} else (4.0, 2.5)
    centre = rng.uniform(-1.0, 1.0, size=2) * spread
    px_per_m, angle = float(rng.uniform(*PX_PER_M)), float(rng.uniform(0.0, 2 * np.pi))
    return View(size_hw, px_per_m, angle, (float(centre[0]), float(centre[1])))


def _meter(light: Light, levels: Sequence[Level], canopy: FloatImage) -> FloatImage:
    """Return the empty scene's radiance at every fourth canvas pixel, (H / 4, W / 4, 3), for setting the exposure."""
    every = (slice(None, None, 4), slice(None, None, 4))
    radiance = np.zeros((*canopy[every].shape[:2], 3), dtype=np.float32)
    for level in levels:
        lit = light.sun_rgb * (1.0 - level.shadow[every])[..., None] + light.sky_rgb
        radiance += level.coverage[every][..., None] * (level.albedo[every] * lit - radiance)
    return floats(radiance * (1.0 - canopy[every][..., 3:]) + canopy[every][..., :3])


def draw(stage: Stage, placed: Sequence[Placed], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the photograph (H, W, 3), RGB uint8, of the scene with vehicles; `rng` only makes the sensor's noise."""
    view, light = stage.view, stage.light
    radiance = np.zeros((*view.canvas_hw, 3), dtype=np.float32)
    for number, level in enumerate(stage.levels):
        here = [p for p in placed if p.level == number]
        cast, contact = _shadows(view, light, here)
        light_level(radiance, level.albedo, level.coverage, level.shadow, cast, contact, light.sun_rgb, light.sky_rgb)
        for vehicle in here:
            _draw_vehicle(radiance, stage, level, vehicle)
    over(radiance, stage.canopy, 0, 0)
    final = floats(cv2.resize(radiance, view.size_hw[::-1], interpolation=cv2.INTER_AREA))
    return stage.camera.expose(final, rng)


def _shadows(view: View, light: Light, placed: Sequence[Placed]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the shadows that vehicles cast and the dimness close around them, both (H, W) in 0..255."""
    cast, contact = np.zeros((2, *view.canvas_hw), dtype=np.uint8)
    scale = view.canvas_px_per_m
    for vehicle in placed:
        for points, height_m in vehicle.vehicle.outlines:
            outline = view.to_canvas(vehicle.to_world(points))
            tip = outline + light.shadow_shift_m(height_m) * scale
            hull = cv2.convexHull(np.concatenate([outline, tip]).astype(np.float32))[:, 0]
            fill(cast, [hull])
        fill(contact, [view.to_canvas(vehicle.corners_m(0.12))])
    if placed:
        cast = np.asarray(cv2.GaussianBlur(cast, (0, 0), 0.9), dtype=np.uint8)
        contact = np.asarray(cv2.blur(contact, (9, 9)), dtype=np.uint8)
    return cast, contact


def _draw_vehicle(radiance: FloatImage, stage: Stage, level: Level, placed: Placed) -> None:
    view = stage.view
    heading = placed.heading_rad + view.angle_rad
    blur_m = placed.speed_mps * stage.shutter_s
    length_m, width_m = placed.vehicle.length_m + 2 * MARGIN_M + blur_m, placed.vehicle.width_m + 2 * MARGIN_M
    facing = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    middle = view.to_canvas(placed.xy_m)
    half = np.abs(facing) @ (length_m / 2, width_m / 2) * view.canvas_px_per_m + 2.0
    canvas_h, canvas_w = view.canvas_hw
    left, top = (int(v) for v in np.maximum(np.floor(middle - half), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(middle + half), (canvas_w, canvas_h)))
    if right <= left or bottom <= top:
        return
    azimuth = np.rad2deg(stage.light.azimuth_rad - heading) % 360.0
    sprite = lit_sprite(placed.vehicle, round(azimuth / 3.0) % 120, stage.light.slope)
    albedo, direct = _smear(sprite, blur_m * SPRITE_PX_PER_M)
    height, width = direct.shape
    turn = facing * (view.canvas_px_per_m / SPRITE_PX_PER_M)
    # Pixel centres lie half a pixel from the edge the coordinates count from.
    shift = middle - (left, top) - turn @ (width / 2 - 0.5, height / 2 - 0.5) - 0.5
    matrix = np.column_stack([turn, shift])
    size = (right - left, bottom - top)
    place_sprite(
        radiance,
        floats(cv2.warpAffine(albedo, matrix, size, flags=cv2.INTER_LINEAR)),
        floats(cv2.warpAffine(direct, matrix, size, flags=cv2.INTER_LINEAR)),
        level.shadow,
        top,
        left,
        stage.light.sun_rgb,
        stage.light.sky_rgb,
    )


def _smear(sprite: Sprite, length_px: float) -> tuple[FloatImage, FloatImage]:
    """Return the sprite averaged over a movement of `length_px` along x, centred on where it is."""
    if length_px < 1.5:
        return sprite.albedo, sprite.direct
    reach = int(np.ceil((length_px - 1.0) / 2))
    kernel = np.ones((1, 2 * reach + 1), dtype=np.float32)
    kernel[0, 0] = kernel[0, -1] = (length_px - (2 * reach - 1)) / 2
    kernel /= kernel.sum()
    pad = reach + 1
    albedo = cv2.copyMakeBorder(sprite.albedo, 0, 0, pad, pad, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    direct = cv2.copyMakeBorder(sprite.direct, 0, 0, pad, pad, cv2.BORDER_CONSTANT, value=0)
    return floats(cv2.filter2D(albedo, -1, kernel)), floats(cv2.filter2D(direct, -1, kernel))
