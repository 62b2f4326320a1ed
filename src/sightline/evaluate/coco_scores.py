"""COCO's average precision and recall, computed by hotcoco, which equals pycocotools bit for bit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from sightline.evaluate.detection_arrays import DetectionArrays, IouType
from sightline.ops.boxes import FloatArray, xyxy_to_xywh

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
    """Run the evaluation. A mask result is sized by its mask, ground truth by the data set's `area`."""
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
        boxes=np.maximum(xyxy_to_xywh(arrays.truth_boxes_xyxy), [-np.inf, -np.inf, 0.0, 0.0]),
        area=arrays.truth_areas,
        iscrowd=arrays.truth_crowd,
        **masks,
    )


def _results(truth: Any, arrays: DetectionArrays) -> Any:
    images, classes = _images(arrays.detection_starts) + 1, arrays.detection_classes + 1
    if arrays.detection_rles is not None:
        # Without a box the reference takes the area of the mask; with one it would take the box's.
        masks = _segmentations(arrays, arrays.detection_starts, arrays.detection_rles)
        columns = zip(images.tolist(), classes.tolist(), arrays.detection_scores.tolist(), masks, strict=True)
        return truth.load_res(
            [{"image_id": i, "category_id": c, "score": s, "segmentation": m} for i, c, s, m in columns]
        )
    return truth.load_res(
        np.column_stack([images, xyxy_to_xywh(arrays.detection_boxes_xyxy), arrays.detection_scores, classes])
    )


def _segmentations(arrays: DetectionArrays, starts: Any, rles: list[bytes]) -> list[dict[str, Any]]:
    images = _images(starts)
    return [{"size": list(arrays.sizes_hw[i]), "counts": c} for i, c in zip(images.tolist(), rles, strict=True)]


def _images(starts: Any) -> Any:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _missing_as_nan(values: Any) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array[array == -1.0] = np.nan
    return array
