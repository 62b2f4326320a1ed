"""Ground truth and detections as parallel arrays, their overlaps, and COCO's AP and AR of them, computed by hotcoco."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from hotcoco import COCO, COCOeval

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import Predictions
from sightline.ops import rle
from sightline.ops.boxes import FloatArray, given_sizes, grouped_iou

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IouType = Literal["bbox", "segm"]


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """Both sides sorted by image, images in the order of their ids; `*_starts[i]` is where image `i` begins.

    Within an image ground truth keeps the order of its table, detections go by descending score, ties in table order.
    `*_rows` are their rows in the data set's `objects` and the predictions' `table`. `*_sizes_wh` are the boxes' sizes
    as their files have them. `truth_crowd` marks crowd regions and ignored objects alike. Masks are compressed counts,
    None for boxes; `detection_areas` are NaN where they are of what is measured, the box or the mask.
    """

    sizes_hw: list[tuple[int, int]]
    truth_starts: IntArray
    truth_rows: IntArray
    truth_classes: IntArray
    truth_boxes_xyxy: FloatArray
    truth_sizes_wh: FloatArray
    truth_areas: FloatArray
    truth_crowd: BoolArray
    truth_rles: list[bytes] | None
    detection_starts: IntArray
    detection_rows: IntArray
    detection_classes: IntArray
    detection_boxes_xyxy: FloatArray
    detection_sizes_wh: FloatArray
    detection_areas: FloatArray
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
        truth_sizes_wh=given_sizes(truth),
        truth_areas=truth["area"].to_numpy(),
        truth_crowd=(truth["crowd"] | truth["ignore"]).to_numpy(),
        truth_rles=_truth_masks(truth, sizes_hw) if iou_type == "segm" else None,
        detection_starts=_starts(found, len(sizes_hw)),
        detection_rows=found["row"].cast(pl.Int64).to_numpy(),
        detection_classes=found["class_id"].cast(pl.Int64).to_numpy(),
        detection_boxes_xyxy=_boxes(found),
        detection_sizes_wh=given_sizes(found),
        detection_areas=found["area"].fill_null(float("nan")).to_numpy(),
        detection_scores=found["score"].to_numpy(),
        detection_rles=_detection_masks(found) if iou_type == "segm" else None,
    )


def overlaps(arrays: DetectionArrays) -> tuple[FloatArray, IntArray]:
    """IoU of all detections with all ground truth of their image, and where each image begins.

    Image `i` holds a matrix (detections, ground truth), row by row; against a crowd the denominator is the detection's
    area. Malformed masks are a DataError.
    """
    sides = arrays.detection_starts, arrays.truth_starts
    starts = np.concatenate([[0], np.cumsum(np.diff(sides[0]) * np.diff(sides[1]))]).astype(np.int64)
    if arrays.truth_rles is None or arrays.detection_rles is None:
        boxes = arrays.detection_boxes_xyxy, sides[0], arrays.truth_boxes_xyxy, sides[1], arrays.truth_crowd
        areas = _box_areas(arrays.detection_sizes_wh), _box_areas(arrays.truth_sizes_wh)
        return grouped_iou(*boxes, areas), starts
    parts = [np.zeros(0)]
    for i, size_hw in enumerate(arrays.sizes_hw):
        d, g = (slice(side[i], side[i + 1]) for side in sides)
        matrix = rle.iou_matrix(arrays.detection_rles[d], arrays.truth_rles[g], size_hw, arrays.truth_crowd[g])
        parts.append(matrix.reshape(-1))
    return np.concatenate(parts), starts


def _box_areas(sizes_wh: FloatArray) -> FloatArray:
    return np.asarray(np.prod(np.maximum(sizes_wh, 0.0), axis=1))


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
            raise DataError(
                f"iou_type segm needs a mask for every object, got none for object {object_id}",
                do="measure boxes alone (--iou-type bbox), or give these objects outlines",
            )
    return masks


def _detection_masks(found: pl.DataFrame) -> list[bytes]:
    missing = found["rle"].null_count()
    if missing:
        raise DataError(f"iou_type segm needs a mask for every detection, got {missing} without")
    return found["rle"].to_list()


IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True, eq=False)
class CocoScores:
    """`stats` are the 12 numbers in COCO's order; `precision` and `scores` are (IoU, recall, class, area, max_dets).

    `recall` is (IoU, class, area, max_dets). What has no ground truth is NaN.
    """

    stats: FloatArray
    precision: FloatArray
    recall: FloatArray
    scores: FloatArray


def coco_scores(
    arrays: DetectionArrays, class_names: tuple[str, ...], iou_type: IouType, max_dets: tuple[int, int, int]
) -> CocoScores:
    """Run the evaluation. Ground truth is sized by the data set's `area`, a detection by `detection_areas`, else by its
    box or, for `segm`, its mask.
    """
    truth = _ground_truth(arrays, class_names)
    evaluation = COCOeval(truth, _results(truth, arrays), iou_type)
    evaluation.params.max_dets = list(max_dets)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()
    table: Any = evaluation.eval
    return CocoScores(
        stats=_missing_as_nan(evaluation.stats),
        precision=_missing_as_nan(table["precision"]),
        recall=_missing_as_nan(table["recall"]),
        scores=_missing_as_nan(table["scores"]),
    )


def _ground_truth(arrays: DetectionArrays, class_names: tuple[str, ...]) -> Any:
    # Ids start at 1: the reference takes annotation 0 for "unmatched".
    masks: dict[str, Any] = {}
    if arrays.truth_rles is not None:
        masks["segmentation"] = _segmentations(arrays, arrays.truth_starts, arrays.truth_rles)
    return COCO.from_arrays(
        images=[{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(arrays.sizes_hw, start=1)],
        categories=[{"id": i, "name": name} for i, name in enumerate(class_names, start=1)],
        image_ids=_images(arrays.truth_starts) + 1,
        category_ids=arrays.truth_classes + 1,
        boxes=np.concatenate([arrays.truth_boxes_xyxy[:, :2], np.maximum(arrays.truth_sizes_wh, 0.0)], axis=1),
        area=arrays.truth_areas,
        iscrowd=arrays.truth_crowd,
        **masks,
    )


def _results(truth: Any, arrays: DetectionArrays) -> Any:
    images, classes = _images(arrays.detection_starts) + 1, arrays.detection_classes + 1
    corners, sizes_wh, areas = arrays.detection_boxes_xyxy[:, :2], arrays.detection_sizes_wh, arrays.detection_areas
    masks: dict[str, Any] = {}
    if arrays.detection_rles is not None:
        masks["segmentation"] = _segmentations(arrays, arrays.detection_starts, arrays.detection_rles)
        areas = np.where(np.isnan(areas), [rle.area(code) for code in arrays.detection_rles], areas)
    results = truth.load_res(np.column_stack([images, corners, sizes_wh, arrays.detection_scores, classes]), **masks)
    sized = np.flatnonzero(~np.isnan(areas))  # it sizes all by their boxes
    results.update_anns(ids=sized + 1, area=areas[sized])
    return results


def _segmentations(arrays: DetectionArrays, starts: Any, rles: list[bytes]) -> list[dict[str, Any]]:
    images = _images(starts)
    return [{"size": list(arrays.sizes_hw[i]), "counts": c} for i, c in zip(images.tolist(), rles, strict=True)]


def _images(starts: Any) -> Any:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _missing_as_nan(values: Any) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array[array == -1.0] = np.nan
    return array
