"""Traffic in motion: car following, signals, vehicles entering and leaving, on fixed lanes.

Car following is the Intelligent Driver Model (Treiber, Hennecke, Helbing 2000, "Congested traffic states in empirical
observations and microscopic simulations", Phys. Rev. E 62).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sightline.synth.placement import Driver, Placed, fill_lanes, new_driver
from sightline.synth.plane import Points, View
from sightline.synth.roads import Lane

_ACCELERATION: Final = 1.6  # m/s^2, comfortable
_BRAKING: Final = 2.2
_HARDEST: Final = 7.0
_HEADWAY_S: Final = 1.1
_STANDSTILL_M: Final = 2.2
_GREEN_S: Final = 12.0
_CLEARING_S: Final = 3.5
_WARM_UP_S: Final = 6.0
_WARM_UP_STEP_S: Final = 0.1
_SEE_AHEAD_M: Final = 60.0
_SIDE_ROOM_M: Final = 0.12


@dataclass(eq=False)
class _Traveller:
    """A driver with the number that stays with the vehicle for the whole simulation."""

    number: int
    driver: Driver


class TrafficFlow:
    """Vehicles on lanes, advanced in small steps; all randomness from `rng`."""

    def __init__(self, lanes: Sequence[Lane], view: View, mean_gap_m: float, rng: np.random.Generator) -> None:
        self._lanes, self._rng, self._mean_gap_m = lanes, rng, mean_gap_m
        self._green = int(rng.integers(0, 2))
        self._clock_s = float(rng.uniform(0.0, 0.5 * _GREEN_S)) + self._green * (_GREEN_S + _CLEARING_S)
        drivers = fill_lanes(lanes, view, view.reach_m + 200.0, mean_gap_m, self._green, rng)
        self._travellers = [_Traveller(i, driver) for i, driver in enumerate(drivers)]
        self._next_number = len(drivers)
        self._room_m = {id(lane): self._next_room() for lane in lanes}
        for _ in range(round(_WARM_UP_S / _WARM_UP_STEP_S)):
            self.advance(_WARM_UP_STEP_S)

    def snapshot(self) -> list[tuple[int, Placed]]:
        """Return every vehicle's number and place, in order of number."""
        return [(t.number, t.driver.place()) for t in self._travellers]

    def advance(self, step_s: float) -> None:
        """Move everything by `step_s` seconds."""
        self._clock_s += step_s
        places = [t.driver.place() for t in self._travellers]
        accelerations = self._accelerations(places)
        for traveller, acceleration in zip(self._travellers, accelerations, strict=True):
            driver = traveller.driver
            speed = max(0.0, driver.speed_mps + acceleration * step_s)
            driver.arc_m += (driver.speed_mps + speed) / 2 * step_s
            driver.speed_mps = speed
        self._travellers = [t for t in self._travellers if t.driver.arc_m < t.driver.lane.path.length_m + 8.0]
        self._let_in()

    def _may_go(self, signal: int | None) -> bool:
        phase_s = self._clock_s % (2 * (_GREEN_S + _CLEARING_S))
        number, since_s = divmod(phase_s, _GREEN_S + _CLEARING_S)
        return signal is None or (signal == int(number) and since_s < _GREEN_S)

    def _accelerations(self, places: list[Placed]) -> list[float]:
        if not places:
            return []
        centres = np.array([p.xy_m for p in places])
        headings = np.array([p.heading_rad for p in places])
        sizes = np.array([(p.vehicle.length_m, p.vehicle.width_m) for p in places])
        speeds = np.array([p.speed_mps for p in places])
        levels = np.array([p.level for p in places])
        seen: dict[int, tuple[Points, Points, Points, Points, Points]] = {}
        result = []
        for i, traveller in enumerate(self._travellers):
            driver = traveller.driver
            if driver.lane.parked:
                result.append(0.0)
                continue
            key = id(driver.lane)
            if key not in seen:
                seen[key] = _along(driver.lane, centres, headings, sizes, speeds)
            arc, side, reach, breadth, along_mps = seen[key]
            blocks = np.abs(side - driver.lateral_m) < breadth + driver.vehicle.width_m / 2 + _SIDE_ROOM_M
            front = driver.arc_m + driver.vehicle.length_m / 2
            # Whoever is already alongside is not ahead; its rear must lie beyond our middle.
            ahead = blocks & (levels == driver.lane.level) & (arc - reach > driver.arc_m) & (arc < front + _SEE_AHEAD_M)
            ahead[i] = False
            gaps = np.where(ahead, arc - reach - front, np.inf)
            nearest = int(np.argmin(gaps))
            acceleration = _follow(driver, float(gaps[nearest]), float(along_mps[nearest]))
            result.append(min(acceleration, self._heed_signal(driver, front)))
        return result

    def _heed_signal(self, driver: Driver, front_m: float) -> float:
        stop = driver.lane.stop_m
        if stop is None or front_m > stop or self._may_go(driver.lane.signal):
            return np.inf
        distance = stop - front_m
        if driver.speed_mps**2 / (2 * max(distance, 0.1)) > 4.5:
            return np.inf  # too late to stop: clears the junction, as on amber
        return _follow(driver, distance + _STANDSTILL_M - 0.8, 0.0)

    def _next_room(self) -> float:
        return 3.0 + float(self._rng.exponential(self._mean_gap_m))

    def _let_in(self) -> None:
        """Let a vehicle enter each lane whose beginning has been free for the distance drawn for it."""
        for lane in self._lanes:
            if lane.parked:
                continue
            rears = [t.driver.arc_m - t.driver.vehicle.length_m / 2 for t in self._travellers if t.driver.lane is lane]
            if min(rears, default=np.inf) < self._room_m[id(lane)]:
                continue
            driver = new_driver(lane, 0.0, self._rng)
            driver.arc_m = -driver.vehicle.length_m / 2
            if rears:
                leader = min((t.driver for t in self._travellers if t.driver.lane is lane), key=lambda d: d.arc_m)
                driver.speed_mps = min(driver.speed_mps, leader.speed_mps + 1.0)
            self._travellers.append(_Traveller(self._next_number, driver))
            self._next_number += 1
            self._room_m[id(lane)] = self._next_room() + 0.8 * driver.speed_mps


