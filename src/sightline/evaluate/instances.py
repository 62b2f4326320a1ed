"""Masks, keypoints or oriented boxes are what is judged, and the upright boxes around them stand beside."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

from sightline.core.dataset import Dataset, Task
from sightline.core.predictions import Predictions
from sightline.evaluate.detection import DEFAULT_MAX_DETS, DEFAULT_MAX_POSES, DetectionResult, evaluate_detection

__all__ = ["BOX_METRICS", "evaluate_instances", "evaluate_oriented", "evaluate_pose", "measure_of"]

BOX_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""Numbers of boxes that stand beside those of masks, keypoints or oriented boxes, there with `box_` before the name."""
Conf = float | Literal["best"] | None


class Measure(Protocol):
    """Measures detections of one task."""

    def __call__(
        self, dataset: Dataset, predictions: Predictions, *, conf: Conf = None, resamples: int = 0
    ) -> DetectionResult:
        """As `evaluate_detection`."""
        ...


def evaluate_instances(
    dataset: Dataset,
    predictions: Predictions,
    *,
    max_dets: tuple[int, ...] = DEFAULT_MAX_DETS,
    conf: Conf = None,
    resamples: int = 0,
) -> DetectionResult:
    """COCO's numbers of masks (`iou_type` segm), and among `metrics` and `intervals` those of the same detections'
    boxes: `box_AP`, `box_AP50` and so on.

    Everything else (operating point, confusion, curves, by class) is of masks. Arguments and errors are those of
    `evaluate_detection`.
    """
    masks = evaluate_detection(dataset, predictions, iou_type="segm", max_dets=max_dets, conf=conf, resamples=resamples)
    return _beside_boxes(masks, dataset, predictions, max_dets, resamples)


def evaluate_pose(
    dataset: Dataset,
    predictions: Predictions,
    *,
    max_det: int = DEFAULT_MAX_POSES,
    conf: Conf = None,
    resamples: int = 0,
    sigmas: Sequence[float] | None = None,
) -> DetectionResult:
    """COCO's ten numbers of keypoints (`iou_type` keypoints, equal to pycocotools'), and those of the boxes beside.

    An object is found where the object keypoint similarity is large enough; everything but the `box_` metrics is of
    that. `max_det` is the most detections of an image and class. `sigmas`, one for each keypoint, are COCO's for 17
    keypoints and 1 / K for K others unless given. Other arguments and errors are those of `evaluate_detection`.
    """
    poses = evaluate_detection(
        dataset,
        predictions,
        iou_type="keypoints",
        max_dets=(max_det,),
        conf=conf,
        resamples=resamples,
        sigmas=sigmas,
    )
    return _beside_boxes(poses, dataset, predictions, DEFAULT_MAX_DETS, resamples)


def evaluate_oriented(
    dataset: Dataset,
    predictions: Predictions,
    *,
    max_dets: tuple[int, ...] = DEFAULT_MAX_DETS,
    conf: Conf = None,
    resamples: int = 0,
) -> DetectionResult:
    """AP, AP50 (the threshold of VOC and DOTA), AP75 and AR of oriented boxes (`iou_type` obb), by COCO's definition
    with the exact IoU of rotated rectangles, and the numbers of the upright boxes around them beside.

    An object's box is the smallest around its outline, else its own. The last of `max_dets` limits detections. Other
    arguments and errors are those of `evaluate_detection`.
    """
    turned = evaluate_detection(dataset, predictions, iou_type="obb", max_dets=max_dets, conf=conf, resamples=resamples)
    return _beside_boxes(turned, dataset, predictions, max_dets, resamples)


def _beside_boxes(
    judged: DetectionResult, dataset: Dataset, predictions: Predictions, max_dets: tuple[int, ...], resamples: int
) -> DetectionResult:
    at = judged.operating_point.conf
    boxes = evaluate_detection(dataset, predictions, iou_type="bbox", max_dets=max_dets, conf=at, resamples=resamples)
    return replace(
        judged,
        metrics=judged.metrics | {f"box_{name}": boxes.metrics[name] for name in BOX_METRICS},
        intervals=judged.intervals | {f"box_{n}": ends for n, ends in boxes.intervals.items() if n in BOX_METRICS},
        conventions=judged.conventions | {"box_": "before a metric's name: of the boxes of the same detections"},
    )


def measure_of(task: Task) -> Measure:
    """What judges a model of this task that detects objects."""
    measures: dict[Task, Measure] = {"instance": evaluate_instances, "obb": evaluate_oriented, "pose": evaluate_pose}
    return measures.get(task, evaluate_detection)
