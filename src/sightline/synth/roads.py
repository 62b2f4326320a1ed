"""Road layouts: where asphalt lies, what is painted on it, and which lanes lead where. Traffic keeps to the right."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from sightline.synth.plane import Path, Points, dashes, fillet, resample, ribbon, straight, winding

LayoutKind: TypeAlias = Literal["straight", "curve", "crossing", "tee"]
LAYOUT_KINDS: Final[tuple[LayoutKind, ...]] = get_args(LayoutKind)

_LINE_M: Final = 0.16


@dataclass(frozen=True, eq=False)
class Lane:
    """One lane from where vehicles enter to where they leave.

    `stop_m` is the arc length of its stop line and `signal` the group (0 or 1) that may cross it at a time; both None
    where nothing stops the traffic. `narrow` lanes turn too tightly for trucks and buses. `level` 1 lies on a bridge.
    """

    path: Path
    speed_mps: float
    parked: bool = False
    stop_m: float | None = None
    signal: int | None = None
    narrow: bool = False
    level: int = 0


@dataclass(eq=False)
class Layout:
    """A piece of road network in world metres: polygons of asphalt, islands in it, paint, and lanes."""

    kind: LayoutKind
    spine: Path
    half_width_m: float
    asphalt: list[Points] = field(default_factory=list)
    islands: list[Points] = field(default_factory=list)
    white: list[Points] = field(default_factory=list)
    yellow: list[Points] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)


def build_layout(kind: LayoutKind, reach_m: float, rng: np.random.Generator) -> Layout:
    """Return a random layout of a kind whose lanes begin and end more than `reach_m` from the origin."""
    if kind in {"crossing", "tee"}:
        return _junction(kind, reach_m + 20.0, rng)
    return _single_road(kind, reach_m + 20.0, rng)


def _single_road(kind: LayoutKind, reach_m: float, rng: np.random.Generator) -> Layout:
    # Lanes are wider in bends, where a bus needs more room than it is wide.
    lane_m = float(rng.uniform(3.5, 3.8)) if kind == "curve" else float(rng.uniform(3.2, 3.6))
    per_side = int(rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2]))
    if kind == "curve":
        # Never so long a bend that the road comes back into the picture.
        tightest = min(1.0 / (26.0 + 6.0 * per_side), 0.95 / reach_m)
        bends = rng.uniform(0.35, 1.0, size=4) * tightest * rng.choice([-1.0, 1.0])
        bends *= np.where(rng.random() < 0.4, np.array([1.0, 1.0, -1.0, -1.0]), 1.0)
        spine = winding(2 * reach_m, np.concatenate([[0.0, 0.0], bends, [0.0, 0.0]]))
    else:
        spine = straight((-reach_m, 0.0), (reach_m, 0.0))
    median_m = float(rng.uniform(1.6, 3.2)) if per_side >= 2 and rng.random() < 0.35 else 0.0
    bay_m = 2.3 if kind == "straight" and per_side <= 2 and rng.random() < 0.5 else 0.0
    half = median_m / 2 + per_side * lane_m + bay_m + 0.35
    layout = Layout(kind, spine, half, asphalt=[ribbon(spine, 2 * half)])
    _paint_middle(layout, spine, median_m, per_side, rng)
    speeds = _lane_speeds(per_side, rng)
    dash_m, gap_m = float(rng.uniform(1.8, 3.0)), float(rng.uniform(3.0, 5.0))
    for way in (spine, spine.reversed()):
        for i in range(per_side):
            middle = median_m / 2 + (i + 0.5) * lane_m
            layout.lanes.append(Lane(way.offset(middle), speeds[i]))
            if i > 0:
                line = way.offset(median_m / 2 + i * lane_m)
                layout.white += dashes(line, _LINE_M, dash_m, gap_m, float(rng.uniform(0, 3)))
        edge = way.offset(median_m / 2 + per_side * lane_m)
        if bay_m:
            layout.lanes.append(Lane(way.offset(median_m / 2 + per_side * lane_m + bay_m / 2), 0.0, parked=True))
            layout.white += dashes(edge, 0.12, 0.8, 5.4)
        else:
            layout.white.append(ribbon(edge, _LINE_M))
    return layout


def _lane_speeds(per_side: int, rng: np.random.Generator) -> list[float]:
    """Return lane speeds in m/s, fastest in the middle of the road, slowest at the kerb."""
    fastest = float(rng.uniform(9.5, 13.0))
    return [fastest * (1.0 - 0.16 * i) for i in range(per_side)]


def _paint_middle(layout: Layout, spine: Path, median_m: float, per_side: int, rng: np.random.Generator) -> None:
    if median_m:
        layout.islands.append(ribbon(spine, median_m - 0.9))
        layout.white += [ribbon(spine.offset(side * (median_m / 2 - 0.08)), _LINE_M) for side in (-1, 1)]
        return
    paint = layout.yellow if rng.random() < 0.3 else layout.white
    if per_side == 1 and rng.random() < 0.6:
        paint += dashes(spine, _LINE_M, 2.5, 3.5)
    else:
        paint += [ribbon(spine.offset(side * 0.2), _LINE_M) for side in (-1, 1)]


@dataclass(frozen=True, eq=False)
class _Arm:
    """One road leaving a junction's centre along the unit vector `out`, `lanes` each way."""

    out: Points
    lanes: int
    signal: int

    @property
    def right(self) -> Points:
        """Right-hand side when leaving the junction."""
        return np.array([-self.out[1], self.out[0]])


