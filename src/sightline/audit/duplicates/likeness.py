"""A second opinion on near-duplicates: images that a network, not a hash, finds alike."""

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sightline.audit.duplicates.hamming import Components, in_order_of_appearance
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_likeness", "near_duplicates_by_embedding"]

_SHOWN = 3


def check_likeness(dataset: Dataset, vectors: NDArray[np.float32], threshold: float) -> list[Finding]:
    """`split-overlap-alike` and `image-alike`: components of images whose vectors have a cosine of `threshold` or more.

    `vectors` (N, D) are of the rows of `dataset.images`; rows of zeros are of images that cannot be read. One finding
    for each component. DataError when the vectors are not one per image.
    """
    if vectors.ndim != 2 or len(vectors) != len(dataset):
        raise DataError(f"embeddings must be one per image ({len(dataset)}), got an array of shape {vectors.shape}")
    labels = near_duplicates_by_embedding(vectors, threshold).labels
    images = dataset.images.select("image_id", "path", "split").with_columns(component=pl.Series(labels))
    found = []
    for _, part in images.filter(pl.len().over("component") > 1).group_by("component", maintain_order=True):
        counts = dict(part.group_by("split", maintain_order=True).len().drop_nulls("split").iter_rows())
        paths = part["path"].to_list()
        shown = ", ".join(paths[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")
        across = len(counts) > 1
        where = " and ".join(f"{n} in '{split}'" for split, n in counts.items())
        message = f"{len(paths)} images look alike to the network{f', {where}' if across else ''}: {shown}"
        code = "split-overlap-alike" if across else "image-alike"
        found.append(finding(code, message, path=paths[0], image_id=part["image_id"][0], count=len(paths)))
    return found


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
