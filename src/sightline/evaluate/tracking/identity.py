"""Identity metrics: IDF1, IDP, IDR (Ristani et al. 2016), in the conventions of TrackEval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

from sightline.evaluate.tracking.sequences import MATCH_IOU, IntArray, MatchedSequence
from sightline.ops.boxes import FloatArray


@dataclass(frozen=True)
class IdentityCounts:
    """Boxes on the best one-to-one pairing of whole tracks (`tp`) and off it; those of sequences add up."""

    tp: int
    fn: int
    fp: int

    def metrics(self) -> dict[str, float]:
        """IDF1, IDP and IDR, each in 0..1 and 1 at best, and the counts."""
        return {
            "IDF1": self.tp / max(1.0, self.tp + 0.5 * self.fp + 0.5 * self.fn),
            "IDP": self.tp / max(1, self.tp + self.fp),
            "IDR": self.tp / max(1, self.tp + self.fn),
            "IDTP": self.tp,
            "IDFN": self.fn,
            "IDFP": self.fp,
        }


def combine_identity(parts: Sequence[IdentityCounts]) -> IdentityCounts:
    """All sequences taken as one: every count adds up."""
    return IdentityCounts(sum(p.tp for p in parts), sum(p.fn for p in parts), sum(p.fp for p in parts))


def identity_counts(sequence: MatchedSequence) -> IdentityCounts:
    """The counts of one sequence, from the pairing of tracks that leaves the fewest false boxes on both sides.

    Errors are all boxes less twice the boxes that agree (IoU at least 0.5) along the pairing, so the pairing with most
    agreeing boxes is the one, and no rows for unpaired tracks are needed.
    """
    agreeing = _agreeing_frames(
        sequence.truth_ids,
        sequence.truth_starts,
        sequence.predicted_ids,
        sequence.predicted_starts,
        sequence.similarity,
        np.zeros((sequence.truth_tracks, sequence.predicted_tracks), dtype=np.int64),
    )
    rows, cols = linear_sum_assignment(agreeing, maximize=True)
    tp = int(agreeing[rows, cols].sum())
    return IdentityCounts(tp=tp, fn=len(sequence.truth_ids) - tp, fp=len(sequence.predicted_ids) - tp)


@njit(cache=True)
def _agreeing_frames(
    truth_ids: IntArray,
    truth_starts: IntArray,
    predicted_ids: IntArray,
    predicted_starts: IntArray,
    similarity: FloatArray,
    out: IntArray,
) -> IntArray:
    at = 0
    for t in range(len(truth_starts) - 1):
        predicted = predicted_ids[predicted_starts[t] : predicted_starts[t + 1]]
        for i in range(truth_starts[t], truth_starts[t + 1]):
            for j in range(len(predicted)):
                out[truth_ids[i], predicted[j]] += similarity[at + j] >= MATCH_IOU
            at += len(predicted)
    return out
