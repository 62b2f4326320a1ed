"""Traffic stills: one picture of vehicles from above, with exact labels, from one seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sightline.synth.labels import SceneObject, label_all
from sightline.synth.placement import Driver, fill_lanes
from sightline.synth.roads import LAYOUT_KINDS, LayoutKind
from sightline.synth.scenery import BridgeKind
from sightline.synth.stage import Stage, build_stage, draw

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
