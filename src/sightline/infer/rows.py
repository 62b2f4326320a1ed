"""Predictions of one image as rows of a predictions table."""

from typing import Any

import numpy as np
import polars as pl
import supervision as sv

from sightline.core.frames import SemanticMap
from sightline.core.predictions import PREDICTIONS_SCHEMA
from sightline.ops.postprocess import semantic_rows

__all__ = ["result_rows"]


def result_rows(image_id: int, prediction: sv.Detections | SemanticMap | None) -> pl.DataFrame:
    """Rows of `PREDICTIONS_SCHEMA`: one per detection, or one (an RLE) per class of a label map.

    Missing scores become 1, missing class ids 0; `track_id` is null without a tracker.
    """
    if isinstance(prediction, SemanticMap):
        return semantic_rows(image_id, prediction.class_ids)
    if prediction is None or len(prediction) == 0:
        return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
    count = len(prediction)
    boxes = np.asarray(prediction.xyxy, np.float64)
    scores = np.ones(count) if prediction.confidence is None else np.asarray(prediction.confidence, np.float64)
    classes = np.zeros(count, np.int32) if prediction.class_id is None else np.asarray(prediction.class_id, np.int32)
    tracks = [None] * count if prediction.tracker_id is None else np.asarray(prediction.tracker_id).tolist()
    columns: dict[str, Any] = {"image_id": [image_id] * count, "class_id": classes}
    columns |= dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
    columns |= {"score": scores, "track_id": tracks, "rle": [None] * count}
    return pl.DataFrame(columns, schema=PREDICTIONS_SCHEMA)
