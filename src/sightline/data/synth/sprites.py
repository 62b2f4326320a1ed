"""Vehicles drawn from above: colour, relief and outline in the vehicle frame, lit from the sun's side."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sightline.data.synth.paths import Points, rounded_rectangle
from sightline.data.synth.textures import FloatImage, linear_from_srgb
from sightline.data.synth.vehicles import Colour, Vehicle, truck_parts_m

DRAW_PX_PER_M: Final = 48
SPRITE_PX_PER_M: Final = 24.0
MARGIN_M: Final = 0.5
GLASS: Final[Colour] = (34, 40, 48)
_DARK: Final[Colour] = (26, 27, 29)
_LAMP: Final[Colour] = (232, 234, 226)
_TAIL: Final[Colour] = (150, 20, 18)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A lit vehicle: `albedo` (h, w, 4) linear reflectance premultiplied by coverage, last channel coverage;
    `direct` (h, w) is how strongly the sun hits, relative to flat ground, premultiplied as well.

    The vehicle's origin is the middle of the array; x grows with columns.
    """

    albedo: FloatImage
    direct: FloatImage


class _Pen:
    """Fills polygons given in metres on a colour, a relief and an outline image."""

    def __init__(self, vehicle: Vehicle) -> None:
        self.half_x = vehicle.length_m / 2 + MARGIN_M
        self.half_y = vehicle.width_m / 2 + MARGIN_M
        size_hw = tuple(2 * round(half * DRAW_PX_PER_M) for half in (self.half_y, self.half_x))
        self.centre_px = np.array([size_hw[1] / 2, size_hw[0] / 2])
        self.colour = np.full((*size_hw, 3), vehicle.colour, dtype=np.uint8)
        self.relief = np.zeros(size_hw, dtype=np.float32)
        self.outline = np.zeros(size_hw, dtype=np.uint8)

    def _pixels(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        scaled = (np.asarray(points, dtype=np.float64) * DRAW_PX_PER_M + self.centre_px - 0.5) * 16
        return np.round(scaled).astype(np.int32)

    def fill(self, points: npt.ArrayLike, colour: Colour | None = None, height_m: float | None = None) -> None:
        pixels = self._pixels(points)
        if colour is not None:
            cv2.fillPoly(self.colour, [pixels], colour, shift=4)
        if height_m is not None:
            cv2.fillPoly(self.relief, [pixels], height_m, shift=4)

    def box(
        self, x1: float, y1: float, x2: float, y2: float, colour: Colour | None = None, height_m: float | None = None
    ) -> None:
        self.fill([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour, height_m)

    def both_sides(self, points: npt.ArrayLike, colour: Colour, height_m: float | None = None) -> None:
        mirrored = np.asarray(points, dtype=np.float64) * (1.0, -1.0)
        self.fill(points, colour, height_m)
        self.fill(mirrored, colour, height_m)

    def mark_outline(self, points: Points) -> None:
        cv2.fillPoly(self.outline, [self._pixels(points)], 255, shift=4)


def shade_of(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker or lighter by a factor."""
    red, green, blue = (int(np.clip(c * factor, 0, 255)) for c in colour)
    return red, green, blue


def _draw_car(pen: _Pen, car: Vehicle, rng: np.random.Generator) -> None:
    length, half, side = car.length_m, car.length_m / 2, car.width_m / 2
    body = 0.55 * car.height_m
    pen.fill(car.outlines[0][0], car.colour, body)
    # Where the glass begins and the roof ends, as shares of the length from the middle.
    base, top = 0.235, 0.09
    back, tail = {"sedan": (-0.20, -0.325), "hatchback": (-0.34, -0.445), "estate": (-0.40, -0.47)}[car.style]
    bonnet = rounded_rectangle(base * length, -side + 0.16, half - 0.10, side - 0.16, (0.05, 0.35), (0.0, 0.10))
    pen.fill(bonnet, shade_of(car.colour, 1.05), body + 0.09)
    for y in (-side + 0.30, side - 0.30):
        pen.box(base * length, y - 0.02, half - 0.35, y + 0.02, shade_of(car.colour, 0.86))
    pen.box(half - 0.16, -side + 0.40, half - 0.12, side - 0.40, shade_of(car.colour, 0.5))
    glass = [(base * length, -side + 0.20), (base * length + 0.10, 0.0), (base * length, side - 0.20)]
    glass += [(top * length, side - 0.13), (back * length, side - 0.14), (tail * length, side - 0.26)]
    glass += [(tail * length, -side + 0.26), (back * length, -side + 0.14), (top * length, -side + 0.13)]
    pen.fill(glass, GLASS, 0.78 * car.height_m)
    front_glass = [
        (base * length - 0.04, -side + 0.26),
        (base * length + 0.05, 0.0),
        (base * length - 0.04, side - 0.26),
    ]
    front_glass += [(top * length, side - 0.34), (top * length, -side + 0.34)]
    pen.fill(front_glass, shade_of(GLASS, 1.25))
    roof = rounded_rectangle(back * length, -side + 0.28, top * length, side - 0.28, (0.12, 0.14), (0.03, 0.03))
    panorama = rng.random() < 0.15
    pen.fill(roof, shade_of(car.colour, 1.0), car.height_m)
    if panorama:
        inner = (back * length + 0.25, -side + 0.40, top * length - 0.12, side - 0.40)
        pen.fill(rounded_rectangle(*inner, (0.08, 0.08)), shade_of(GLASS, 0.8))
    for x in (top * length, back * length):  # pillars join roof and body
        pen.both_sides([(x - 0.05, side - 0.30), (x + 0.05, side - 0.30), (x + 0.07, side - 0.10), (x - 0.03, side - 0.10)],
                       shade_of(car.colour, 0.9))  # fmt: skip
    middle = (top + back) / 2 * length
    pen.both_sides([(middle - 0.04, side - 0.29), (middle + 0.04, side - 0.29), (middle + 0.04, side - 0.12),
                    (middle - 0.04, side - 0.12)], shade_of(car.colour, 0.8))  # fmt: skip
    if car.style == "estate":
        pen.both_sides([(back * length + 0.1, side - 0.33), (top * length - 0.1, side - 0.33),
                        (top * length - 0.1, side - 0.29), (back * length + 0.1, side - 0.29)], (60, 62, 64))  # fmt: skip
    lamp = [
        (half - 0.34, side - 0.14),
        (half - 0.10, side - 0.42),
        (half - 0.20, side - 0.56),
        (half - 0.42, side - 0.22),
    ]
    pen.both_sides(lamp, _LAMP)
    rear = [
        (-half + 0.05, side - 0.50),
        (-half + 0.16, side - 0.50),
        (-half + 0.24, side - 0.10),
        (-half + 0.12, side - 0.12),
    ]
    pen.both_sides(rear, _TAIL)


def _draw_van(pen: _Pen, van: Vehicle, rng: np.random.Generator) -> None:
    half, side = van.length_m / 2, van.width_m / 2
    pen.fill(van.outlines[0][0], van.colour, 1.15)
    base, top = half - 0.72, half - 1.50
    pen.fill([(base, -side + 0.16), (base + 0.16, 0.0), (base, side - 0.16), (top, side - 0.10), (top, -side + 0.10)],
             GLASS, 1.9)  # fmt: skip
    pen.both_sides([(top + 0.45, side - 0.12), (top + 0.05, side - 0.11), (top - 0.75, side - 0.09),
                    (top - 0.75, side - 0.03), (top + 0.55, side - 0.05)], GLASS)  # fmt: skip
    roof = rounded_rectangle(-half + 0.06, -side + 0.12, top, side - 0.12, (0.10, 0.16), (0.0, 0.04))
    pen.fill(roof, shade_of(van.colour, 1.0), van.height_m)
    ribs = 4 if van.style == "panel" else 3
    for x in np.linspace(-half + 0.55, top - 0.5, ribs + 1):
        pen.box(float(x) - 0.05, -side + 0.30, float(x) + 0.05, side - 0.30, shade_of(van.colour, 0.88))
    if van.style == "crew":
        pen.box(top - 1.9, -side + 0.35, top - 1.2, side - 0.35, shade_of(GLASS, 1.2))
    elif rng.random() < 0.4:  # ladder rack
        for y in (-0.35, 0.35):
            pen.box(-half + 0.4, y - 0.04, top - 0.4, y + 0.04, (122, 124, 126), van.height_m + 0.15)
    lamp = [
        (half - 0.36, side - 0.16),
        (half - 0.10, side - 0.44),
        (half - 0.18, side - 0.60),
        (half - 0.44, side - 0.26),
    ]
    pen.both_sides(lamp, _LAMP)
    pen.both_sides([(-half, side - 0.30), (-half + 0.06, side - 0.30), (-half + 0.06, side - 0.04), (-half, side - 0.06)],
                   _TAIL)  # fmt: skip


def _draw_truck(pen: _Pen, truck: Vehicle, rng: np.random.Generator) -> None:
    half, side = truck.length_m / 2, truck.width_m / 2
    cab, load = truck_parts_m(truck)
    high = truck.height_m
    pen.fill(truck.outlines[1][0], _DARK, 0.9)
    pen.fill(truck.outlines[0][0], truck.colour, 0.70 * high)
    pen.fill([(half - 0.04, -side + 0.30), (half - 0.04, side - 0.30), (half - 0.42, side - 0.22), (half - 0.42, -side + 0.22)],
             GLASS, 0.66 * high)  # fmt: skip
    pen.fill(
        rounded_rectangle(cab + 0.08, -side + 0.20, half - 0.44, side - 0.20, (0.1, 0.1)), truck.colour, 0.80 * high
    )
    pen.box(half - 1.25, -0.32, half - 0.75, 0.32, shade_of(truck.colour, 0.72))
    pen.fill([(cab + 0.08, -side + 0.30), (cab + 0.08, side - 0.30), (cab + 0.75, side - 0.65), (cab + 0.75, -side + 0.65)],
             shade_of(truck.colour, 1.08), 0.95 * high)  # fmt: skip
    pen.fill(truck.outlines[2][0], truck.accent, high)
    if truck.style == "tipper":
        pen.fill(truck.outlines[2][0], shade_of(truck.colour, 0.85), high)
        pen.box(-half + 0.16, -side + 0.16, load - 0.16, side - 0.16, truck.accent, high - 0.7)
        for _ in range(90):
            x, y = rng.uniform(-half + 0.25, load - 0.25), rng.uniform(-side + 0.25, side - 0.25)
            size, tone = rng.uniform(0.06, 0.2), rng.uniform(0.7, 1.3)
            pen.box(
                x - size, y - size, x + size, y + size, shade_of(truck.accent, tone), high - 0.7 + rng.uniform(0, 0.4)
            )
        return
    step = 0.62 if truck.style == "box" else 0.95
    dark = 0.90 if truck.style == "box" else 0.80
    for x in np.arange(-half + step, load - 0.2, step):
        width = 0.025 if truck.style == "box" else 0.07
        pen.box(float(x) - width, -side + 0.06, float(x) + width, side - 0.06, shade_of(truck.accent, dark))
    pen.box(-half, -side, -half + 0.08, side, shade_of(truck.accent, 0.7))
    pen.box(load - 0.08, -side, load, side, shade_of(truck.accent, 0.8))
    for y in (-side, side - 0.06):
        pen.box(-half, y, load, y + 0.06, shade_of(truck.accent, 0.78))


def _draw_bus(pen: _Pen, bus: Vehicle, rng: np.random.Generator) -> None:
    half, side = bus.length_m / 2, bus.width_m / 2
    high = bus.height_m
    pen.fill(bus.outlines[0][0], bus.colour, 0.82 * high)
    pen.fill([(half - 0.03, -side + 0.24), (half - 0.03, side - 0.24), (half - 0.40, side - 0.16), (half - 0.40, -side + 0.16)],
             GLASS)  # fmt: skip
    pen.both_sides([(-half + 0.5, side - 0.10), (half - 0.6, side - 0.10), (half - 0.6, side - 0.03),
                    (-half + 0.5, side - 0.03)], GLASS)  # fmt: skip
    roof_colour = bus.accent if bus.style == "coach" or rng.random() < 0.35 else bus.colour
    roof = rounded_rectangle(-half + 0.10, -side + 0.16, half - 0.45, side - 0.16, (0.2, 0.2))
    pen.fill(roof, roof_colour, high)
    for y in (-side + 0.42, side - 0.42):
        pen.box(-half + 0.3, y - 0.025, half - 0.7, y + 0.025, shade_of(roof_colour, 0.87))
    unit = (206, 208, 208) if sum(roof_colour) < 600 else (176, 179, 181)
    for x, long in ((-0.28 * bus.length_m, 1.9), (0.18 * bus.length_m, 1.4)):
        pen.fill(rounded_rectangle(x - long / 2, -0.78, x + long / 2, 0.78, (0.12, 0.12)), unit, high + 0.25)
        for fan in (-long / 4, long / 4):
            pen.fill(rounded_rectangle(x + fan - 0.25, -0.25, x + fan + 0.25, 0.25, (0.25, 0.25)), (70, 72, 74))
    for share in (-0.06, 0.36):
        x = share * bus.length_m
        pen.box(x - 0.36, -0.36, x + 0.36, 0.36, shade_of(roof_colour, 0.72), high + 0.06)
        pen.box(x - 0.27, -0.27, x + 0.27, 0.27, shade_of(roof_colour, 0.92))
    pen.both_sides(
        [(-half, side - 0.42), (-half + 0.08, side - 0.42), (-half + 0.08, side - 0.12), (-half, side - 0.12)], _TAIL
    )


_DRAW: Final = {"car": _draw_car, "van": _draw_van, "truck": _draw_truck, "bus": _draw_bus}


@lru_cache(maxsize=512)
def _unlit(vehicle: Vehicle) -> tuple[FloatImage, FloatImage]:
    """Return premultiplied albedo with coverage (h, w, 4) and relief in metres (h, w), at the sprite's scale."""
    pen = _Pen(vehicle)
    _DRAW[vehicle.class_name](pen, vehicle, np.random.default_rng(vehicle.seed))
    for points, _ in vehicle.outlines:
        pen.mark_outline(points)
    scale = SPRITE_PX_PER_M / DRAW_PX_PER_M
    size_wh = tuple(round(n * scale) for n in pen.outline.shape[::-1])
    coverage = cv2.resize(pen.outline, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    colour = linear_from_srgb(cv2.resize(pen.colour, size_wh, interpolation=cv2.INTER_AREA))
    albedo = np.empty((*coverage.shape, 4), dtype=np.float32)
    np.multiply(colour, coverage[..., None], out=albedo[..., :3])
    albedo[..., 3] = coverage
    relief: FloatImage = cv2.resize(pen.relief, size_wh, interpolation=cv2.INTER_AREA)
    return albedo, relief


@lru_cache(maxsize=1024)
def lit_sprite(vehicle: Vehicle, sun_azimuth_bin: int, sun_slope: float) -> Sprite:
    """Return the vehicle lit by a sun whose azimuth in the vehicle frame is `sun_azimuth_bin` times 3 degrees.

    `sun_slope` is the cotangent of the sun's elevation. Relief is turned into slopes and lit by Lambert's law.
    """
    albedo, relief = _unlit(vehicle)
    azimuth = np.deg2rad(3.0 * sun_azimuth_bin)
    smooth = cv2.GaussianBlur(relief, (0, 0), 0.075 * SPRITE_PX_PER_M)
    slope_x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) * np.float32(SPRITE_PX_PER_M / 32.0)
    slope_y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) * np.float32(SPRITE_PX_PER_M / 32.0)
    towards = -(slope_x * np.float32(np.cos(azimuth)) + slope_y * np.float32(np.sin(azimuth)))
    steepness = np.sqrt(1.0 + 0.09 * (slope_x**2 + slope_y**2))
    direct = np.clip((1.0 + 0.30 * sun_slope * towards) / steepness, 0.25, 1.9).astype(np.float32)
    return Sprite(albedo, direct * albedo[..., 3])
