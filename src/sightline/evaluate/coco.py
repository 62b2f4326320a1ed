"""Ground truth and detections as parallel arrays, their overlaps, and COCO's AP and AR of them, computed by hotcoco."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from hotcoco import COCO, COCOeval

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.keypoints import keypoints_of
from sightline.core.predictions import Predictions
from sightline.ops import rle
from sightline.ops.boxes import FloatArray, given_sizes, grouped_iou
from sightline.ops.keypoints import grouped_oks
from sightline.ops.oriented import grouped_oriented_iou, oriented_boxes
from sightline.ops.postprocess import number_lists

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IouType = Literal["bbox", "segm", "keypoints", "obb"]


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """Both sides sorted by image, images in the order of their ids; `*_starts[i]` is where image `i` begins.

    Within an image ground truth keeps the order of its table, detections go by descending score, ties in table order.
    `*_rows` are their rows in the data set's `objects` and the predictions' `table`. `*_sizes_wh` are the boxes' sizes
    as their files have them. `truth_crowd` marks what is neither found nor missed: crowd regions, ignored objects and,
    where keypoints are measured, objects without any; the last are met by one detection each (`truth_once`). Masks are
    compressed counts, keypoints (N, K, 3), oriented boxes (N, 5), None where others are measured; `detection_areas` are
    NaN where they are of what is measured, the box or the mask.
    """

    sizes_hw: list[tuple[int, int]]
    truth_starts: IntArray
    truth_rows: IntArray
    truth_classes: IntArray
    truth_boxes_xyxy: FloatArray
    truth_sizes_wh: FloatArray
    truth_areas: FloatArray
    truth_crowd: BoolArray
    truth_once: BoolArray
    truth_rles: list[bytes] | None
    truth_keypoints: FloatArray | None
    truth_oriented: FloatArray | None
    detection_starts: IntArray
    detection_rows: IntArray
    detection_classes: IntArray
    detection_boxes_xyxy: FloatArray
    detection_sizes_wh: FloatArray
    detection_areas: FloatArray
    detection_scores: FloatArray
    detection_rles: list[bytes] | None
    detection_keypoints: FloatArray | None
    detection_oriented: FloatArray | None
    sigmas: FloatArray | None


def detection_arrays(
    dataset: Dataset, predictions: Predictions, iou_type: IouType, sigmas: Sequence[float] | None = None
) -> DetectionArrays:
    """The arrays of `predictions` on `dataset`.

    For `segm` every object and detection must have a mask, else DataError; an ignored object without one is empty. For
    `keypoints` every detection must have as many as the labels; `sigmas` are the labels' own unless given. For `obb`
    every detection must have its oriented box; an object's is the smallest around its outline, else its box.
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
    aside = (truth["crowd"] | truth["ignore"]).to_numpy()
    poses = _Poses(dataset, truth, found, sigmas) if iou_type == "keypoints" else None
    once = np.zeros_like(aside) if poses is None else ~aside & ~(poses.truth[..., 2] > 0).any(axis=1)
    return DetectionArrays(
        sizes_hw=sizes_hw,
        truth_starts=_starts(truth, len(sizes_hw)),
        truth_rows=truth["row"].cast(pl.Int64).to_numpy(),
        truth_classes=truth["class_id"].cast(pl.Int64).to_numpy(),
        truth_boxes_xyxy=_boxes(truth),
        truth_sizes_wh=given_sizes(truth),
        truth_areas=truth["area"].to_numpy(),
        truth_crowd=aside | once,
        truth_once=once,
        truth_rles=_truth_masks(truth, sizes_hw) if iou_type == "segm" else None,
        truth_keypoints=None if poses is None else poses.truth,
        truth_oriented=oriented_boxes(truth) if iou_type == "obb" else None,
        detection_starts=_starts(found, len(sizes_hw)),
        detection_rows=found["row"].cast(pl.Int64).to_numpy(),
        detection_classes=found["class_id"].cast(pl.Int64).to_numpy(),
        detection_boxes_xyxy=_boxes(found),
        detection_sizes_wh=given_sizes(found),
        detection_areas=found["area"].fill_null(float("nan")).to_numpy(),
        detection_scores=found["score"].to_numpy(),
        detection_rles=_detection_masks(found) if iou_type == "segm" else None,
        detection_keypoints=None if poses is None else poses.found,
        detection_oriented=_detection_oriented(found) if iou_type == "obb" else None,
        sigmas=None if poses is None else poses.sigmas,
    )