def _follow(driver: Driver, gap_m: float, leader_mps: float) -> float:
    """Return the Intelligent Driver Model's acceleration in m/s^2 behind a leader `gap_m` ahead (inf: none)."""
    speed = driver.speed_mps
    free = 1.0 - (speed / max(driver.wish_mps, 0.1)) ** 4
    if not np.isfinite(gap_m):
        return max(_ACCELERATION * free, -_BRAKING)
    closing = speed * (speed - leader_mps) / (2 * np.sqrt(_ACCELERATION * _BRAKING))
    wanted = _STANDSTILL_M + max(0.0, speed * _HEADWAY_S + closing)
    return float(max(_ACCELERATION * (free - (wanted / max(gap_m, 0.2)) ** 2), -_HARDEST))


def _along(
    lane: Lane, centres: Points, headings: Points, sizes: Points, speeds: Points
) -> tuple[Points, Points, Points, Points, Points]:
    """Return, for every vehicle seen from a lane's path: arc length, offset to the right, half extents along and
    across, and speed along it.
    """
    path = lane.path
    nearest = np.argmin(((path.points[:, None] - centres[None]) ** 2).sum(axis=2), axis=0)
    normals = path.right_normals[nearest]
    tangents = np.stack([normals[:, 1], -normals[:, 0]], axis=1)
    relative = centres - path.points[nearest]
    arc = path.arc_m[nearest] + (relative * tangents).sum(axis=1)
    side = (relative * normals).sum(axis=1)
    turn = headings - np.arctan2(tangents[:, 1], tangents[:, 0])
    cosine, sine = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    reach = (sizes[:, 0] * cosine + sizes[:, 1] * sine) / 2
    breadth = (sizes[:, 0] * sine + sizes[:, 1] * cosine) / 2
    return arc, side, reach, breadth, speeds * np.cos(turn)


def simulate(
    lanes: Sequence[Lane], view: View, frames: int, fps: float, mean_gap_m: float, rng: np.random.Generator
) -> Iterator[list[tuple[int, Placed]]]:
    """Yield, for each of `frames` instants 1/fps apart, every vehicle's number and place."""
    flow = TrafficFlow(lanes, view, mean_gap_m, rng)
    for _ in range(frames):
        yield flow.snapshot()
        flow.advance(1.0 / fps)
