"""The ground as it would look in even light: verges, pavements, kerbs, asphalt, wear and road paint."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.kernels import add_scaled, blend_layer, tint
from sightline.synth.plane import Points, View, fill, mask_of, ribbon
from sightline.synth.roads import Layout
from sightline.synth.textures import BLOTCHES, CLOUDS, GRAIN, ROUGH, FloatImage, floats, noise, smoothstep, texture

Surroundings: TypeAlias = Literal["urban", "suburban", "rural"]
BORDER_PX: Final = 64

_GRASS: Final = (0.070, 0.105, 0.030)
_DRY_GRASS: Final = (0.165, 0.140, 0.070)
_SOIL: Final = (0.150, 0.110, 0.075)
_PAVING: Final = (0.270, 0.255, 0.235)
_KERB: Final = (0.400, 0.390, 0.370)
_WHITE_PAINT: Final = (0.620, 0.620, 0.600)
_YELLOW_PAINT: Final = (0.600, 0.400, 0.060)


@dataclass(frozen=True, eq=False)
class Ground:
    """`albedo` (H, W, 3) linear reflectance on the view's canvas (without border), and `road_distance`,
    (H + 2b, W + 2b), how many canvas pixels each pixel of the bordered canvas is away from asphalt.
    """

    albedo: FloatImage
    road_distance: FloatImage


def paint_ground(view: View, layout: Layout, surroundings: Surroundings, rng: np.random.Generator) -> Ground:
    """Return the painted ground of a layout; `view` has no border."""
    wide = view.with_border(BORDER_PX)
    road = (mask_of(wide, layout.asphalt) > 127).astype(np.uint8)
    road[mask_of(wide, layout.islands) > 127] = 0
    outside = floats(cv2.distanceTransform(1 - road, cv2.DIST_L2, 5))
    inside = floats(cv2.distanceTransform(road, cv2.DIST_L2, 5))
    crop = (slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    metres_out = outside[crop] / np.float32(view.canvas_px_per_m)
    metres_in = inside[crop] / np.float32(view.canvas_px_per_m)
    albedo = _verge(view, metres_out, surroundings, rng)
    _lay_asphalt(albedo, view, layout, metres_in, rng)
    _lay_paint(albedo, view, layout, road[crop], rng)
    return Ground(albedo, outside)


def _weight(mask: npt.NDArray[np.uint8]) -> FloatImage:
    return mask.astype(np.float32) * np.float32(1 / 255)


def _verge(view: View, metres_out: FloatImage, surroundings: Surroundings, rng: np.random.Generator) -> FloatImage:
    """Return everything beside the road: grass, soil or paving, the footway and its kerb."""
    size_hw = view.canvas_hw
    clouds = noise(CLOUDS, size_hw, rng)
    rough = noise(ROUGH, size_hw, rng)
    leafy = texture(size_hw, {CLOUDS: 0.10, ROUGH: 0.24, GRAIN: 0.10}, rng)
    albedo = tint(leafy, floats(_GRASS))
    dry = smoothstep(0.1, 1.9, clouds + np.float32(rng.uniform(-0.9, 0.9)))
    blend_layer(albedo, dry, floats(_DRY_GRASS), leafy)
    if surroundings == "rural":
        bare = smoothstep(0.9, 1.6, noise(BLOTCHES, size_hw, rng) + np.float32(0.25) * rough)
        blend_layer(albedo, bare, floats(_SOIL), leafy)
        shoulder = 1.0 - smoothstep(0.5, 1.1, metres_out + np.float32(0.12) * rough)
        blend_layer(albedo, shoulder, floats(_SOIL) * np.float32(1.25), leafy)
        return albedo
    slabs = texture(size_hw, {CLOUDS: 0.07, ROUGH: 0.05}, rng)
    slabs *= np.float32(rng.uniform(0.75, 1.1)) * _slabs(view, float(rng.choice([0.6, 0.9, 1.5])))
    footway_m = 60.0 if surroundings == "urban" else float(rng.uniform(1.8, 3.2))
    footway = 1.0 - smoothstep(footway_m - 0.05, footway_m + 0.05, metres_out)
    if surroundings == "urban":  # lawns let into the paving
        lawn = smoothstep(0.55, 0.60, noise(BLOTCHES, size_hw, rng, zoom=1.5)) * smoothstep(3.0, 3.1, metres_out)
        footway = footway * (1.0 - lawn)
    warm = floats(_PAVING) * floats([1.0, 1.0 + rng.uniform(-0.03, 0.03), 1.0 + rng.uniform(-0.15, 0.08)])
    blend_layer(albedo, footway, warm, slabs)
    kerb = 1.0 - smoothstep(0.22, 0.28, metres_out)
    blend_layer(albedo, kerb, floats(_KERB), slabs)
    return albedo


def _slabs(view: View, size_m: float) -> FloatImage:
    """Return a factor (H, W) that darkens the joints of square slabs laid along the world axes."""
    x, y = view.world_grid()
    joint_m = 0.07
    near_x = np.abs(x / size_m - np.round(x / size_m)) * size_m
    near_y = np.abs(y / size_m - np.round(y / size_m)) * size_m
    return np.asarray(0.84 + 0.16 * smoothstep(0.0, joint_m, np.minimum(near_x, near_y)), dtype=np.float32)


def _lay_asphalt(
    albedo: FloatImage, view: View, layout: Layout, metres_in: FloatImage, rng: np.random.Generator
) -> None:
    size_hw = view.canvas_hw
    tone = float(rng.uniform(0.075, 0.165))
    warmth = float(rng.uniform(-0.05, 0.04))
    surface = texture(size_hw, {CLOUDS: 0.07, ROUGH: 0.06, GRAIN: float(rng.uniform(0.06, 0.13))}, rng)
    add_scaled(surface, _wheel_tracks(view, layout), np.float32(0.13 * rng.choice([-1.0, 0.8])))
    add_scaled(surface, _oil(view, layout), np.float32(-0.16))
    gutter = 1.0 - smoothstep(0.0, 0.7, metres_in)
    add_scaled(surface, gutter, np.float32(rng.uniform(-0.22, 0.22)))
    colour = floats([tone * (1 - warmth), tone, tone * (1 + warmth)])
    edge = smoothstep(0.0, 0.06, metres_in)
    blend_layer(albedo, edge, colour, np.maximum(surface, np.float32(0.3)))
    _lay_repairs(albedo, view, layout, tone, metres_in, rng)


def _wheel_tracks(view: View, layout: Layout) -> FloatImage:
    """Return 0..1 where wheels roll, soft, averaged over the lanes."""
    bands = [ribbon(lane.path.offset(side), 0.55) for lane in layout.lanes if lane.level == 0 and not lane.parked
             for side in (-0.85, 0.85)]  # fmt: skip
    return _soften(mask_of(view, bands), 0.22 * view.canvas_px_per_m)


def _oil(view: View, layout: Layout) -> FloatImage:
    bands = [ribbon(lane.path, 0.5) for lane in layout.lanes if lane.level == 0]
    return _soften(mask_of(view, bands), 0.30 * view.canvas_px_per_m)


def _soften(mask: npt.NDArray[np.uint8], sigma_px: float) -> FloatImage:
    quarter = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(quarter, (0, 0), sigma_px / 4)
    grown = cv2.resize(blurred, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return _weight(np.asarray(grown))


def _lay_repairs(
    albedo: FloatImage, view: View, layout: Layout, tone: float, metres_in: FloatImage, rng: np.random.Generator
) -> None:
    """Add patches of other asphalt, sealed cracks and manhole covers, on the road only."""
    size_hw = view.canvas_hw
    lanes = [lane for lane in layout.lanes if lane.level == 0]
    on_road = (metres_in > 0.1).astype(np.uint8)
    grainy = texture(size_hw, {GRAIN: 0.10, ROUGH: 0.06}, rng)

    def lay(outlines: list[Points], colour: tuple[float, ...], opacity: float) -> None:
        weight = _weight(mask_of(view, outlines) * on_road) * np.float32(opacity)
        blend_layer(albedo, weight, floats(colour), grainy)

    def somewhere() -> tuple[int, float]:
        index = int(rng.integers(len(lanes)))
        middle = lanes[index].path.length_m / 2
        return index, float(middle + rng.uniform(-view.reach_m, view.reach_m))

    for _ in range(int(rng.poisson(1.3))):
        index, at = somewhere()
        length, width = float(rng.uniform(1.5, 9.0)), float(rng.uniform(1.0, 3.2))
        other = tone * float(rng.choice([0.68, 0.8, 1.22]))
        side = lanes[index].path.offset(float(rng.uniform(-0.8, 0.8)))
        lay([ribbon(side, width, at, at + length)], (other, other, other), 0.85)
    for _ in range(int(rng.poisson(1.5))):
        index, at = somewhere()
        lay([_seal(lanes[index].path.at(at), rng)], (0.03, 0.03, 0.032), 0.75)
    for _ in range(int(rng.poisson(1.6))):
        index, at = somewhere()
        centre = lanes[index].path.at(at) + rng.uniform(-0.5, 0.5, size=2)
        lay([_disc(centre, 0.38)], (0.045, 0.045, 0.045), 0.8)
        lay([_disc(centre, 0.27)], (0.12, 0.115, 0.11), 0.8)


def _disc(centre_m: Points, radius_m: float) -> Points:
    angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    return np.asarray(centre_m + radius_m * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _seal(start_m: Points, rng: np.random.Generator) -> Points:
    """Return the outline of a wandering thin line, as of a crack sealed with bitumen."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0.0, 0.16, size=int(rng.integers(14, 50))))
    line = start_m + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * 0.2
    normals = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * 0.045
    return np.concatenate([line + normals, (line - normals)[::-1]])


