"""Vehicles drawn from above: colour, relief and outline in the vehicle frame, lit from the sun's side."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sightline.synth.kernels import add_convex
from sightline.synth.plane import rounded_rectangle
from sightline.synth.textures import FloatImage, floats, linear_from_srgb
from sightline.synth.vehicles import Colour, Vehicle, truck_parts_m

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
    """Fills polygons given in metres on a colour and a relief image."""

    def __init__(self, vehicle: Vehicle) -> None:
        self.half_x = vehicle.length_m / 2 + MARGIN_M
        self.half_y = vehicle.width_m / 2 + MARGIN_M
        size_hw = tuple(2 * round(half * DRAW_PX_PER_M) for half in (self.half_y, self.half_x))
        self.centre_px = np.array([size_hw[1] / 2, size_hw[0] / 2])
        self.colour = np.full((*size_hw, 3), vehicle.colour, dtype=np.uint8)
        self.relief = np.zeros(size_hw, dtype=np.float32)

    def _pixels(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        scaled = (np.asarray(points, dtype=np.float64) * DRAW_PX_PER_M + self.centre_px - 0.5) * 16
        return np.asarray(np.round(scaled), dtype=np.int32)

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

    def both_sides(self, points: npt.ArrayLike, colour: Colour) -> None:
        self.fill(points, colour)
        self.fill(np.asarray(points, dtype=np.float64) * (1.0, -1.0), colour)

    def side_boxes(
        self, x1: float, y1: float, x2: float, y2: float, colour: Colour, height_m: float | None = None
    ) -> None:
        """Fill a rectangle on the right-hand side and its mirror image on the left."""
        self.box(x1, y1, x2, y2, colour, height_m)
        self.box(x1, -y2, x2, -y1, colour, height_m)

    def trapezoid(
        self, x1: float, half1: float, x2: float, half2: float, colour: Colour, height_m: float | None = None
    ) -> None:
        """Fill a symmetric trapezoid between half width `half1` at x1 and `half2` at x2."""
        self.fill([(x1, -half1), (x1, half1), (x2, half2), (x2, -half2)], colour, height_m)


def shade_of(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker or lighter by a factor."""
    red, green, blue = (int(np.clip(c * factor, 0, 255)) for c in colour)
    return red, green, blue


def _draw_car(pen: _Pen, car: Vehicle, rng: np.random.Generator) -> None:
    length, half, side = car.length_m, car.length_m / 2, car.width_m / 2
    body = 0.55 * car.height_m
    pen.fill(car.outlines[0][0], car.colour, body)
    # Where the glass begins and the roof ends, in metres from the middle.
    base, top = 0.235 * length, 0.09 * length
    shares = {"sedan": (-0.20, -0.325), "hatchback": (-0.34, -0.445), "estate": (-0.40, -0.47)}[car.style]
    back, tail = shares[0] * length, shares[1] * length
    bonnet = rounded_rectangle(base, -side + 0.16, half - 0.10, side - 0.16, (0.05, 0.35), (0.0, 0.10))
    pen.fill(bonnet, shade_of(car.colour, 1.05), body + 0.09)
    pen.side_boxes(base, side - 0.32, half - 0.35, side - 0.28, shade_of(car.colour, 0.86))
    pen.box(half - 0.16, -side + 0.40, half - 0.12, side - 0.40, shade_of(car.colour, 0.5))
    glass = [(base, side - 0.20), (top, side - 0.13), (back, side - 0.14), (tail, side - 0.26)]
    mirrored = [(x, -y) for x, y in reversed(glass)]
    pen.fill([*glass, *mirrored, (base + 0.10, 0.0)], GLASS, 0.78 * car.height_m)
    pen.trapezoid(base - 0.02, side - 0.26, top, side - 0.34, shade_of(GLASS, 1.25))
    pen.fill(
        rounded_rectangle(back, -side + 0.28, top, side - 0.28, (0.12, 0.14), (0.03, 0.03)), car.colour, car.height_m
    )
    if rng.random() < 0.15:  # glass roof
        pen.fill(
            rounded_rectangle(back + 0.25, -side + 0.40, top - 0.12, side - 0.40, (0.08, 0.08)), shade_of(GLASS, 0.8)
        )
    for x, tone in ((top, 0.9), (back, 0.9), ((top + back) / 2, 0.8)):  # pillars join roof and body
        pen.side_boxes(x - 0.05, side - 0.30, x + 0.05, side - 0.11, shade_of(car.colour, tone))
    if car.style == "estate":
        pen.side_boxes(back + 0.1, side - 0.33, top - 0.1, side - 0.29, (60, 62, 64))
    _lamps(pen, half, side, 0.0)
    inner = side - 0.50
    pen.both_sides(
        [(-half + 0.05, inner), (-half + 0.16, inner), (-half + 0.24, side - 0.10), (-half + 0.12, side - 0.12)],
        _TAIL,
    )


