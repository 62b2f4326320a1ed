"""The numbers of tracked sequences, each alone and all as one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import polars as pl

from sightline.core.errors import DataError
from sightline.core.results import Result
from sightline.evaluate.tracking.clear_identity import (
    ClearCounts,
    IdentityCounts,
    clear_counts,
    identity_counts,
)
from sightline.evaluate.tracking.hota import ALPHAS, HotaSums, hota_sums
from sightline.evaluate.tracking.sequences import DISTRACTORS, MATCH_IOU, MatchedSequence, Preprocessing

COMBINED = "COMBINED"
_Counts = TypeVar("_Counts", HotaSums, ClearCounts, IdentityCounts)
_COUNTED = {
    "none": "all ground truth",
    "mot15": "ground truth not marked ignored; classes play no part",
    "mot17": "pedestrians not marked ignored",
    "mot20": "pedestrians not marked ignored",
}


@dataclass(frozen=True)
class TrackingScores:
    """The numbers of one sequence, or of all combined.

    `metrics` has HOTA (mean over 19 alphas) and its parts, CLEAR and Identity under their usual names; scores are in
    0..1 and 1 at best, except MOTA and its kin, which may be negative. `by_alpha` has HOTA and its parts at each alpha.
    """

    name: str
    frames: int
    truth_boxes: int
    truth_tracks: int
    predicted_boxes: int
    predicted_tracks: int
    metrics: dict[str, float]
    by_alpha: dict[str, list[float]]

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]


@dataclass(frozen=True)
class TrackingResult(Result):
    """Tracking metrics for each sequence and for all as one (`combined`); `warnings` are reasons to doubt them."""

    sequences: tuple[TrackingScores, ...]
    combined: TrackingScores
    alphas: tuple[float, ...]
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> float:
        """A metric of all sequences combined, such as `result["HOTA"]`."""
        return self.combined[metric]

    def to_frame(self) -> pl.DataFrame:
        """A row for each sequence, then COMBINED; a column for each metric."""
        return pl.DataFrame([{"sequence": s.name, **s.metrics} for s in (*self.sequences, self.combined)])


def evaluate_sequences(
    sequences: Sequence[MatchedSequence],
    conventions: dict[str, Any],
    preprocessing: Preprocessing,
    warnings: Sequence[str] = (),
) -> TrackingResult:
    """HOTA, CLEAR and Identity of matched sequences; DataError where there is none."""
    if not sequences:
        raise DataError("the sequences to evaluate must be at least one, got none")
    hotas = [hota_sums(s) for s in sequences]
    clears = [clear_counts(s) for s in sequences]
    identities = [identity_counts(s) for s in sequences]
    parts = zip(sequences, hotas, clears, identities, strict=True)
    return TrackingResult(
        sequences=tuple(_scores(s.name, [s], h, c, i) for s, h, c, i in parts),
        combined=_scores(COMBINED, sequences, _added_up(hotas), _added_up(clears), _added_up(identities)),
        alphas=ALPHAS,
        conventions=conventions | _stated(sequences, preprocessing),
        warnings=tuple(warnings),
    )


def _added_up(parts: Sequence[_Counts]) -> _Counts:
    """All sequences taken as one: every count adds up, and so do the sums over true positives."""
    return type(parts[0])(*(sum(getattr(part, f.name) for part in parts) for f in fields(parts[0])))


def _scores(
    name: str, sequences: Sequence[MatchedSequence], hota: HotaSums, clear: ClearCounts, identity: IdentityCounts
) -> TrackingScores:
    by_alpha = hota.by_alpha()
    means = {metric: float(np.mean(values)) for metric, values in by_alpha.items()}
    return TrackingScores(
        name=name,
        frames=sum(s.frame_count for s in sequences),
        truth_boxes=sum(len(s.truth_ids) for s in sequences),
        truth_tracks=sum(s.truth_tracks for s in sequences),
        predicted_boxes=sum(len(s.predicted_ids) for s in sequences),
        predicted_tracks=sum(s.predicted_tracks for s in sequences),
        metrics=means | clear.metrics() | identity.metrics(),
        by_alpha={metric: values.tolist() for metric, values in by_alpha.items()},
    )


def _stated(sequences: Sequence[MatchedSequence], preprocessing: Preprocessing) -> dict[str, Any]:
    distractors = DISTRACTORS.get(preprocessing)
    return {
        "preprocessing": preprocessing,
        "ground_truth_counted": _COUNTED[preprocessing],
        "distractor_classes": list(distractors) if distractors else "none",
        "removed_truth_boxes": sum(s.removed_truth for s in sequences),
        "removed_predicted_boxes": sum(s.removed_predicted for s in sequences),
        "similarity": "box IoU",
        "hota_alphas": "0.05 to 0.95 by 0.05",
        "clear_identity_iou": MATCH_IOU,
        "motp": "mean IoU of matches",
        "combined": "counts added, AssA and LocA weighted by true positives",
        "reference": "TrackEval",
    }
