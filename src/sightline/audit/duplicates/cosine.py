"""Exact near-duplicates among vectors, as of images embedded by a network: joined by chains of high cosine."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sightline.audit.duplicates.hamming import Components, in_order_of_appearance

__all__ = ["near_duplicates_by_embedding"]

_BLOCK = 2048  # rows compared at once: 16 MiB of cosines


def near_duplicates_by_embedding(vectors: npt.NDArray[np.float32], threshold: float) -> Components:
    """Which rows of `vectors` (N, D) are joined by chains of pairs whose cosine is at least `threshold` (-1..1).

    Every pair is compared, block by block: time grows with N² D, memory with N. The partner of a row is the one of
    greatest cosine among those that reach the threshold; `distance` and `symmetry` are 0 (-1 without a partner). Rows
    of zeros are like nothing. ValueError for values that are not finite.

    >>> near_duplicates_by_embedding(np.eye(2, dtype=np.float32)[[0, 1, 0]], 0.9).labels.tolist()
    [0, 1, 0]
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite and (N, D), got {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    count = len(units)
    roots = np.arange(count)
    partner, best = np.full(count, -1, dtype=np.int64), np.full(count, -np.inf, dtype=np.float32)
    alive = lengths[:, 0] > 0
    for start in range(0, count, _BLOCK):
        for begin in range(start, count, _BLOCK):
            rows, columns = slice(start, start + _BLOCK), slice(begin, begin + _BLOCK)
            cosines = units[rows] @ units[columns].T
            cosines[~alive[rows]] = -np.inf
            cosines[:, ~alive[columns]] = -np.inf
            if start == begin:
                np.fill_diagonal(cosines, -np.inf)
            _keep_best(cosines, start, begin, threshold, partner, best)
            _keep_best(cosines.T, begin, start, threshold, partner, best)
            one, other = np.nonzero(cosines >= threshold)
            roots = _joined(roots, one + start, other + begin)
    distance = np.where(partner >= 0, 0, -1)
    return Components(in_order_of_appearance(roots), partner, distance, np.zeros(count, dtype=np.int64))


def _keep_best(
    cosines: npt.NDArray[np.float32],
    first_row: int,
    first_column: int,
    threshold: float,
    partner: npt.NDArray[np.int64],
    best: npt.NDArray[np.float32],
) -> None:
    greatest = cosines.argmax(axis=1)
    value = cosines[np.arange(len(cosines)), greatest]
    rows = slice(first_row, first_row + len(cosines))
    better = (value >= threshold) & (value > best[rows])
    partner[rows] = np.where(better, greatest + first_column, partner[rows])
    best[rows] = np.where(better, value, best[rows])


def _joined(
    roots: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The components once these pairs are joined as well."""
    if not len(rows):
        return roots
    one, other = roots[rows], roots[columns]
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(roots), len(roots)))
    return np.asarray(connected_components(graph, directed=False)[1][roots], dtype=np.int64)