def _lay_paint(
    albedo: FloatImage, view: View, layout: Layout, road: npt.NDArray[np.uint8], rng: np.random.Generator
) -> None:
    size_hw = view.canvas_hw
    age = float(rng.uniform(0.0, 0.55))
    worn = 1.0 - age * smoothstep(-0.4, 1.4, noise(ROUGH, size_hw, rng) + noise(CLOUDS, size_hw, rng))
    worn = (worn * (0.92 - 0.25 * age)).astype(np.float32)
    flat = np.ones(size_hw, dtype=np.float32)
    for outlines, colour in ((layout.white, _WHITE_PAINT), (layout.yellow, _YELLOW_PAINT)):
        if outlines:
            blend_layer(albedo, _weight(mask_of(view, outlines) * road) * worn, floats(colour), flat)


def paint_deck(
    view: View, outline_m: Points, rails_m: list[Points], lines_m: list[Points], road: bool, rng: np.random.Generator
) -> tuple[FloatImage, FloatImage]:
    """Return albedo (H, W, 3) and coverage (H, W) of a bridge's deck: concrete, or asphalt with white lines."""
    size_hw = view.canvas_hw
    coverage = _weight(mask_of(view, [outline_m]))
    grain = texture(size_hw, {CLOUDS: 0.06, ROUGH: 0.06, GRAIN: 0.07}, rng)
    tone = float(rng.uniform(0.09, 0.14)) if road else float(rng.uniform(0.22, 0.34))
    albedo = tint(grain, floats([tone, tone, 0.98 * tone]))
    flat = np.ones(size_hw, dtype=np.float32)
    if lines_m:
        blend_layer(albedo, _weight(mask_of(view, lines_m)), floats(_WHITE_PAINT), flat)
    rail = np.zeros(size_hw, dtype=np.uint8)
    fill(rail, [view.to_canvas(outline) for outline in rails_m])
    blend_layer(albedo, _weight(rail), floats([0.36, 0.36, 0.35]), flat)
    return albedo, coverage