class _Poses:
    """The keypoints of both sides, as many of each object as the labels have."""

    def __init__(
        self, dataset: Dataset, truth: pl.DataFrame, found: pl.DataFrame, sigmas: Sequence[float] | None
    ) -> None:
        labelled = keypoints_of(dataset)
        if labelled is None:
            raise DataError("iou_type keypoints needs labels with keypoints, got none", where=str(dataset.root))
        count = len(labelled)
        if sigmas is not None and (len(sigmas) != count or not all(s > 0 for s in sigmas)):
            raise ConfigError(f"sigmas must be {count} numbers above 0, one for each keypoint, got {list(sigmas)}")
        lengths = found["keypoints"].list.len().fill_null(0)
        if (wrong := lengths.filter(lengths != 3 * count)).len():
            message = f"every detection must have the {count} keypoints of the labels, got {wrong[0] // 3}"
            raise DataError(message, do="measure boxes alone (--iou-type bbox), or predict keypoints")
        self.sigmas = np.asarray(labelled.sigmas if sigmas is None else sigmas, np.float64)
        self.found = found["keypoints"].explode(empty_as_null=False).to_numpy().astype(np.float64).reshape(-1, count, 3)
        self.truth = np.zeros((truth.height, count, 3))
        for row, values in zip(self.truth, truth["keypoints"].to_list(), strict=True):
            row[: len(values or ()) // 3] = np.reshape(values or (), (-1, 3))


def overlaps(arrays: DetectionArrays) -> tuple[FloatArray, IntArray]:
    """IoU of all detections with all ground truth of their image, and where each image begins.

    Image `i` holds a matrix (detections, ground truth), row by row; against a crowd the denominator is the detection's
    area. Malformed masks are a DataError. Of keypoints it is their similarity, OKS.
    """
    sides = arrays.detection_starts, arrays.truth_starts
    starts = np.concatenate([[0], np.cumsum(np.diff(sides[0]) * np.diff(sides[1]))]).astype(np.int64)
    if arrays.detection_keypoints is not None and arrays.truth_keypoints is not None and arrays.sigmas is not None:
        points = arrays.detection_keypoints, sides[0], arrays.truth_keypoints, sides[1]
        return grouped_oks(*points, _boxes_xywh(arrays), arrays.truth_areas, arrays.sigmas), starts
    if arrays.detection_oriented is not None and arrays.truth_oriented is not None:
        boxes = arrays.detection_oriented, sides[0], arrays.truth_oriented, sides[1], arrays.truth_crowd
        return grouped_oriented_iou(*boxes), starts
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


def _boxes_xywh(arrays: DetectionArrays) -> FloatArray:
    """Of the ground truth (G, 4)."""
    corners, sizes = arrays.truth_boxes_xyxy[:, :2], np.maximum(arrays.truth_sizes_wh, 0.0)
    return np.ascontiguousarray(np.concatenate([corners, sizes], axis=1))


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


def _detection_oriented(found: pl.DataFrame) -> FloatArray:
    if missing := found["oriented"].null_count():
        do = "measure upright boxes (--iou-type bbox), or predict oriented ones"
        raise DataError(f"iou_type obb needs an oriented box for every detection, got {missing} without", do=do)
    return found["oriented"].explode(empty_as_null=False).to_numpy().astype(np.float64).reshape(-1, 5)


IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True, eq=False)
class CocoScores:
    """`stats` are the 12 numbers in COCO's order (of keypoints 10).

    `precision` and `scores` are (IoU, recall, class, area, max_dets), `recall` is (IoU, class, area, max_dets).
    What has no ground truth is NaN.
    """

    stats: FloatArray
    precision: FloatArray
    recall: FloatArray
    scores: FloatArray


def coco_scores(
    arrays: DetectionArrays, class_names: tuple[str, ...], iou_type: IouType, max_dets: Sequence[int]
) -> CocoScores:
    """Run the evaluation. Ground truth is sized by the data set's `area`, a detection by `detection_areas`, else by its
    box or, for `segm`, its mask.
    """
    truth = _ground_truth(arrays, class_names)
    evaluation = COCOeval(truth, _results(truth, arrays), iou_type)
    evaluation.params.max_dets = list(max_dets)
    if arrays.sigmas is not None:
        evaluation.params.kpt_oks_sigmas = arrays.sigmas.tolist()
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
    images = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(arrays.sizes_hw, start=1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    # Of keypoints the reference itself leaves objects without any aside, in a way of its own.
    columns: dict[str, Any] = {
        "image_ids": _images(arrays.truth_starts) + 1,
        "category_ids": arrays.truth_classes + 1,
        "boxes": _boxes_xywh(arrays),
        "area": arrays.truth_areas,
        "iscrowd": arrays.truth_crowd & ~arrays.truth_once,
    }
    if arrays.truth_keypoints is not None:
        keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
        rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
        annotations = [
            {"id": i, **dict(zip(keys, row, strict=True)), "keypoints": points.ravel().tolist(), "num_keypoints": count}
            for i, (row, points, count) in enumerate(
                zip(rows, arrays.truth_keypoints, (arrays.truth_keypoints[..., 2] > 0).sum(1).tolist(), strict=True), 1
            )
        ]
        return COCO({"images": images, "categories": categories, "annotations": annotations})
    if arrays.truth_rles is not None:
        columns["segmentation"] = _segmentations(arrays, arrays.truth_starts, arrays.truth_rles)
    return COCO.from_arrays(images=images, categories=categories, **columns)


def _results(truth: Any, arrays: DetectionArrays) -> Any:
    images, classes = _images(arrays.detection_starts) + 1, arrays.detection_classes + 1
    corners, sizes_wh, areas = arrays.detection_boxes_xyxy[:, :2], arrays.detection_sizes_wh, arrays.detection_areas
    masks: dict[str, Any] = {}
    if arrays.detection_rles is not None:
        masks["segmentation"] = _segmentations(arrays, arrays.detection_starts, arrays.detection_rles)
        areas = np.where(np.isnan(areas), [rle.area(code) for code in arrays.detection_rles], areas)
    if arrays.detection_keypoints is not None:
        boxes = np.concatenate([corners, sizes_wh], axis=1)
        points = number_lists(arrays.detection_keypoints).to_list()
        rows = zip(*(*(c.tolist() for c in (images, classes, boxes, arrays.detection_scores)), points), strict=True)
        keys = ("image_id", "category_id", "bbox", "score", "keypoints")
        results = truth.load_res([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        table = np.column_stack([images, corners, sizes_wh, arrays.detection_scores, classes])
        results = truth.load_res(table, **masks)
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
