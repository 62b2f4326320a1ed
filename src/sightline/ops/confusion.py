"""Integer confusion matrices from label maps."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError
from sightline.core.kernels import njit

IntArray = npt.NDArray[np.int64]


def confusion_matrix(
    truth: npt.NDArray[np.integer],
    prediction: npt.NDArray[np.integer],
    class_count: int,
    ignore_values: Iterable[int] = (),
) -> IntArray:
    """Counts (class_count, class_count): row = ground truth, column = prediction.

    Elements whose ground truth is one of `ignore_values` are not counted, whatever was predicted there. Any other value
    outside 0..class_count-1, in either array, is a DataError that names the values. The sum is the number of elements
    counted.
    """
    if truth.shape != prediction.shape:
        raise DataError(f"prediction must have the shape of the ground truth {truth.shape}, got {prediction.shape}")
    ignore = np.array(sorted(set(ignore_values)), dtype=np.int64)
    flat_truth, flat_prediction = np.ascontiguousarray(truth).reshape(-1), np.ascontiguousarray(prediction).reshape(-1)
    counts, outside = _count(flat_truth, flat_prediction, class_count, ignore)
    if outside:
        counted = ~np.isin(flat_truth, ignore)
        _refuse("ground truth", flat_truth[counted], class_count)
        _refuse("prediction", flat_prediction[counted], class_count)
    return counts


def _refuse(name: str, values: npt.NDArray[np.integer], class_count: int) -> None:
    wrong = np.unique(values[(values < 0) | (values >= class_count)])
    if len(wrong):
        shown = ", ".join(str(value) for value in wrong[:5])
        raise DataError(f"{name} labels must be in 0..{class_count - 1} or ignored, got {shown}")


@njit(cache=True)
def _count(
    truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], class_count: int, ignore: IntArray
) -> tuple[IntArray, int]:
    counts = np.zeros((class_count, class_count), dtype=np.int64)
    outside = 0
    for i in range(len(truth)):
        row, column = np.int64(truth[i]), np.int64(prediction[i])
        ignored = False
        for value in ignore:
            ignored |= row == value
        if ignored:
            continue
        if 0 <= row < class_count and 0 <= column < class_count:
            counts[row, column] += 1
        else:
            outside += 1
    return counts, outside
