"""CLEAR MOT (Bernardin and Stiefelhagen 2008) and Identity (Ristani et al. 2016), in the conventions of TrackEval."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from sightline.core.kernels import njit
from sightline.evaluate.tracking.sequences import EPS, MATCH_IOU, IntArray, MatchedSequence
from sightline.ops.boxes import FloatArray

_CONTINUES = 1000.0
"""Added to the score of a pair that continues the match of the frame before: far above any sum of IoU it could lose."""


@dataclass(frozen=True)
class ClearCounts:
    """Counts from which every CLEAR number follows; those of sequences add up; `similarity` sums the matches' IoU."""

    tp: int
    fn: int
    fp: int
    id_switches: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    fragmentations: int
    similarity: float

    def metrics(self) -> dict[str, float]:
        """MOTA (at most 1), MOTP (mean IoU of matches), recall, precision and the counts under their usual names.

        Without any ground truth MOTA and its kin are 0, as the reference has them for a sequence.
        """
        truth, detections = max(1, self.tp + self.fn), max(1, self.tp + self.fp)
        false = self.fp if self.tp + self.fn else 0
        log_switches = math.log10(self.id_switches) if self.id_switches else 0.0
        return {
            "MOTA": (self.tp - false - self.id_switches) / truth,
            "MOTP": self.similarity / max(1, self.tp),
            "MODA": (self.tp - false) / truth,
            "sMOTA": (self.similarity - false - self.id_switches) / truth,
            "MOTAL": (self.tp - false - log_switches) / truth,
            "CLR_Re": self.tp / truth,
            "CLR_Pr": self.tp / detections,
            "CLR_F1": self.tp / max(1.0, self.tp + 0.5 * self.fn + 0.5 * self.fp),
            "CLR_TP": self.tp,
            "CLR_FN": self.fn,
            "CLR_FP": self.fp,
            "IDSW": self.id_switches,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
            "Frag": self.fragmentations,
        }


def clear_counts(sequence: MatchedSequence) -> ClearCounts:
    """The counts of one sequence.

    A frame's pairs maximise 1000 · (continues the pair of the frame before) + IoU, among pairs with an IoU of at least
    0.5. A switch is a match to another track than the last one ever matched; a frame in which either side is empty
    leaves the memory of the frame before as it was.
    """
    tracks = sequence.truth_tracks
    last_ever, last_frame = np.full(tracks, -1, dtype=np.int64), np.full(tracks, -1, dtype=np.int64)
    matched_frames, fragments = np.zeros(tracks, dtype=np.int64), np.zeros(tracks, dtype=np.int64)
    switches, similarity_sum = 0, 0.0
    for t in np.flatnonzero(np.diff(sequence.similarity_starts)):
        truth, predicted, similarity = sequence.frame(int(t))
        score = _CONTINUES * (predicted == last_frame[truth, None]) + similarity
        score[similarity < MATCH_IOU - EPS] = 0.0
        rows, cols = linear_sum_assignment(-score)
        matched = score[rows, cols] > EPS
        rows, cols = rows[matched], cols[matched]
        truth_matched, predicted_matched = truth[rows], predicted[cols]
        before = last_ever[truth_matched]
        switches += int(((before >= 0) & (before != predicted_matched)).sum())
        matched_frames[truth_matched] += 1
        fragments[truth_matched] += last_frame[truth_matched] < 0
        last_ever[truth_matched] = predicted_matched
        last_frame[:] = -1
        last_frame[truth_matched] = predicted_matched
        similarity_sum += float(similarity[rows, cols].sum())
    tp = int(matched_frames.sum())
    # The ratio is divided, not multiplied out: the reference compares the quotient with 0.8 and 0.2 in floating point.
    ratio = matched_frames / np.maximum(1, np.bincount(sequence.truth_ids, minlength=tracks))
    mostly, partly = int((ratio > 0.8).sum()), int((ratio >= 0.2).sum())
    return ClearCounts(
        tp=tp,
        fn=len(sequence.truth_ids) - tp,
        fp=len(sequence.predicted_ids) - tp,
        id_switches=switches,
        mostly_tracked=mostly,
        partly_tracked=partly - mostly,
        mostly_lost=tracks - partly,
        fragmentations=int((fragments[fragments > 0] - 1).sum()),
        similarity=similarity_sum,
    )


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
    """How often each pair of tracks agrees; a kernel for the same reason as HOTA's."""
    at = 0
    for t in range(len(truth_starts) - 1):
        predicted = predicted_ids[predicted_starts[t] : predicted_starts[t + 1]]
        for i in range(truth_starts[t], truth_starts[t + 1]):
            for j in range(len(predicted)):
                out[truth_ids[i], predicted[j]] += similarity[at + j] >= MATCH_IOU
            at += len(predicted)
    return out
