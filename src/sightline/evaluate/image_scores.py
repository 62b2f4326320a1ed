"""A score for each evaluated image, from the very matching and counts the evaluation rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions
from sightline.evaluate.coco import IouType, detection_arrays
from sightline.evaluate.detection_matching import match_detections
from sightline.ops.oriented import box_corners

__all__ = ["DetectionImage", "best_and_worst", "score_detection_images"]


@dataclass(frozen=True, eq=False)
class DetectionImage:
    """One image at the operating point: what was found, what was missed, what is false.

    `boxes_xyxy` (K, 4) are the detections at or above the threshold, `right` (K,) says which are true positives;
    detections on crowd or ignored regions count as neither and are left out. `missed` (G,) is over `truth_xyxy` (G, 4).
    `masks_rle` has the masks of the detections where masks were matched, `corners` (K, 4, 2) and `truth_corners` those
    of oriented boxes where these were.
    """

    image_id: int
    path: str
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    right: NDArray[np.bool_]
    truth_xyxy: NDArray[np.float64]
    truth_class_ids: NDArray[np.int64]
    missed: NDArray[np.bool_]
    masks_rle: tuple[bytes, ...] | None
    corners: NDArray[np.float64] | None = None
    truth_corners: NDArray[np.float64] | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        tp = int(self.right.sum())
        return tp, len(self.right) - tp, int(self.missed.sum())

    @property
    def f1(self) -> float | None:
        """F1 of this image, None where there is neither an object nor a detection."""
        tp, fp, fn = self.counts
        return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


def score_detection_images(
    dataset: Dataset, predictions: Predictions, *, conf: float, max_det: int | None = None, iou_type: IouType = "bbox"
) -> list[DetectionImage]:
    """Every image of `dataset`, in the order of its ids, with the matching that gives the evaluation's counts.

    Summed over the images the counts are those of the evaluation's operating point.
    """
    arrays = detection_arrays(dataset, predictions, iou_type)
    matching = match_detections(arrays, len(dataset.class_names), max_det)
    kept = (arrays.detection_scores >= conf) & (matching.true | matching.false)
    found = np.zeros(len(arrays.truth_classes), bool)
    found[matching.found[kept & matching.true]] = True
    images = []
    for i, (image_id, path) in enumerate(dataset.images.sort("image_id").select("image_id", "path").iter_rows()):
        d = np.arange(arrays.detection_starts[i], arrays.detection_starts[i + 1])
        d = d[kept[d]]
        g = np.arange(arrays.truth_starts[i], arrays.truth_starts[i + 1])
        g = g[~arrays.truth_crowd[g]]
        images.append(
            DetectionImage(
                image_id=image_id,
                path=path,
                boxes_xyxy=arrays.detection_boxes_xyxy[d],
                scores=arrays.detection_scores[d],
                class_ids=arrays.detection_classes[d],
                right=matching.true[d],
                truth_xyxy=arrays.truth_boxes_xyxy[g],
                truth_class_ids=arrays.truth_classes[g],
                missed=~found[g],
                masks_rle=None if arrays.detection_rles is None else tuple(arrays.detection_rles[k] for k in d),
                corners=None if arrays.detection_oriented is None else box_corners(arrays.detection_oriented[d]),
                truth_corners=None if arrays.truth_oriented is None else box_corners(arrays.truth_oriented[g]),
            )
        )
    return images


def best_and_worst(scores: Sequence[float | None], sizes: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Indices of the `count` best and `count` worst images, most extreme first; images without a score in neither.

    No image is in both: of few images each side gets half. Among equals the larger `sizes` (more to find, more to get
    wrong) come first, then the earlier.
    """
    table = pl.DataFrame(
        {"i": range(len(scores)), "score": list(scores), "size": list(sizes)},
        schema={"i": pl.Int64, "score": pl.Float64, "size": pl.Int64},
    ).drop_nulls("score")
    count = min(count, table.height // 2) or min(1, table.height)
    best: list[Any] = table.sort("score", "size", "i", descending=[True, True, False])["i"].to_list()[:count]
    rest = table.filter(~pl.col("i").is_in(pl.Series(best, dtype=pl.Int64).implode()))
    worst: list[Any] = rest.sort("score", "size", "i", descending=[False, True, False])["i"].to_list()[:count]
    return best, worst