def _junction(kind: LayoutKind, reach_m: float, rng: np.random.Generator) -> Layout:
    lane_m = float(rng.uniform(3.2, 3.6))
    main = int(rng.choice([1, 2], p=[0.35, 0.65]))
    side = int(rng.choice([1, 2], p=[0.5, 0.5])) if kind == "crossing" else 1
    angle = np.deg2rad(90.0 + rng.uniform(-12.0, 12.0))
    along, across = np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    arms = [_Arm(along, main, 0), _Arm(across, side, 1), _Arm(-along, main, 0)]
    if kind == "crossing":
        arms.append(_Arm(-across, side, 1))
    corner_m = float(rng.uniform(3.5, 6.0))
    half_main, half_side = main * lane_m + 0.35, side * lane_m + 0.35
    spine = straight(-along * reach_m, along * reach_m)
    layout = Layout(kind, spine, half_main, asphalt=[ribbon(spine, 2 * half_main)])
    start = across * (-reach_m if kind == "crossing" else 0.0)
    layout.asphalt.append(ribbon(straight(start, across * reach_m), 2 * half_side))
    halves = [half_main, half_side, half_main, half_side]
    for i, arm in enumerate(arms):
        following = arms[(i + 1) % len(arms)]
        if abs(float(arm.out @ following.out)) < 0.9:
            layout.asphalt.append(_corner(arm, following, halves[i], halves[(i + 1) % 4], corner_m))
    clear = {0: half_side / np.sin(angle) + corner_m + 0.4, 1: half_main / np.sin(angle) + corner_m + 0.4}
    zebra = rng.random() < 0.65
    for arm in arms:
        _paint_arm(layout, arm, lane_m, float(clear[arm.signal]), reach_m, zebra, rng)
    speed = float(rng.uniform(7.5, 10.0))
    for i, arm in enumerate(arms):
        exit_right = _arm_to_the_right(arms, i)
        stop = float(clear[arm.signal]) + (3.6 if zebra else 0.6)
        _approach(layout, arm, exit_right, lane_m, corner_m, (reach_m, stop), speed, rng)
    return layout


def _corner(arm: _Arm, following: _Arm, half_a: float, half_b: float, radius_m: float) -> Points:
    """Return the asphalt between two kerbs and the arc that rounds them (clockwise neighbours in the picture)."""
    corner = _meet(arm.right * half_a, arm.out, -following.right * half_b, following.out)
    return np.concatenate([corner[None], fillet(corner, arm.out, following.out, radius_m)])


def _meet(point_a: Points, along_a: Points, point_b: Points, along_b: Points) -> Points:
    """Return where two lines, each a point and a direction, cross."""
    system = np.stack([along_a, -along_b], axis=1)
    distance = np.linalg.solve(system, point_b - point_a)
    return np.asarray(point_a + distance[0] * along_a)


