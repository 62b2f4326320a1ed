"""HOTA: higher order tracking accuracy (Luiten et al. 2021, IJCV), in the conventions of TrackEval."""

from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from sightline.core.kernels import njit
from sightline.evaluate.tracking.sequences import EPS, IntArray, MatchedSequence
from sightline.ops.boxes import FloatArray

ALPHAS: tuple[float, ...] = tuple(np.arange(0.05, 0.99, 0.05).tolist())
"""The localisation thresholds over which HOTA is averaged."""


@dataclass(frozen=True, eq=False)
class HotaSums:
    """Sums (19,), one for each of `ALPHAS`, from which every HOTA number follows; those of sequences add up.

    `alignment`, `recall` and `precision` are sums over true positives of the association Jaccard index, recall and
    precision of their pair of tracks; `similarity` is the sum of their IoU.
    """

    tp: FloatArray
    fn: FloatArray
    fp: FloatArray
    similarity: FloatArray
    alignment: FloatArray
    recall: FloatArray
    precision: FloatArray

    def by_alpha(self) -> dict[str, FloatArray]:
        """HOTA and its parts (19,), each in 0..1 and 1 at best."""
        tp, any_tp = self.tp, np.maximum(1.0, self.tp)
        det_a = tp / np.maximum(1.0, tp + self.fn + self.fp)
        ass_a = self.alignment / any_tp
        return {
            "HOTA": np.sqrt(det_a * ass_a),
            "DetA": det_a,
            "AssA": ass_a,
            "DetRe": tp / np.maximum(1.0, tp + self.fn),
            "DetPr": tp / np.maximum(1.0, tp + self.fp),
            "AssRe": self.recall / any_tp,
            "AssPr": self.precision / any_tp,
            # Without a single match the reference calls localisation perfect.
            "LocA": np.maximum(1e-10, self.similarity) / np.maximum(1e-10, tp),
        }


def hota_sums(sequence: MatchedSequence) -> HotaSums:
    """The sums of one sequence.

    One optimal assignment per frame maximises global alignment times IoU; the thresholds are applied to its pairs
    afterwards.
    """
    truth_counts = np.bincount(sequence.truth_ids, minlength=sequence.truth_tracks).astype(np.float64)
    predicted_counts = np.bincount(sequence.predicted_ids, minlength=sequence.predicted_tracks).astype(np.float64)
    truth_ids, predicted_ids, similarity = _assigned_pairs(sequence, truth_counts, predicted_counts)
    pairs, pair = np.unique(truth_ids * sequence.predicted_tracks + predicted_ids, return_inverse=True)
    pair_truth = truth_counts[pairs // max(1, sequence.predicted_tracks)]
    pair_predicted = predicted_counts[pairs % max(1, sequence.predicted_tracks)]
    sums = np.zeros((len(fields(HotaSums)), len(ALPHAS)))
    for a, alpha in enumerate(ALPHAS):
        matched = similarity >= alpha - EPS
        matches = np.bincount(pair[matched], minlength=len(pairs)).astype(np.float64)
        tp = matches.sum()
        sums[:, a] = (
            tp,
            len(sequence.truth_ids) - tp,
            len(sequence.predicted_ids) - tp,
            similarity[matched].sum(),
            (matches * matches / np.maximum(1.0, pair_truth + pair_predicted - matches)).sum(),
            (matches * matches / np.maximum(1.0, pair_truth)).sum(),
            (matches * matches / np.maximum(1.0, pair_predicted)).sum(),
        )
    return HotaSums(*sums)


def _assigned_pairs(
    sequence: MatchedSequence, truth_counts: FloatArray, predicted_counts: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Ids and IoU of all assigned pairs of all frames, whatever their IoU."""
    potential = _potential_matches(
        sequence.truth_ids,
        sequence.truth_starts,
        sequence.predicted_ids,
        sequence.predicted_starts,
        sequence.similarity,
        sequence.similarity_starts,
        np.zeros((sequence.truth_tracks, sequence.predicted_tracks)),
    )
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    for t in np.flatnonzero(np.diff(sequence.similarity_starts)):
        truth, predicted, similarity = sequence.frame(int(t))
        common = potential[truth[:, None], predicted]
        alignment = common / (truth_counts[truth, None] + predicted_counts[predicted] - common)
        rows, cols = linear_sum_assignment(-(alignment * similarity))
        found.append((truth[rows], predicted[cols], similarity[rows, cols]))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    truth_ids, predicted_ids, similarities = zip(*found, strict=True)
    return np.concatenate(truth_ids), np.concatenate(predicted_ids), np.concatenate(similarities)


@njit(cache=True)
def _potential_matches(
    truth_ids: IntArray,
    truth_starts: IntArray,
    predicted_ids: IntArray,
    predicted_starts: IntArray,
    similarity: FloatArray,
    similarity_starts: IntArray,
    out: FloatArray,
) -> FloatArray:
    """How often each pair of tracks could have been matched, each frame shared out by similarity.

    A kernel, as frames are many and small: with NumPy frame by frame the whole measurement took 1.4 times as long
    (`benchmarks/bench_tracking_metrics.py`, whose ratio to TrackEval would retire it).
    """
    for t in range(len(truth_starts) - 1):
        truth = truth_ids[truth_starts[t] : truth_starts[t + 1]]
        predicted = predicted_ids[predicted_starts[t] : predicted_starts[t + 1]]
        flat = similarity[similarity_starts[t] : similarity_starts[t + 1]]
        _share_out(truth, predicted, flat.reshape((len(truth), len(predicted))), out)
    return out


@njit(cache=True)
def _share_out(truth: IntArray, predicted: IntArray, similarity: FloatArray, out: FloatArray) -> None:
    """Add to each pair its IoU over all the IoU its two boxes have with anything in the frame."""
    by_truth, by_predicted = np.zeros(len(truth)), np.zeros(len(predicted))
    for i in range(len(truth)):
        for j in range(len(predicted)):
            by_truth[i] += similarity[i, j]
            by_predicted[j] += similarity[i, j]
    for i in range(len(truth)):
        for j in range(len(predicted)):
            whole = by_truth[i] + by_predicted[j] - similarity[i, j]
            if whole > EPS:
                out[truth[i], predicted[j]] += similarity[i, j] / whole
