"""What the least probability of the foreground does to label maps of two classes: curves, and the best one.

Pixels are counted by their true class and their probability rounded down to 1/4096, which no threshold that is a
multiple of 1/4096 can tell from the probability itself: at those all counts are exact, and average precision and the
area under the ROC curve are exactly those of the rounded probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.frames import IGNORE_INDEX, SemanticMap
from sightline.core.kernels import njit
from sightline.data import read_class_mask

__all__ = ["ForegroundCounts", "ForegroundCurves", "ForegroundPoint", "declared_point"]

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

BINS = 4096
_SHOWN = np.arange(0, BINS + 1, BINS // 128)
"""Of all thresholds those that curves are drawn with: 129, from 0 to 1."""


@dataclass(frozen=True)
class ForegroundPoint:
    """From which probability on pixels are foreground, and how that came about."""

    conf: float
    origin: str


@dataclass(frozen=True, eq=False)
class ForegroundCurves:
    """Pooled ratios of the foreground over the least probability `threshold` (129,), and the areas under two curves.

    Precision without predicted pixels and recall and specificity without true ones are NaN, as IoU and Dice are where
    there are neither.
    """

    threshold: FloatArray
    precision: FloatArray
    recall: FloatArray
    specificity: FloatArray
    dice: FloatArray
    iou: FloatArray
    average_precision: float
    roc_auc: float


class ForegroundCounts:
    """Pixels (2, 4097) by true class and rounded probability, of as many images as are given. Two of them add up."""

    def __init__(self) -> None:
        self.pixels: IntArray = np.zeros((2, BINS + 1), dtype=np.int64)

    def update(self, truth: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating]) -> None:
        """Add an image: class ids 0 and 1, `IGNORE_INDEX` left out, and the foreground's probabilities, of one shape.

        DataError for other shapes and ids, and for probabilities outside 0..1.
        """
        if truth.shape != probabilities.shape:
            message = f"probabilities must have the shape of the ground truth {truth.shape}, got {probabilities.shape}"
            raise DataError(message)
        wide = probabilities.astype(np.float64 if probabilities.dtype == np.float64 else np.float32, copy=False)
        flat = np.ascontiguousarray(truth).reshape(-1), np.ascontiguousarray(wide).reshape(-1)
        counts = np.zeros_like(self.pixels)
        if not _count(*flat, counts):
            raise DataError("classes must be 0, 1 or ignored, and probabilities in 0..1, got others")
        self.pixels += counts

    def merge(self, other: "ForegroundCounts") -> None:
        """Add the images of another one."""
        self.pixels += other.pixels

    def observer(self, dataset: Dataset) -> Callable[[int, Any], None]:
        """Takes maps with their `foreground` by image_id, and adds those beside the masks of the data set."""
        rows = dataset.images.select("image_id", "path", "mask_path", "height", "width").iter_rows()
        images = {image_id: (path, mask, (height, width)) for image_id, path, mask, height, width in rows}

        def observe(image_id: int, prediction: Any) -> None:
            path, mask, size_hw = images[image_id]
            if mask is None:
                raise DataError("every image to evaluate must have a mask, got none", where=path)
            assert isinstance(prediction, SemanticMap)
            assert prediction.foreground is not None
            self.update(read_class_mask(dataset.image_path(mask), dataset, size_hw), prediction.foreground)

        return observe

    def best(self) -> tuple[float, float] | None:
        """The threshold with the best pooled Dice, of equals the middle one, and that Dice; None where no pixel is ever
        right."""
        dice = self._ratios()["dice"]
        if not self.pixels[1].any() or not np.nanmax(dice) > 0:
            return None
        best = np.flatnonzero(dice == np.nanmax(dice))
        return float(best[len(best) // 2] / BINS), float(dice[best[0]])

    def curves(self) -> ForegroundCurves:
        """The curves over all images."""
        shown = {name: values[_SHOWN] for name, values in self._ratios().items()}
        areas: dict[str, Any] = self.areas()
        return ForegroundCurves(threshold=_SHOWN / BINS, **(areas | shown))

    def areas(self) -> dict[str, float]:
        """Average precision (the sum of precision times the step in recall) and the area under the ROC curve, 0..1 and
        1 at best; NaN where one class has no pixel."""
        false, true = self.pixels[:, ::-1].cumsum(axis=1).astype(np.float64)
        if not true[-1] or not false[-1]:
            return {"average_precision": np.nan, "roc_auc": np.nan}
        found = true + false
        precision = np.divide(true, found, out=np.zeros_like(true), where=found > 0)
        rate = np.concatenate([[0.0], true / true[-1]])
        steps = np.diff(np.concatenate([[0.0], false / false[-1]]))
        return {
            "average_precision": float((np.diff(rate) * precision).sum()),
            "roc_auc": float((steps * (rate[1:] + rate[:-1]) / 2).sum()),
        }

    def _ratios(self) -> dict[str, FloatArray]:
        """Of each threshold (4097,)."""
        fp, tp = self.pixels[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
        fn, tn = tp[0] - tp, fp[0] - fp
        pairs = {
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "dice": (2 * tp, 2 * tp + fp + fn),
            "iou": (tp, tp + fp + fn),
        }
        return {
            name: np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
            for name, (part, whole) in pairs.items()
        }


@njit(cache=True)
def _count(truth: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating], counts: IntArray) -> bool:
    for i in range(len(truth)):
        class_id, value = truth[i], probabilities[i]
        if class_id == IGNORE_INDEX:
            continue
        if class_id < 0 or class_id > 1 or not 0 <= value <= 1:
            return False
        counts[class_id, int(value * BINS)] += 1  # a power of two: exact
    return True


def declared_point(meta: dict[str, Any], class_count: int) -> ForegroundPoint | None:
    """At which probability the maps of these predictions were made, where they say it; None but of two classes."""
    if class_count != 2:
        return None
    conf = meta.get("foreground_conf")
    if not isinstance(conf, (int, float)):
        if "model_digest" not in meta:
            return None  # maps of another tool
        return ForegroundPoint(0.5, "the likelier class, for want of the model's own")
    own = meta.get("operating_point")
    is_own = isinstance(own, dict) and own.get("conf") == conf
    return ForegroundPoint(float(conf), "the model's own, chosen on its validation images" if is_own else "given")
