"""Optimal one-to-one assignment with a gate."""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from sightline.core.errors import DataError

IntArray = npt.NDArray[np.int64]


def assign(cost: npt.ArrayLike, max_cost: float) -> tuple[IntArray, IntArray]:
    """Row and column indices of the chosen pairs, rows ascending; no pair costs more than `max_cost`.

    Among all one-to-one choices it minimises the sum of `cost - max_cost`, so leaving a pair unmatched is priced at
    `max_cost`, exactly; infinite costs are never chosen. Solved by the modified Jonker-Volgenant algorithm of SciPy
    (Crouse 2016). Raises DataError for a cost that is not a matrix or holds NaN.
    """
    matrix = np.asarray(cost, dtype=np.float64)
    if matrix.ndim != 2:
        raise DataError(f"cost must be a matrix (rows, columns), got the shape {matrix.shape}")
    if np.isnan(matrix).any():
        raise DataError(f"cost must hold numbers, got {int(np.isnan(matrix).sum())} NaN")
    if not math.isfinite(max_cost):
        raise DataError(f"max_cost must be a finite number, got {max_cost}")
    # Clipping turns "unmatched" into a pair priced at max_cost, which any partial matching can be completed with.
    rows, cols = linear_sum_assignment(np.minimum(matrix, max_cost))
    chosen = matrix[rows, cols] <= max_cost
    return rows[chosen].astype(np.int64), cols[chosen].astype(np.int64)
