"""Vehicles on lanes: poses along a path, filling lanes with traffic, and the rule that vehicles never overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sightline.synth.plane import Points, View
from sightline.synth.roads import Lane
from sightline.synth.vehicles import CLASS_NAMES, Vehicle, sample_vehicle

CLASS_SHARES = (0.54, 0.21, 0.14, 0.11)  # how often each of CLASS_NAMES drives by
_SMALL_SHARES = (0.72, 0.28, 0.0, 0.0)
_BAY_M = 6.2
_CLEARANCE_M = 0.35


@dataclass(frozen=True, eq=False)
class Placed:
    """A vehicle somewhere: middle of its outline in world metres, heading in the world, speed, level (1 = bridge)."""

    vehicle: Vehicle
    xy_m: Points
    heading_rad: float
    speed_mps: float
    level: int = 0

    def corners_m(self, margin_m: float = 0.0) -> Points:
        """Return the corners (4, 2) of the surrounding rectangle, grown by a margin."""
        half_x, half_y = self.vehicle.length_m / 2 + margin_m, self.vehicle.width_m / 2 + margin_m
        local = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
        return self.to_world(local)

    def to_world(self, points_m: Points) -> Points:
        """Return world points (N, 2) of points in the vehicle frame."""
        cosine, sine = np.cos(self.heading_rad), np.sin(self.heading_rad)
        return np.asarray(points_m @ np.array([[cosine, sine], [-sine, cosine]]) + self.xy_m)


def place_on_lane(vehicle: Vehicle, lane: Lane, arc_m: float, lateral_m: float, speed_mps: float) -> Placed:
    """Return the vehicle with the middle of its axles at an arc length, both axles on the lane's path.

    The heading is the chord between the axles, so a long vehicle cuts a bend as it does on the road.
    """
    half = vehicle.wheelbase_m / 2
    rear, front = lane.path.at(np.array([arc_m - half, arc_m + half]))
    chord = front - rear
    heading = float(np.arctan2(chord[1], chord[0]))
    right = np.array([-np.sin(heading), np.cos(heading)])
    return Placed(vehicle, (rear + front) / 2 + lateral_m * right, heading, speed_mps, lane.level)


def overlap(a: Placed, b: Placed, margin_m: float = 0.0) -> bool:
    """Whether two vehicles on one level come closer than a margin (separating axes of their rectangles)."""
    if a.level != b.level:
        return False
    reach = (a.vehicle.length_m + b.vehicle.length_m + a.vehicle.width_m + b.vehicle.width_m) / 2 + margin_m
    if float(np.hypot(*(a.xy_m - b.xy_m))) > reach:
        return False
    first, second = a.corners_m(margin_m), b.corners_m()
    for heading in (a.heading_rad, b.heading_rad):
        axes = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
        one, other = first @ axes, second @ axes
        if np.any(one.max(axis=0) <= other.min(axis=0)) or np.any(other.max(axis=0) <= one.min(axis=0)):
            return False
    return True


@dataclass(eq=False)
class Driver:
    """A vehicle's state along its lane; `wish_mps` is the speed it would drive alone."""

    vehicle: Vehicle
    lane: Lane
    arc_m: float
    lateral_m: float
    speed_mps: float
    wish_mps: float

    def place(self) -> Placed:
        """Return where the vehicle is now."""
        return place_on_lane(self.vehicle, self.lane, self.arc_m, self.lateral_m, self.speed_mps)


def fill_lanes(
    lanes: Sequence[Lane], view: View, margin_m: float, mean_gap_m: float, green: int, rng: np.random.Generator
) -> list[Driver]:
    """Return traffic on every lane within `margin_m` of the picture, no two vehicles closer than 0.35 m.

    Lanes whose signal is not `green` queue at their stop line; the others flow with exponential gaps.
    """
    drivers: list[Driver] = []
    centre = np.asarray(view.centre_xy_m)
    for lane in lanes:
        away = np.hypot(*(lane.path.points - centre).T)
        seen = lane.path.arc_m[away < view.reach_m + margin_m]
        if len(seen) == 0:
            continue
        queue = lane.stop_m is not None and lane.signal != green
        last = lane.stop_m if queue and lane.stop_m is not None else float(seen[-1])
        candidates = _bays(lane, seen, rng) if lane.parked else _row(lane, float(seen[0]), last, mean_gap_m, queue, rng)
        poses = [d.place() for d in drivers]
        for candidate in candidates:
            pose = candidate.place()
            if not any(overlap(pose, other, _CLEARANCE_M) for other in poses):
                drivers.append(candidate)
                poses.append(pose)
    return drivers


def _bays(lane: Lane, seen_m: Points, rng: np.random.Generator) -> list[Driver]:
    """Return vehicles parked in some of the bays along a lane."""
    share = float(rng.uniform(0.25, 0.75))
    parked = []
    for arc in np.arange(_BAY_M * np.ceil(seen_m[0] / _BAY_M), seen_m[-1], _BAY_M):
        if rng.random() < share:
            vehicle = sample_vehicle(rng, (0.85, 0.15, 0.0, 0.0))
            slack = max(0.0, (_BAY_M - vehicle.length_m) / 2 - 0.3)
            parked.append(
                Driver(vehicle, lane, arc + float(rng.uniform(-slack, slack)), float(rng.uniform(-0.1, 0.1)), 0.0, 0.0)
            )
    return parked


def _row(
    lane: Lane, first_m: float, last_m: float, mean_gap_m: float, queue: bool, rng: np.random.Generator
) -> list[Driver]:
    """Return vehicles from the far end of a lane backwards: a queue, or flowing traffic."""
    row: list[Driver] = []
    front = last_m - 0.8 if queue else last_m - float(rng.uniform(0.0, 2.0 * mean_gap_m))
    while front > first_m:
        driver = new_driver(lane, 0.0, rng)
        driver.arc_m = front - driver.vehicle.length_m / 2
        if queue:
            driver.speed_mps = 0.0
            gap = float(rng.uniform(1.6, 2.8))
            if rng.random() < 0.18:
                break
        else:
            gap = 2.5 + float(rng.exponential(mean_gap_m))
        row.append(driver)
        front = driver.arc_m - driver.vehicle.length_m / 2 - gap
    return row


def new_driver(lane: Lane, arc_m: float, rng: np.random.Generator) -> Driver:
    """Return a random vehicle for a lane, at its wished speed; big ones drive slower and keep out of tight turns."""
    vehicle = sample_vehicle(rng, _SMALL_SHARES if lane.narrow else CLASS_SHARES)
    big = CLASS_NAMES[vehicle.class_id] in {"truck", "bus"}
    slower, sway_m = (0.9, 0.06) if big else (1.0, 0.22)
    wish = lane.speed_mps * slower * float(rng.uniform(0.86, 1.14))
    return Driver(vehicle, lane, arc_m, float(rng.uniform(-sway_m, sway_m)), wish, wish)
