"""Counts of pixels by class, and what follows from them: of all images together, and of each alone."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.frames import IGNORE_INDEX
from sightline.ops.boxes import FloatArray
from sightline.ops.confusion import confusion_matrix

__all__ = [
    "RATIOS",
    "SemanticAccumulator",
    "class_ratios",
    "class_table",
    "image_ratios",
    "matthews",
    "mean_defined",
    "pooled_summary",
    "summary",
]

IntArray: TypeAlias = npt.NDArray[np.int64]

RATIOS = ("iou", "dice", "sensitivity", "specificity", "precision")


class SemanticAccumulator:
    """Pixel counts of as many images as are given, `confusion` (C, C) with ground truth in rows.

    Image by image or batch by batch makes no difference to the result, and two accumulators add up.
    """

    def __init__(self, class_count: int) -> None:
        self.confusion: IntArray = np.zeros((class_count, class_count), dtype=np.int64)

    def update(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> IntArray:
        """Add class ids of one shape, `IGNORE_INDEX` truth left out; returns the counts (C, C) of these alone.

        Raises DataError for other shapes or ids outside 0..C-1.
        """
        if not truth.dtype == prediction.dtype == np.uint8:  # bytes are fastest; one kernel serves all other types
            truth, prediction = truth.astype(np.int32, copy=False), prediction.astype(np.int32, copy=False)
        counts = confusion_matrix(truth, prediction, len(self.confusion), ignore_values=(IGNORE_INDEX,))
        self.confusion += counts
        return counts


def class_ratios(confusion: IntArray) -> dict[str, FloatArray]:
    """IoU, Dice, sensitivity, specificity and precision (C,) of each class, in 0..1 and 1 at best.

    A class neither in the ground truth nor in the prediction is NaN in all of them. Of a class that occurs, sensitivity
    without ground truth and precision without predictions are 0, as IoU and Dice are; specificity without a single
    negative pixel is NaN.
    """
    return _ratios_of(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def _ratios_of(tp: IntArray, truth: IntArray, predicted: IntArray) -> dict[str, FloatArray]:
    fp, fn = predicted - tp, truth - tp
    tn = truth.sum() - tp - fp - fn
    occurs = tp + fp + fn > 0
    return {
        "iou": _ratio(tp, tp + fp + fn, occurs),
        "dice": _ratio(2 * tp, 2 * tp + fp + fn, occurs),
        "sensitivity": _ratio(tp, np.maximum(truth, 1), occurs),
        "specificity": _ratio(tn, tn + fp, occurs & (tn + fp > 0)),
        "precision": _ratio(tp, np.maximum(predicted, 1), occurs),
    }


def class_table(confusion: IntArray, class_names: tuple[str, ...]) -> pl.DataFrame:
    """A row for each class: pixel counts and the ratios of `class_ratios`."""
    tp = np.diag(confusion)
    return pl.DataFrame(
        {
            "class_id": np.arange(len(class_names)),
            "class": list(class_names),
            "truth_pixels": confusion.sum(axis=1),
            "predicted_pixels": confusion.sum(axis=0),
            "tp": tp,
            "fp": confusion.sum(axis=0) - tp,
            "fn": confusion.sum(axis=1) - tp,
            **class_ratios(confusion),
        }
    )


def summary(confusion: IntArray) -> dict[str, float]:
    """Pixel accuracy, each ratio's mean over the classes where it is defined, and for two classes the foreground's.

    With two classes the second is the foreground and `foreground_*` are its pooled ratios, which binary
    segmentation is usually published with.
    """
    return pooled_summary(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def pooled_summary(tp: IntArray, truth: IntArray, predicted: IntArray) -> dict[str, float]:
    """As `summary`, of right, true and predicted pixels (C,)."""
    ratios = _ratios_of(tp, truth, predicted)
    counted = int(truth.sum())
    values = {"pixel_accuracy": int(tp.sum()) / counted if counted else float("nan")}
    values |= {
        "frequency_weighted_iou": _frequency_weighted(ratios["iou"], truth),
        "mcc": matthews(tp, truth, predicted),
    }
    values |= {f"mean_{name}": mean_defined(ratios[name]) for name in RATIOS}
    if len(tp) == 2:
        values |= {f"foreground_{name}": float(ratios[name][1]) for name in RATIOS}
    return values


def matthews(tp: IntArray, truth: IntArray, predicted: IntArray) -> float:
    """Matthews' correlation coefficient of pooled counts (C,), -1..1; of many classes after Gorodkin (2004).

    0 where only one class is true or predicted, NaN without pixels.
    """
    total = float(truth.sum())
    if not total:
        return float("nan")
    right, t, p = float(tp.sum()), truth.astype(np.float64), predicted.astype(np.float64)
    spread = np.sqrt(total**2 - p @ p) * np.sqrt(total**2 - t @ t)
    return float((right * total - t @ p) / spread) if spread else 0.0


def _frequency_weighted(iou: FloatArray, truth: IntArray) -> float:
    """The mean IoU weighted by how many pixels the ground truth has of each class; NaN without pixels."""
    total = int(truth.sum())
    return float((np.nan_to_num(iou) * truth).sum() / total) if total else float("nan")


def image_ratios(counts: IntArray) -> dict[str, FloatArray]:
    """Ratios (I,) of each image alone of counts (I, 3, C): right, true and predicted pixels.

    Names are those of `summary`: `foreground_*` with two classes, else `mean_*` over the classes that occur in the
    image; pixel_accuracy and mcc. NaN where nothing is counted that a ratio is a share of: sensitivity without true
    pixels, precision without predicted ones, specificity without others, IoU and Dice (and all of these) of a class on
    neither side, MCC where one class alone is true or predicted.
    """
    tp, truth, predicted = (counts[:, k].astype(np.float64) for k in range(3))
    total = truth.sum(axis=1)
    fp, fn = predicted - tp, truth - tp
    tn = total[:, None] - tp - fp - fn
    occurs = tp + fp + fn > 0
    by_class = {
        "iou": _shares(tp, tp + fp + fn),
        "dice": _shares(2 * tp, 2 * tp + fp + fn),
        "sensitivity": _shares(tp, truth),
        "specificity": np.where(occurs, _shares(tn, tn + fp), np.nan),
        "precision": _shares(tp, predicted),
    }
    two = counts.shape[2] == 2
    ratios = {
        f"{'foreground' if two else 'mean'}_{name}": values[:, 1] if two else _row_means(values)
        for name, values in by_class.items()
    }
    spread = np.sqrt(total**2 - (predicted**2).sum(axis=1)) * np.sqrt(total**2 - (truth**2).sum(axis=1))
    covariance = tp.sum(axis=1) * total - (truth * predicted).sum(axis=1)
    return ratios | {"pixel_accuracy": _shares(tp.sum(axis=1), total), "mcc": _shares(covariance, spread)}


def _shares(part: FloatArray, whole: FloatArray) -> FloatArray:
    shares: FloatArray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _row_means(values: FloatArray) -> FloatArray:
    defined = ~np.isnan(values)
    return _shares(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def mean_defined(values: FloatArray) -> float:
    """Mean of the values that are numbers; NaN where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _ratio(part: IntArray, whole: IntArray, defined: npt.NDArray[np.bool_]) -> FloatArray:
    ratio: FloatArray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=defined)
    return ratio
