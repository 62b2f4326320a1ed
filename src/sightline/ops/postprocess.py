"""From dense outputs to predictions: the one definition that training, evaluation, export and video share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.metadata import OperatingPoint
from sightline.core.predictions import PREDICTIONS_SCHEMA
from sightline.core.preprocess import Geometry
from sightline.ops.boxes import box_area
from sightline.ops.oriented import box_corners, fit_boxes
from sightline.ops.rle import encode, to_box
from sightline.ops.suppression import suppress

__all__ = [
    "CANDIDATE_LIMIT",
    "KeptDetections",
    "class_confidence",
    "detection_rows",
    "evaluation_point",
    "label_map",
    "likeliest",
    "map_probabilities",
    "number_lists",
    "place_keypoints",
    "select_detections",
    "semantic_rows",
]

CANDIDATE_LIMIT = 30_000
"""Pairs of box and class that enter suppression, best scores first; bounds the work, whatever the threshold."""


SMALL_AREA, MEDIUM_AREA = 32.0**2, 96.0**2
"""Square pixels up to which COCO calls an object small, and medium."""


def evaluation_point(own: OperatingPoint | None) -> OperatingPoint:
    """What average precision is measured with: a model's own suppression (or the usual one), and the whole curve."""
    point = own or OperatingPoint()
    return point.model_copy(update={"conf": 0.001, "max_det": 300, "conf_by_size": None})


@dataclass(frozen=True, slots=True)
class KeptDetections:
    """Detections of one image by descending score."""

    boxes_xyxy: NDArray[np.float64]  # (K, 4)
    scores: NDArray[np.float64]  # (K,)
    class_ids: NDArray[np.int64]  # (K,)
    anchors: NDArray[np.int64]  # (K,) which of the dense boxes each was, -1 for one made of several
    oriented: NDArray[np.float64] | None = None  # (K, 5), where boxes are, see `sightline.ops.oriented`
    left_out: int = 0  # candidates beyond `CANDIDATE_LIMIT`, which never met suppression


def select_detections(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    thresholds: OperatingPoint,
    geometry: Geometry,
    oriented: NDArray[np.floating] | None = None,
) -> KeptDetections:
    """Dense boxes (A, 4) in network pixels and scores (A, C) of one image → detections in image pixels.

    Every pair of box and class with a score of at least `conf` is a candidate, as COCO's evaluation expects; then
    `suppress` in network pixels, then the map back, clipped to the image, then the least scores by size. Boxes that are
    not finite are never candidates, and boxes left without area by clipping are not detections. Of `oriented` boxes
    (A, 5) in network pixels `boxes_xyxy` are those around; the oriented ones are suppressed, and are not clipped.
    """
    eligible = (scores >= thresholds.conf) & np.isfinite(boxes_xyxy).all(axis=1)[:, None]
    anchors, class_ids = np.nonzero(eligible)
    candidate_scores = scores[anchors, class_ids].astype(np.float64)
    left_out = max(0, len(anchors) - CANDIDATE_LIMIT)
    if left_out:
        best = np.argsort(-candidate_scores, kind="stable")[:CANDIDATE_LIMIT]
        anchors, class_ids, candidate_scores = anchors[best], class_ids[best], candidate_scores[best]
    boxes = boxes_xyxy[anchors].astype(np.float64)
    corners = None if oriented is None else box_corners(oriented[anchors])
    shapes = boxes if corners is None else corners
    kept, kept_scores = suppress(shapes, candidate_scores, class_ids, thresholds)
    turned = None if corners is None else fit_boxes(geometry.points_to_image(corners[kept]))
    inside = geometry.boxes_to_image(boxes[kept])
    stays = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    if thresholds.conf_by_size is not None:
        sizes = np.searchsorted((SMALL_AREA, MEDIUM_AREA), box_area(inside), side="right")
        stays &= kept_scores >= np.asarray(thresholds.conf_by_size)[sizes]
    kept = kept[stays]
    classes = class_ids[kept].astype(np.int64)
    turned = None if turned is None else turned[stays]
    return KeptDetections(inside[stays], kept_scores[stays], classes, anchors[kept], turned, left_out)


