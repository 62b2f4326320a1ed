"""Signs that the results of a tracker are of another film than the ground truth: its size, length or numbering."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sightline.evaluate.tracking.sequences import MATCH_IOU, MatchedSequence, Preprocessing, TrackRows, match_sequence
from sightline.ops.boxes import FloatArray

__all__ = ["doubts"]

LEAST_BOXES = 10
"""With fewer boxes chance alone makes any hypothesis look good."""
WELL_FOUND, CLEARLY_BETTER = 0.5, 0.3
"""Where half of the boxes are met as they are, nothing else is tried; a hypothesis must meet this share more."""
OTHER_SCALE = 1.2
"""Ratio of extents from which two sides may be of other resolutions: trackers seldom miss a fifth of the picture."""


def doubts(
    name: str, truth: TrackRows, predicted: TrackRows, matched: MatchedSequence, frames: int | None
) -> list[str]:
    """Sentences about one sequence: boxes beyond its `frames`, and what else the boxes seem to be; mostly none.

    `matched` are the two sides as they were measured.
    """
    said = []
    if frames is not None and len(predicted) and (beyond := int((predicted.frames >= frames).sum())):
        said.append(
            f"{name}: {beyond} boxes lie beyond the sequence's {frames} frames, up to {predicted.frames.max() + 1}"
        )
    as_it_is = _met_share(matched)
    if not len(predicted) or len(truth) < LEAST_BOXES or as_it_is >= WELL_FOUND:
        return said
    for sentence, other in _hypotheses(truth, predicted):
        share = _met_share(match_sequence(name, truth, other, preprocessing=_PLAIN))
        if share >= as_it_is + CLEARLY_BETTER:
            return [*said, f"{name}: {sentence}: {share:.0%} of the boxes are met then, {as_it_is:.0%} as it is"]
    return said


_PLAIN: Preprocessing = "mot15"


def _hypotheses(truth: TrackRows, predicted: TrackRows) -> Iterator[tuple[str, TrackRows]]:
    scale = _extent(truth.boxes_xyxy) / np.maximum(_extent(predicted.boxes_xyxy), 1.0)
    if max(scale.max(), 1 / scale.min()) >= OTHER_SCALE:
        sentence = (
            f"boxes look like those of a picture {1 / scale[0]:.2g} times as wide and {1 / scale[1]:.2g} times as high"
        )
        yield sentence, replace(predicted, boxes_xyxy=predicted.boxes_xyxy * np.tile(scale, 2))
    for step, how in ((1, "one too low"), (-1, "one too high")):
        kept = predicted.take(predicted.frames + step >= 0)
        yield f"frame numbers look {how}", replace(kept, frames=kept.frames + step)
    corner, far = predicted.boxes_xyxy[:, :2], predicted.boxes_xyxy[:, 2:]
    corners = np.concatenate([corner, far - corner], axis=1)
    yield "boxes look like corners where x, y, width, height were read", replace(predicted, boxes_xyxy=corners)


def _extent(boxes_xyxy: FloatArray) -> FloatArray:
    """How far to the right and down nearly all boxes reach, a pixel at least; a few may leave the picture."""
    return np.maximum(np.percentile(boxes_xyxy[:, 2:], 99, axis=0), 1.0)


def _met_share(matched: MatchedSequence) -> float:
    """Share of the ground truth's boxes that a box of the same frame overlaps by `MATCH_IOU`."""
    met = sum(int((matched.frame(t)[2] >= MATCH_IOU).any(axis=1).sum()) for t in range(matched.frame_count))
    return met / max(1, len(matched.truth_ids))