def _arm_to_the_right(arms: list[_Arm], index: int) -> _Arm | None:
    """Return the arm into which traffic arriving on an arm turns right, if there is one."""
    heading = -arms[index].out
    right = np.array([-heading[1], heading[0]])
    found = [arm for arm in arms if float(arm.out @ right) > 0.9]
    return found[0] if found else None


def _paint_arm(
    layout: Layout, arm: _Arm, lane_m: float, clear_m: float, reach_m: float, zebra: bool, rng: np.random.Generator
) -> None:
    line_from = clear_m + (3.6 if zebra else 0.6)
    middle = straight(arm.out * line_from, arm.out * reach_m)
    paint = layout.yellow if rng.random() < 0.2 else layout.white
    paint += [ribbon(middle.offset(side * 0.18), _LINE_M) for side in (-1, 1)]
    half = arm.lanes * lane_m
    for i in range(1, arm.lanes):
        for side in (-1, 1):
            layout.white += dashes(middle.offset(side * i * lane_m), _LINE_M, 2.5, 2.5)
    # Arriving traffic keeps to its own right: the left when looking out along the arm.
    stop = [arm.out * line_from - arm.right * 0.3, arm.out * line_from - arm.right * half]
    layout.white.append(ribbon(straight(stop[0], stop[1]), 0.45))
    if zebra:
        for across in np.arange(-half + 0.35, half - 0.2, 1.0):
            foot = arm.right * across + arm.out * clear_m
            layout.white.append(ribbon(straight(foot, foot + arm.out * 2.7), 0.5))


def _approach(
    layout: Layout,
    arm: _Arm,
    exit_right: _Arm | None,
    lane_m: float,
    corner_m: float,
    reach_and_stop_m: tuple[float, float],
    speed_mps: float,
    rng: np.random.Generator,
) -> None:
    """Add the lanes that arrive on one arm: straight on, or right for the outer lane."""
    reach_m, stop = reach_and_stop_m
    opposite = layout.kind == "crossing" or arm.signal == 0
    for i in range(arm.lanes):
        start = arm.out * reach_m - arm.right * (i + 0.5) * lane_m
        outer = i == arm.lanes - 1
        turns = outer and exit_right is not None and (not opposite or rng.random() < 0.4)
        arrow_at = arm.out * (stop + 2.2) - arm.right * (i + 0.5) * lane_m
        layout.white += _arrow(arrow_at, -arm.out, turns)
        lane = Lane(straight(start, start - arm.out * 2 * reach_m), speed_mps, stop_m=reach_m - stop, signal=arm.signal)
        if turns and exit_right is not None:
            side = exit_right.right * (exit_right.lanes - 0.5) * lane_m
            corner = _meet(start, arm.out, side, exit_right.out)
            arc = fillet(corner, arm.out, exit_right.out, corner_m + lane_m / 2)
            points = np.concatenate([start[None], arc, (corner + exit_right.out * reach_m)[None]])
            lane = replace(lane, path=resample(points), narrow=True, speed_mps=0.6 * speed_mps)
        layout.lanes.append(lane)


def _arrow(tip_xy: Points, heading: Points, turns: bool) -> list[Points]:
    """Return a painted arrow of 3 m that ends at `tip_xy`, straight or bent to the right."""
    frame = np.stack([heading, np.array([-heading[1], heading[0]])])
    if turns:
        shapes = [
            [(-3.0, -0.08), (-1.0, -0.08), (-1.0, 0.08), (-3.0, 0.08)],
            [(-1.16, -0.08), (-1.0, -0.08), (-0.9, 0.45), (-1.1, 0.45)],
            [(-1.45, 0.40), (-0.55, 0.40), (-1.0, 1.05)],
        ]
    else:
        shapes = [[(-3.0, -0.08), (-1.1, -0.08), (-1.1, 0.08), (-3.0, 0.08)], [(-1.2, -0.38), (0.0, 0.0), (-1.2, 0.38)]]
    return [np.asarray(shape) @ frame + tip_xy for shape in shapes]