def label_map(
    probabilities: NDArray[np.floating], geometry: Geometry, foreground_conf: float | None = None
) -> NDArray[np.uint8]:
    """Class probabilities (C, H, W) at network size → class ids (H, W) at image size.

    The greatest wins at the image's size, so that edges are as fine as the image. Of two classes the second wins from
    `foreground_conf` on, where one is given.
    """
    return likeliest(map_probabilities(probabilities, geometry), foreground_conf)


def map_probabilities(probabilities: NDArray[np.floating], geometry: Geometry) -> NDArray[np.floating]:
    """Class probabilities (C, H, W) at network size → the same at image size, resized linearly."""
    return geometry.mask_to_image(probabilities, interpolation="linear")


def likeliest(probabilities: NDArray[np.floating], foreground_conf: float | None = None) -> NDArray[np.uint8]:
    """Class ids (H, W) of probabilities (C, H, W): the greatest, or of two classes the second from a value on."""
    if foreground_conf is not None:
        return np.asarray(probabilities[1] >= foreground_conf, np.uint8)
    winners: NDArray[np.uint8] = probabilities.argmax(axis=0).astype(np.uint8)
    return winners


def class_confidence(probabilities: NDArray[np.floating], class_ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """(C,): the mean of probabilities (C, H, W) of each class over the pixels (H, W) of that class; NaN without any."""
    chosen = np.take_along_axis(probabilities, class_ids[None].astype(np.intp), axis=0)
    count = len(probabilities)
    pixels = np.bincount(class_ids.ravel(), minlength=count)
    sums = np.bincount(class_ids.ravel(), weights=chosen.ravel(), minlength=count)
    return np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan)


def place_keypoints(keypoints: NDArray[np.floating], geometry: Geometry) -> NDArray[np.float64]:
    """Keypoints (N, K, 3) of x, y in network pixels and a score → in image pixels, kept inside the image."""
    places = geometry.points_to_image(keypoints[..., :2]).clip(0.0, (geometry.source_hw[1], geometry.source_hw[0]))
    return np.concatenate([places, keypoints[..., 2:]], axis=-1)


def detection_rows(
    image_id: int,
    kept: KeptDetections,
    masks: Sequence[bytes] | None = None,
    keypoints: NDArray[np.floating] | None = None,
) -> pl.DataFrame:
    """The detections of one image as rows of a predictions table, with the run-length code of each one's mask, and with
    keypoints (N, K, 3) in image pixels.
    """
    columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), kept.boxes_xyxy.T, strict=True))
    columns |= {"score": kept.scores, "class_id": kept.class_ids} | ({} if masks is None else {"rle": masks})
    columns |= {} if keypoints is None else {"keypoints": number_lists(keypoints)}
    columns |= {} if kept.oriented is None else {"oriented": number_lists(kept.oriented)}
    return _rows(image_id, columns, len(kept.scores))


def number_lists(values: NDArray[np.floating]) -> pl.Series:
    """Keypoints (N, K, 3), or oriented boxes (N, 5), as a column of a predictions table."""
    rows = np.asarray(values, np.float64).reshape(len(values), int(np.prod(values.shape[1:])))
    return pl.Series(rows.tolist(), dtype=pl.List(pl.Float64))


def semantic_rows(
    image_id: int, class_ids: NDArray[np.integer], confidence: NDArray[np.float64] | None = None
) -> pl.DataFrame:
    """A label map (H, W) as rows of a predictions table: one run-length code for each class that occurs.

    Scores are the confidence (C,) of the classes where it is known, else 1.
    """
    present = np.unique(class_ids)
    codes = [encode(class_ids == c) for c in present]
    boxes = np.array([to_box(code, class_ids.shape) for code in codes], np.float64).reshape(-1, 4)
    scores = np.ones(len(present)) if confidence is None else confidence[present]
    columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
    columns |= {"class_id": present.astype(np.int32), "score": scores, "rle": codes}
    return _rows(image_id, columns, len(present))


def _rows(image_id: int, columns: dict[str, Any], count: int) -> pl.DataFrame:
    table = pl.DataFrame(columns).with_columns(pl.lit(image_id).alias("image_id"))
    if count == 0:
        return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
    missing = [pl.lit(None, dtype=t).alias(c) for c, t in PREDICTIONS_SCHEMA.items() if c not in table.columns]
    return table.with_columns(missing).select(pl.col(c).cast(t) for c, t in PREDICTIONS_SCHEMA.items())
