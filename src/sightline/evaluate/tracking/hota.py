"""HOTA: higher order tracking accuracy (Luiten et al. 2021, IJCV), in the conventions of TrackEval."""

from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

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
    potential = _potential_matches(sequence)
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


def _potential_matches(sequence: MatchedSequence) -> FloatArray:
    """How often each pair of tracks could have been matched.

    Each frame adds to a pair its IoU over all the IoU its two boxes have with anything in the frame.
    """
    potential = np.zeros((sequence.truth_tracks, sequence.predicted_tracks))
    for t in np.flatnonzero(np.diff(sequence.similarity_starts)):
        truth, predicted, similarity = sequence.frame(int(t))
        whole = similarity.sum(axis=1)[:, None] + similarity.sum(axis=0) - similarity
        share = np.divide(similarity, whole, out=np.zeros(similarity.shape), where=whole > EPS)
        potential[truth[:, None], predicted] += share
    return potential
