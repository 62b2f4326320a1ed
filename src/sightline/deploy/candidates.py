"""Candidates of networks that choose among them: they may come in another order, and by rounding a few be others."""

import numpy as np
import numpy.typing as npt

from sightline.infer import Outputs
from sightline.ops.assignment import assign

__all__ = ["pair_candidates"]

_ROWS = 32  # compared with all others at once


def pair_candidates(expected: Outputs, got: Outputs, box_px: float, score: float) -> tuple[Outputs, Outputs, int]:
    """Two sides' outputs for a batch, the second in the first's order, and how many candidates have no partner.

    Outputs of one order and within the tolerances come back as they are, as do those that cannot be paired. Others
    come back without the candidates that have no partner, those of all images one after another: (R, …).
    """
    boxes = expected.get("boxes_xyxy")
    shapes = {name: array.shape for name, array in expected.items()}
    if boxes is None or shapes != {name: array.shape for name, array in got.items()}:
        return expected, got, 0
    if not all(np.isfinite(array).all() for array in (*expected.values(), *got.values())):
        return expected, got, 0
    if _apart(boxes, got["boxes_xyxy"]) <= box_px and _apart(expected["scores"], got["scores"]) <= score:
        return expected, got, 0
    pairs = []
    for image in range(len(boxes)):
        own, other = ((side["boxes_xyxy"][image], side["scores"][image]) for side in (expected, got))
        pairs.append(assign(_costs(own, other, box_px, score), box_px + score))
    if not sum(len(rows) for rows, _ in pairs):
        return expected, got, 0
    sides = []
    for side, which in ((expected, 0), (got, 1)):
        sides.append(
            {
                name: array
                if name == "prototypes"
                else np.concatenate([array[i][chosen[which]] for i, chosen in enumerate(pairs)])
                for name, array in side.items()
            }
        )
    return sides[0], sides[1], boxes.shape[0] * boxes.shape[1] - sum(len(rows) for rows, _ in pairs)


def _apart(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    return float(np.abs(first - second).max(initial=0.0))


def _costs(
    own: tuple[npt.NDArray[np.floating], ...], other: tuple[npt.NDArray[np.floating], ...], box_px: float, score: float
) -> npt.NDArray[np.float64]:
    """How far apart each two candidates are, infinite beyond the tolerances."""
    boxes, scores = (
        np.concatenate([np.abs(mine[i : i + _ROWS, None] - theirs).max(2) for i in range(0, len(mine), _ROWS)]).astype(
            np.float64
        )
        for mine, theirs in zip(own, other, strict=True)
    )
    return np.where((boxes <= box_px) & (scores <= score), boxes + scores, np.inf)