def _lamps(pen: _Pen, half: float, side: float, further_in: float) -> None:
    """Draw both headlights of a car or van."""
    outer, inner = side - 0.14 - further_in, side - 0.42 - further_in
    corners = [(half - 0.34, outer), (half - 0.10, inner), (half - 0.20, inner - 0.14), (half - 0.42, outer - 0.08)]
    pen.both_sides(corners, _LAMP)


def _draw_van(pen: _Pen, van: Vehicle, rng: np.random.Generator) -> None:
    half, side = van.length_m / 2, van.width_m / 2
    pen.fill(van.outlines[0][0], van.colour, 1.15)
    base, top = half - 0.72, half - 1.50
    pen.trapezoid(base + 0.06, side - 0.16, top, side - 0.10, GLASS, 1.9)
    pen.side_boxes(top - 0.75, side - 0.09, top + 0.45, side - 0.03, GLASS)
    roof = rounded_rectangle(-half + 0.06, -side + 0.12, top, side - 0.12, (0.10, 0.16), (0.0, 0.04))
    pen.fill(roof, van.colour, van.height_m)
    ribs = 4 if van.style == "panel" else 3
    for x in np.linspace(-half + 0.55, top - 0.5, ribs + 1):
        pen.box(float(x) - 0.05, -side + 0.30, float(x) + 0.05, side - 0.30, shade_of(van.colour, 0.88))
    if van.style == "crew":
        pen.box(top - 1.9, -side + 0.35, top - 1.2, side - 0.35, shade_of(GLASS, 1.2))
    elif rng.random() < 0.4:  # ladder rack
        pen.side_boxes(-half + 0.4, 0.31, top - 0.4, 0.39, (122, 124, 126), van.height_m + 0.15)
    _lamps(pen, half, side, 0.03)
    pen.side_boxes(-half, side - 0.30, -half + 0.06, side - 0.05, _TAIL)


def _draw_truck(pen: _Pen, truck: Vehicle, rng: np.random.Generator) -> None:
    half, side = truck.length_m / 2, truck.width_m / 2
    cab, load = truck_parts_m(truck)
    high = truck.height_m
    pen.fill(truck.outlines[1][0], _DARK, 0.9)
    pen.fill(truck.outlines[0][0], truck.colour, 0.70 * high)
    pen.trapezoid(half - 0.04, side - 0.30, half - 0.42, side - 0.22, GLASS, 0.66 * high)
    roof = rounded_rectangle(cab + 0.08, -side + 0.20, half - 0.44, side - 0.20, (0.1, 0.1))
    pen.fill(roof, truck.colour, 0.80 * high)
    pen.box(half - 1.25, -0.32, half - 0.75, 0.32, shade_of(truck.colour, 0.72))
    pen.trapezoid(cab + 0.75, side - 0.65, cab + 0.08, side - 0.30, shade_of(truck.colour, 1.08), 0.95 * high)
    if truck.style == "tipper":
        _draw_tipper(pen, truck, load, rng)
        return
    pen.fill(truck.outlines[2][0], truck.accent, high)
    step, width, dark = (0.62, 0.025, 0.90) if truck.style == "box" else (0.95, 0.07, 0.80)
    for x in np.arange(-half + step, load - 0.2, step):
        pen.box(float(x) - width, -side + 0.06, float(x) + width, side - 0.06, shade_of(truck.accent, dark))
    pen.box(-half, -side, -half + 0.08, side, shade_of(truck.accent, 0.7))
    pen.box(load - 0.08, -side, load, side, shade_of(truck.accent, 0.8))
    pen.side_boxes(-half, side - 0.06, load, side, shade_of(truck.accent, 0.78))


