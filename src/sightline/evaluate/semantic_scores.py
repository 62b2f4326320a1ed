"""Semantic segmentation from pooled pixel counts: one integer confusion matrix, and everything that follows from it."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.frames import IGNORE_INDEX
from sightline.ops.boxes import FloatArray
from sightline.ops.confusion import confusion_matrix

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
        # One integer type, so that one compiled kernel serves all masks.
        counts = confusion_matrix(
            truth.astype(np.int32, copy=False),
            prediction.astype(np.int32, copy=False),
            len(self.confusion),
            ignore_values=(IGNORE_INDEX,),
        )
        self.confusion += counts
        return counts


def class_ratios(confusion: IntArray) -> dict[str, FloatArray]:
    """IoU, Dice, sensitivity, specificity and precision (C,) of each class, in 0..1 and 1 at best.

    A class neither in the ground truth nor in the prediction is NaN in all of them. Of a class that occurs, sensitivity
    without ground truth and precision without predictions are 0, as IoU and Dice are; specificity without a single
    negative pixel is NaN.
    """
    tp = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    fp, fn = predicted - tp, truth - tp
    tn = confusion.sum() - tp - fp - fn
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
    ratios = class_ratios(confusion)
    counted = int(confusion.sum())
    values = {"pixel_accuracy": float(np.trace(confusion) / counted) if counted else float("nan")}
    values |= {f"mean_{name}": mean_defined(ratios[name]) for name in RATIOS}
    if len(confusion) == 2:
        values |= {f"foreground_{name}": float(ratios[name][1]) for name in RATIOS}
    return values


def image_dice(confusion: IntArray) -> float:
    """Dice of one image: the foreground's with two classes, else the mean over the classes that occur; else NaN."""
    dice = class_ratios(confusion)["dice"]
    return float(dice[1]) if len(confusion) == 2 else mean_defined(dice)


def mean_defined(values: FloatArray) -> float:
    """Mean of the values that are numbers; NaN where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _ratio(part: FloatArray, whole: FloatArray, defined: npt.NDArray[np.bool_]) -> FloatArray:
    ratio: FloatArray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=defined)
    return ratio
