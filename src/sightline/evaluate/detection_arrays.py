"""Ground truth and detections of a data set as parallel arrays, and their overlaps image by image."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.ops import rle
from sightline.ops.boxes import FloatArray, iou_matrix

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IouType = Literal["bbox", "segm"]


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """Both sides sorted by image, images in the order of their ids; `*_starts[i]` is where image `i` begins.

    Within an image ground truth keeps the order of its table, detections go by descending score, ties in table order.
    `*_rows` are their rows in the data set's `objects` and the predictions' `table`. `truth_crowd` marks crowd regions
    and ignored objects alike. Masks are compressed counts, None for boxes.
    """

    sizes_hw: list[tuple[int, int]]
    truth_starts: IntArray
    truth_rows: IntArray
    truth_classes: IntArray
    truth_boxes_xyxy: FloatArray
    truth_areas: FloatArray
    truth_crowd: BoolArray
    truth_rles: list[bytes] | None
    detection_starts: IntArray
    detection_rows: IntArray
    detection_classes: IntArray
    detection_boxes_xyxy: FloatArray
    detection_scores: FloatArray
    detection_rles: list[bytes] | None


def detection_arrays(dataset: Dataset, predictions: Predictions, iou_type: IouType) -> DetectionArrays:
    """The arrays of `predictions` on `dataset`.

    For `segm` every object and detection must have a mask, else DataError; an ignored object without one is empty.
    """
    images = dataset.images.select("image_id", "height", "width").sort("image_id").with_row_index("image")
    place = images.select("image_id", pl.col("image").cast(pl.Int64))
    truth = (
        dataset.objects.with_row_index("row")
        .join(place, on="image_id", maintain_order="left")
        .sort("image", maintain_order=True)
    )
    found = predictions.table.with_row_index("row").join(place, on="image_id", maintain_order="left")
    found = found.sort("image", "score", descending=[False, True], maintain_order=True)
    sizes_hw = list(images.select("height", "width").iter_rows())
    return DetectionArrays(
        sizes_hw=sizes_hw,
        truth_starts=_starts(truth, len(sizes_hw)),
        truth_rows=truth["row"].cast(pl.Int64).to_numpy(),
        truth_classes=truth["class_id"].cast(pl.Int64).to_numpy(),
        truth_boxes_xyxy=_boxes(truth),
        truth_areas=truth["area"].to_numpy(),
        truth_crowd=(truth["crowd"] | truth["ignore"]).to_numpy(),
        truth_rles=_truth_masks(truth, sizes_hw) if iou_type == "segm" else None,
        detection_starts=_starts(found, len(sizes_hw)),
        detection_rows=found["row"].cast(pl.Int64).to_numpy(),
        detection_classes=found["class_id"].cast(pl.Int64).to_numpy(),
        detection_boxes_xyxy=_boxes(found),
        detection_scores=found["score"].to_numpy(),
        detection_rles=_detection_masks(found) if iou_type == "segm" else None,
    )


def overlaps(arrays: DetectionArrays) -> tuple[FloatArray, IntArray]:
    """IoU of all detections with all ground truth of their image, and where each image begins.

    Image `i` holds a matrix (detections, ground truth), row by row; against a crowd the denominator is the detection's
    area. Malformed masks are a DataError.
    """
    parts = []
    starts = np.zeros(len(arrays.sizes_hw) + 1, dtype=np.int64)
    for i, size_hw in enumerate(arrays.sizes_hw):
        g = slice(arrays.truth_starts[i], arrays.truth_starts[i + 1])
        d = slice(arrays.detection_starts[i], arrays.detection_starts[i + 1])
        crowd = arrays.truth_crowd[g]
        if arrays.truth_rles is not None and arrays.detection_rles is not None:
            matrix = rle.iou_matrix(arrays.detection_rles[d], arrays.truth_rles[g], size_hw, crowd)
        else:
            matrix = iou_matrix(arrays.detection_boxes_xyxy[d], arrays.truth_boxes_xyxy[g], crowd)
        parts.append(matrix.reshape(-1))
        starts[i + 1] = starts[i] + matrix.size
    return (np.concatenate(parts) if parts else np.zeros(0)), starts


def _starts(rows: pl.DataFrame, image_count: int) -> IntArray:
    return np.searchsorted(rows["image"].to_numpy(), np.arange(image_count + 1)).astype(np.int64)


def _boxes(rows: pl.DataFrame) -> FloatArray:
    return np.ascontiguousarray(rows.select("x1", "y1", "x2", "y2").to_numpy())


def _truth_masks(truth: pl.DataFrame, sizes_hw: list[tuple[int, int]]) -> list[bytes]:
    masks = []
    for object_id, image, ready, rings, ignored in truth.select(
        "object_id", "image", "rle", "polygon", pl.col("crowd") | pl.col("ignore")
    ).iter_rows():
        if ready is not None:
            masks.append(ready)
        elif rings:
            masks.append(rle.from_polygons(rings, sizes_hw[image]))
        elif ignored:
            height, width = sizes_hw[image]
            masks.append(rle.runs_to_counts([height * width], sizes_hw[image]))
        else:
            raise DataError(f"iou_type segm needs a mask for every object, got none for object {object_id}")
    return masks


def _detection_masks(found: pl.DataFrame) -> list[bytes]:
    missing = found["rle"].null_count()
    if missing:
        raise DataError(f"iou_type segm needs a mask for every detection, got {missing} without")
    return found["rle"].to_list()
