"""Traffic: stills and videos of vehicles from above, with exact labels, from one seed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sightline.synth.labels import SceneObject, label_all
from sightline.synth.placement import Driver, Placed, fill_lanes
from sightline.synth.roads import LAYOUT_KINDS, LayoutKind
from sightline.synth.scenery import BridgeKind
from sightline.synth.simulation import simulate
from sightline.synth.stage import Stage, build_stage, draw

__all__ = []

_KIND_SHARES: Final = (0.32, 0.28, 0.24, 0.16)
_ENOUGH: Final = 3
_MOST: Final = 18
_MARGIN_M: Final = 8.0


@dataclass(frozen=True, eq=False)
class TrafficImage:
    """A picture, RGB uint8 (H, W, 3), and the labels of all vehicles in it, hidden ones included."""

    image: npt.NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


def render_traffic(rng: np.random.Generator, size_hw: tuple[int, int]) -> TrafficImage:
    """Return one random traffic scene seen from above.

    The same state of `rng` gives the same bytes on the same versions of numpy and OpenCV. See `labels` for what boxes,
    masks, occlusion and truncation mean. A car is 32 to 43 pixels long whatever the size.
    """
    kind = LAYOUT_KINDS[int(rng.choice(len(LAYOUT_KINDS), p=_KIND_SHARES))]
    stage = build_stage(kind, size_hw, _sample_bridge(kind, rng), rng)
    drivers = _sample_traffic(stage, rng)
    placed = [driver.place() for driver in drivers]
    image = draw(stage, placed, rng)
    return TrafficImage(image, label_all(stage.view, placed, stage.transmittances, [None] * len(placed)))


def _sample_bridge(kind: LayoutKind, rng: np.random.Generator) -> BridgeKind | None:
    wanted = rng.random() < 0.28
    road = rng.random() < 0.35
    if kind in {"crossing", "tee"} or not wanted:
        return None
    return "road" if road else "footbridge"


def _sample_traffic(stage: Stage, rng: np.random.Generator) -> list[Driver]:
    """Return vehicles for a still: never fewer than a few, thinned out where the lanes are many."""
    gap_m = float(rng.uniform(5.0, 13.0))
    green = int(rng.integers(0, 2))
    drivers: list[Driver] = []
    for _ in range(4):
        drivers = fill_lanes(stage.lanes, stage.view, _MARGIN_M, gap_m, green, rng)
        if len(drivers) >= _ENOUGH:
            break
        gap_m *= 0.6
    area_share = stage.view.size_hw[0] * stage.view.size_hw[1] / 320**2
    most = max(_ENOUGH, int(_MOST * area_share * 1.4))
    kept = rng.permutation(len(drivers))[:most]
    return [drivers[i] for i in sorted(kept)]


_FRAMES_AHEAD: Final = 8


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """One frame: RGB uint8 (H, W, 3), 0-based index, seconds since the first, and the labels of all vehicles in it.

    Wholly hidden vehicles are included. Track ids count from 1 in order of first appearance.
    """

    image: npt.NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    index: int
    time_s: float


def render_traffic_sequence(
    rng: np.random.Generator, size_hw: tuple[int, int], *, frames: int, fps: float, workers: int = 1
) -> Iterator[SequenceFrame]:
    """Yield a video's frames: a straight or winding road below a bridge, camera at rest, traffic driving.

    Drawing runs in `workers` threads; the frames are the same for any number of them.
    """
    kind: LayoutKind = "curve" if rng.random() < 0.6 else "straight"
    bridge: BridgeKind = "footbridge" if rng.random() < 0.75 else "road"
    stage = build_stage(kind, size_hw, bridge, rng)
    gap_m = float(rng.uniform(10.0, 18.0))
    noise_seed = int(rng.integers(2**62))
    numbers: dict[int, int] = {}
    moments = enumerate(simulate(stage.lanes, stage.view, frames, fps, gap_m, rng))
    pending: deque[Future[tuple[npt.NDArray[np.uint8], tuple[SceneObject, ...]]]] = deque()
    index = 0
    with ThreadPoolExecutor(workers) as pool:
        for number, moment in moments:
            pending.append(pool.submit(_render, stage, moment, (noise_seed, number)))
            if len(pending) > _FRAMES_AHEAD:
                yield _finish(pending.popleft().result(), index, fps, numbers)
                index += 1
        while pending:
            yield _finish(pending.popleft().result(), index, fps, numbers)
            index += 1


def _render(
    stage: Stage, moment: list[tuple[int, Placed]], seed: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], tuple[SceneObject, ...]]:
    numbers, placed = [n for n, _ in moment], [p for _, p in moment]
    image = draw(stage, placed, np.random.default_rng(seed))
    return image, label_all(stage.view, placed, stage.transmittances, numbers)


def _finish(
    drawn: tuple[npt.NDArray[np.uint8], tuple[SceneObject, ...]], index: int, fps: float, numbers: dict[int, int]
) -> SequenceFrame:
    """Give vehicles their track ids: 1, 2, 3... as they first appear."""
    image, objects = drawn
    named = []
    for item in objects:
        assert item.track_id is not None
        named.append(item.with_track(numbers.setdefault(item.track_id, len(numbers) + 1)))
    return SequenceFrame(image, tuple(named), index, index / fps)