def _draw_tipper(pen: _Pen, truck: Vehicle, load: float, rng: np.random.Generator) -> None:
    """Draw an open body heaped with gravel."""
    half, side, high = truck.length_m / 2, truck.width_m / 2, truck.height_m
    pen.fill(truck.outlines[2][0], shade_of(truck.colour, 0.85), high)
    pen.box(-half + 0.16, -side + 0.16, load - 0.16, side - 0.16, truck.accent, high - 0.7)
    for _ in range(90):
        x, y = rng.uniform(-half + 0.25, load - 0.25), rng.uniform(-side + 0.25, side - 0.25)
        size, tone, lift = rng.uniform(0.06, 0.2), rng.uniform(0.7, 1.3), rng.uniform(0.0, 0.4)
        pen.box(x - size, y - size, x + size, y + size, shade_of(truck.accent, tone), high - 0.7 + lift)


def _draw_bus(pen: _Pen, bus: Vehicle, rng: np.random.Generator) -> None:
    half, side = bus.length_m / 2, bus.width_m / 2
    high = bus.height_m
    pen.fill(bus.outlines[0][0], bus.colour, 0.82 * high)
    pen.trapezoid(half - 0.03, side - 0.24, half - 0.40, side - 0.16, GLASS)
    pen.side_boxes(-half + 0.5, side - 0.10, half - 0.6, side - 0.03, GLASS)
    roof_colour = bus.accent if bus.style == "coach" or rng.random() < 0.35 else bus.colour
    roof = rounded_rectangle(-half + 0.10, -side + 0.16, half - 0.45, side - 0.16, (0.2, 0.2))
    pen.fill(roof, roof_colour, high)
    pen.side_boxes(-half + 0.3, side - 0.445, half - 0.7, side - 0.395, shade_of(roof_colour, 0.87))
    unit = (206, 208, 208) if sum(roof_colour) < 600 else (176, 179, 181)
    for x, long in ((-0.28 * bus.length_m, 1.9), (0.18 * bus.length_m, 1.4)):
        pen.fill(rounded_rectangle(x - long / 2, -0.78, x + long / 2, 0.78, (0.12, 0.12)), unit, high + 0.25)
        for fan in (x - long / 4, x + long / 4):
            pen.fill(rounded_rectangle(fan - 0.25, -0.25, fan + 0.25, 0.25, (0.25, 0.25)), (70, 72, 74))
    for share in (-0.06, 0.36):  # hatches
        x = share * bus.length_m
        pen.box(x - 0.36, -0.36, x + 0.36, 0.36, shade_of(roof_colour, 0.72), high + 0.06)
        pen.box(x - 0.27, -0.27, x + 0.27, 0.27, shade_of(roof_colour, 0.92))
    pen.side_boxes(-half, side - 0.42, -half + 0.08, side - 0.12, _TAIL)


_DRAW: Final = {"car": _draw_car, "van": _draw_van, "truck": _draw_truck, "bus": _draw_bus}


@lru_cache(maxsize=512)
def _unlit(vehicle: Vehicle) -> tuple[FloatImage, FloatImage]:
    """Return premultiplied albedo with coverage (h, w, 4) and relief in metres (h, w), at the sprite's scale."""
    pen = _Pen(vehicle)
    _DRAW[vehicle.class_name](pen, vehicle, np.random.default_rng(vehicle.seed))
    scale = SPRITE_PX_PER_M / DRAW_PX_PER_M
    size_wh = tuple(round(n * scale) for n in pen.relief.shape[::-1])
    coverage = np.zeros(size_wh[::-1], dtype=np.float32)
    for points, _ in vehicle.outlines:
        add_convex(coverage, (points * DRAW_PX_PER_M + pen.centre_px) * scale, 8)
    np.minimum(coverage, 1.0, out=coverage)
    colour = linear_from_srgb(cv2.resize(pen.colour, size_wh, interpolation=cv2.INTER_AREA))
    albedo = np.empty((*coverage.shape, 4), dtype=np.float32)
    np.multiply(colour, coverage[..., None], out=albedo[..., :3])
    albedo[..., 3] = coverage
    return albedo, floats(cv2.resize(pen.relief, size_wh, interpolation=cv2.INTER_AREA))


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
