"""From dense outputs to predictions: the one definition that training, evaluation, export and video share.

Non-maximum suppression is exact, greedy and by class, with no time limit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.typing import NDArray

from sightline.core.errors import DataError
from sightline.core.kernels import njit
from sightline.core.metadata import OperatingPoint
from sightline.core.predictions import PREDICTIONS_SCHEMA
from sightline.core.preprocess import Geometry
from sightline.ops.boxes import FloatArray, as_boxes
from sightline.ops.rle import encode, to_box

__all__ = [
    "CANDIDATE_LIMIT",
    "EVALUATION",
    "KeptDetections",
    "detection_rows",
    "label_map",
    "nms",
    "select_detections",
    "semantic_rows",
]

IntArray = npt.NDArray[np.int64]


def nms(
    boxes_xyxy: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    iou_threshold: float,
    max_det: int,
) -> IntArray:
    """Indices (K,) of the boxes that survive, by descending score; equal scores keep their input order.

    A box is suppressed when a better-scored, surviving box of its own class overlaps it with an IoU above
    `iou_threshold` (equal survives). The search stops at `max_det` survivors over all classes, never by the clock.
    Raises DataError where lengths differ or a score is not a number.
    """
    boxes = as_boxes(boxes_xyxy)
    score_array = np.asarray(scores, dtype=np.float64).reshape(-1)
    class_array = np.ascontiguousarray(np.asarray(class_ids, dtype=np.int64).reshape(-1))
    if not len(boxes) == len(score_array) == len(class_array):
        raise DataError(
            "boxes_xyxy, scores and class_ids must have one entry per box, "
            f"got {len(boxes)}, {len(score_array)} and {len(class_array)}"
        )
    if np.isnan(score_array).any():
        raise DataError(f"scores must be numbers, got {int(np.isnan(score_array).sum())} NaN")
    if len(boxes) == 0 or max_det <= 0:
        return np.zeros(0, dtype=np.int64)
    _, slots = np.unique(class_array, return_inverse=True)
    order = np.argsort(-score_array, kind="stable")
    return _greedy(boxes[order], slots.astype(np.int64)[order], order, float(iou_threshold), int(max_det))


@njit(cache=True)
def _greedy(boxes: FloatArray, slots: IntArray, order: IntArray, iou_threshold: float, max_det: int) -> IntArray:
    # The survivors of each class form a linked list, newest first: a candidate meets survivors of its own class only.
    newest = np.full(slots.max() + 1, -1, dtype=np.int64)
    older = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    kept = np.empty(min(max_det, len(boxes)), dtype=np.int64)
    count = 0
    for i in range(len(boxes)):
        if count == len(kept):
            break
        k = newest[slots[i]]
        while k >= 0 and not _overlaps(boxes[i], boxes[kept[k]], iou_threshold):
            k = older[k]
        if k < 0:
            kept[count] = i
            older[count] = newest[slots[i]]
            newest[slots[i]] = count
            count += 1
    return order[kept[:count]]


@njit(cache=True)
def _overlaps(a: FloatArray, b: FloatArray, iou_threshold: float) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return False
    common = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return bool(common / (area_a + area_b - common) > iou_threshold)


CANDIDATE_LIMIT = 30_000
"""Pairs of box and class that enter suppression, best scores first; bounds the work, whatever the threshold."""


EVALUATION = OperatingPoint(conf=0.001)
"""What average precision is measured with: the whole curve, not a cut of it."""


@dataclass(frozen=True, slots=True)
class KeptDetections:
    """Detections of one image by descending score."""

    boxes_xyxy: NDArray[np.float64]  # (K, 4)
    scores: NDArray[np.float64]  # (K,)
    class_ids: NDArray[np.int64]  # (K,)


def select_detections(
    boxes_xyxy: NDArray[np.floating], scores: NDArray[np.floating], thresholds: OperatingPoint, geometry: Geometry
) -> KeptDetections:
    """Dense boxes (A, 4) in network pixels and scores (A, C) of one image → detections in image pixels.

    Every pair of box and class with a score of at least `conf` is a candidate, as COCO's evaluation expects; then
    class-wise suppression in network pixels, then the map back, clipped to the image. Boxes that are not finite are
    never candidates, and boxes left without area by clipping are not detections.
    """
    eligible = (scores >= thresholds.conf) & np.isfinite(boxes_xyxy).all(axis=1)[:, None]
    anchors, class_ids = np.nonzero(eligible)
    candidate_scores = scores[anchors, class_ids].astype(np.float64)
    if len(anchors) > CANDIDATE_LIMIT:
        best = np.argsort(-candidate_scores, kind="stable")[:CANDIDATE_LIMIT]
        anchors, class_ids, candidate_scores = anchors[best], class_ids[best], candidate_scores[best]
    boxes = boxes_xyxy[anchors].astype(np.float64)
    kept = nms(boxes, candidate_scores, class_ids, thresholds.iou, thresholds.max_det)
    inside = geometry.boxes_to_image(boxes[kept])
    solid = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    kept = kept[solid]
    return KeptDetections(inside[solid], candidate_scores[kept], class_ids[kept].astype(np.int64))


def label_map(
    probabilities: NDArray[np.floating], geometry: Geometry, foreground_conf: float | None = None
) -> NDArray[np.uint8]:
    """Class probabilities (C, H, W) at network size → class ids (H, W) at image size.

    Probabilities are resized linearly and the greatest wins, so that edges are as fine as the image. Of two classes the
    second wins from `foreground_conf` on, where one is given.
    """
    at_image = geometry.mask_to_image(probabilities, interpolation="linear")
    if foreground_conf is not None:
        return np.asarray(at_image[1] >= foreground_conf, np.uint8)
    winners: NDArray[np.uint8] = at_image.argmax(axis=0).astype(np.uint8)
    return winners


def detection_rows(image_id: int, kept: KeptDetections) -> pl.DataFrame:
    """The detections of one image as rows of a predictions table."""
    columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), kept.boxes_xyxy.T, strict=True))
    columns |= {"score": kept.scores, "class_id": kept.class_ids}
    return _rows(image_id, columns, len(kept.scores))


def semantic_rows(image_id: int, class_ids: NDArray[np.integer]) -> pl.DataFrame:
    """A label map (H, W) as rows of a predictions table: one run-length code for each class that occurs."""
    present = np.unique(class_ids)
    codes = [encode(class_ids == c) for c in present]
    boxes = np.array([to_box(code, class_ids.shape) for code in codes], np.float64).reshape(-1, 4)
    columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
    columns |= {"class_id": present.astype(np.int32), "score": np.ones(len(present)), "rle": codes}
    return _rows(image_id, columns, len(present))


def _rows(image_id: int, columns: dict[str, Any], count: int) -> pl.DataFrame:
    table = pl.DataFrame(columns).with_columns(pl.lit(image_id).alias("image_id"))
    if count == 0:
        return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
    missing = [pl.lit(None, dtype=t).alias(c) for c, t in PREDICTIONS_SCHEMA.items() if c not in table.columns]
    return table.with_columns(missing).select(pl.col(c).cast(t) for c, t in PREDICTIONS_SCHEMA.items())
