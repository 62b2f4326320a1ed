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
    if flat_truth.dtype == np.uint8 == flat_prediction.dtype:
        counts, outside = _count_bytes(flat_truth, flat_prediction, class_count, ignore)
    else:
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


def _count_bytes(
    truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8], class_count: int, ignore: IntArray
) -> tuple[IntArray, int]:
    """As `_count`, by a table of where each byte goes: to its class, to what is no class, to what is not counted."""
    places = np.minimum(np.arange(256), class_count).astype(np.int64)
    of_truth = places.copy()
    of_truth[ignore[(ignore >= 0) & (ignore < 256)]] = class_count + 1
    table = _pairs_of_places(truth, prediction, of_truth, places, class_count + 2)
    inside = table[:class_count, :class_count].copy()
    return inside, int(table[: class_count + 1].sum() - inside.sum())


@njit(cache=True)
def _pairs_of_places(
    truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8], of_truth: IntArray, places: IntArray, width: int
) -> IntArray:
    """How often each pair of places occurs, (width, width); in four tables in turn, as neighbours are mostly equal and
    an addition to one number waits for the one before it."""
    first, second = np.zeros(width * width, dtype=np.int64), np.zeros(width * width, dtype=np.int64)
    third, fourth = np.zeros(width * width, dtype=np.int64), np.zeros(width * width, dtype=np.int64)
    whole = len(truth) // 4 * 4
    for i in range(0, whole, 4):
        first[of_truth[truth[i]] * width + places[prediction[i]]] += 1
        second[of_truth[truth[i + 1]] * width + places[prediction[i + 1]]] += 1
        third[of_truth[truth[i + 2]] * width + places[prediction[i + 2]]] += 1
        fourth[of_truth[truth[i + 3]] * width + places[prediction[i + 3]]] += 1
    for i in range(whole, len(truth)):
        first[of_truth[truth[i]] * width + places[prediction[i]]] += 1
    return (first + second + third + fourth).reshape(width, width)


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
