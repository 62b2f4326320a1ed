"""What drives: vehicle classes, their sizes, colours and outlines.

Vehicle frame: metres, origin at the middle of the outline, x to the front, y to the right.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from sightline.synth.plane import Points, rounded_rectangle

__all__ = ["CLASS_NAMES", "Colour", "Vehicle", "sample_vehicle", "truck_parts_m"]

Colour = tuple[int, int, int]

CLASS_NAMES: Final = ("car", "van", "truck", "bus")

_LENGTH_M: Final = {"car": (4.0, 4.8), "van": (5.3, 6.3), "truck": (7.6, 9.6), "bus": (10.6, 12.2)}
_WIDTH_M: Final = {"car": (1.76, 1.90), "van": (1.98, 2.10), "truck": (2.42, 2.55), "bus": (2.50, 2.55)}
_HEIGHT_M: Final = {"car": (1.42, 1.65), "van": (2.3, 2.7), "truck": (3.3, 3.8), "bus": (3.0, 3.2)}
_STYLES: Final = {
    "car": ("sedan", "hatchback", "estate", "sedan", "hatchback"),
    "van": ("panel", "panel", "crew"),
    "truck": ("box", "box", "tarpaulin", "tipper"),
    "bus": ("city", "coach"),
}
_CAR_COLOURS: Final[tuple[Colour, ...]] = (
    (236, 238, 238), (240, 240, 236), (228, 230, 232), (190, 194, 198), (168, 172, 176), (120, 124, 128),
    (84, 88, 94), (52, 54, 58), (34, 35, 38), (28, 28, 30), (150, 28, 30), (178, 40, 34), (32, 62, 120),
    (48, 96, 156), (90, 140, 176), (44, 74, 58), (120, 104, 84), (206, 196, 172), (214, 168, 36), (96, 40, 44),
)  # fmt: skip
_VAN_COLOURS: Final[tuple[Colour, ...]] = (
    (238, 239, 238), (232, 234, 234), (240, 240, 238), (196, 199, 202), (226, 180, 44), (60, 104, 160), (74, 78, 84),
    (168, 44, 40),
)  # fmt: skip
_CAB_COLOURS: Final[tuple[Colour, ...]] = (
    (224, 226, 226), (186, 36, 32), (36, 78, 140), (214, 158, 34), (50, 104, 72), (66, 70, 76), (206, 100, 36),
)  # fmt: skip
_LOAD_COLOURS: Final[dict[str, tuple[Colour, ...]]] = {
    "box": ((232, 233, 230), (216, 218, 216), (196, 200, 202), (222, 214, 196)),
    "tarpaulin": ((44, 84, 142), (150, 42, 40), (58, 104, 78), (176, 178, 176), (206, 150, 52)),
    "tipper": ((116, 112, 104), (150, 134, 104), (98, 92, 84)),
}
_BUS_COLOURS: Final[tuple[Colour, ...]] = (
    (224, 184, 40), (204, 52, 44), (66, 150, 82), (46, 104, 172), (232, 234, 234), (196, 206, 214),
)  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """One vehicle's look and size; `seed` fixes its small details. Hashable, so drawings of it can be kept."""

    class_id: int
    style: str
    length_m: float
    width_m: float
    height_m: float
    colour: Colour
    accent: Colour
    seed: int

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return CLASS_NAMES[self.class_id]

    @property
    def wheelbase_m(self) -> float:
        """Distance between the axles that follow the lane."""
        return 0.62 * self.length_m

    @cached_property
    def outlines(self) -> tuple[tuple[Points, float], ...]:
        """Convex parts of the outline, each (points (N, 2) in the vehicle frame, height in metres)."""
        return _OUTLINES[self.class_name](self)

    @cached_property
    def area_m2(self) -> float:
        """Area of the outline: the sum of its parts, which do not overlap."""
        total = 0.0
        for points, _ in self.outlines:
            x, y = points.T
            total += abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
        return total


def _car_outline(car: Vehicle) -> tuple[tuple[Points, float], ...]:
    half, side = car.length_m / 2, car.width_m / 2
    return ((rounded_rectangle(-half, -side, half, side, (0.34, 0.50), (0.05, 0.12)), 0.62 * car.height_m),)


def _van_outline(van: Vehicle) -> tuple[tuple[Points, float], ...]:
    half, side = van.length_m / 2, van.width_m / 2
    return ((rounded_rectangle(-half, -side, half, side, (0.14, 0.42), (0.0, 0.12)), van.height_m),)


def truck_parts_m(truck: Vehicle) -> tuple[float, float]:
    """Return the x of the cab's rear wall and of the load's front wall, in the vehicle frame."""
    front = truck.length_m / 2
    return front - 2.05, front - 2.05 - 0.30


def _truck_outline(truck: Vehicle) -> tuple[tuple[Points, float], ...]:
    half, side = truck.length_m / 2, truck.width_m / 2
    cab, load = truck_parts_m(truck)
    chassis = rounded_rectangle(load, -0.45, cab, 0.45, (0.0, 0.0))
    return (
        (rounded_rectangle(cab, -side + 0.06, half, side - 0.06, (0.10, 0.30), (0.0, 0.05)), 0.80 * truck.height_m),
        (chassis, 1.0),
        (rounded_rectangle(-half, -side, load, side, (0.05, 0.05)), truck.height_m),
    )


def _bus_outline(bus: Vehicle) -> tuple[tuple[Points, float], ...]:
    half, side = bus.length_m / 2, bus.width_m / 2
    return ((rounded_rectangle(-half, -side, half, side, (0.22, 0.34), (0.0, 0.05)), bus.height_m),)


_OUTLINES: Final = {"car": _car_outline, "van": _van_outline, "truck": _truck_outline, "bus": _bus_outline}


def sample_vehicle(rng: np.random.Generator, class_shares: tuple[float, ...]) -> Vehicle:
    """Return a random vehicle; `class_shares` are the probabilities of `CLASS_NAMES`, in order, summing to 1."""
    class_id = int(rng.choice(len(CLASS_NAMES), p=class_shares))
    name = CLASS_NAMES[class_id]
    styles = _STYLES[name]
    style = styles[int(rng.integers(len(styles)))]
    colours = {"car": _CAR_COLOURS, "van": _VAN_COLOURS, "truck": _CAB_COLOURS, "bus": _BUS_COLOURS}[name]
    accents = _LOAD_COLOURS.get(style, ((232, 234, 234), (206, 210, 212), colours[0]))
    return Vehicle(
        class_id=class_id,
        style=style,
        length_m=float(rng.uniform(*_LENGTH_M[name])),
        width_m=float(rng.uniform(*_WIDTH_M[name])),
        height_m=float(rng.uniform(*_HEIGHT_M[name])),
        colour=_vary(colours[int(rng.integers(len(colours)))], rng),
        accent=_vary(accents[int(rng.integers(len(accents)))], rng),
        seed=int(rng.integers(2**31)),
    )


def _vary(colour: Colour, rng: np.random.Generator) -> Colour:
    shifted = np.clip(np.asarray(colour) + rng.normal(0.0, 2.5, size=3) + rng.normal(0.0, 6.0), 8, 246)
    red, green, blue = (int(v) for v in shifted)
    return red, green, blue
