"""From dense outputs to predictions: the one definition that training, evaluation, export and video share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.metadata import OperatingPoint
from sightline.core.predictions import PREDICTIONS_SCHEMA
from sightline.core.preprocess import Geometry
from sightline.ops.rle import encode, to_box
from sightline.ops.suppression import nms

__all__ = [
    "CANDIDATE_LIMIT",
    "EVALUATION",
    "KeptDetections",
    "detection_rows",
    "label_map",
    "select_detections",
    "semantic_rows",
]

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


def label_map(probabilities: NDArray[np.floating], geometry: Geometry) -> NDArray[np.uint8]:
    """Class probabilities (C, H, W) at network size → class ids (H, W) at image size.

    Probabilities are resized linearly and the greatest wins, so that edges are as fine as the image.
    """
    at_image = geometry.mask_to_image(probabilities, interpolation="linear")
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
