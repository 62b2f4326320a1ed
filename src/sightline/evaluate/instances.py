"""Instance segmentation: masks are what is judged, and the boxes around them stand beside."""

from dataclasses import replace
from typing import Literal

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions
from sightline.evaluate.detection import DEFAULT_MAX_DETS, DetectionResult, evaluate_detection

__all__ = ["BOX_METRICS", "evaluate_instances"]

BOX_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""Numbers of boxes that stand beside those of masks, there with `box_` before the name."""


def evaluate_instances(
    dataset: Dataset,
    predictions: Predictions,
    *,
    max_dets: tuple[int, int, int] = DEFAULT_MAX_DETS,
    conf: float | Literal["best"] | None = None,
    resamples: int = 0,
) -> DetectionResult:
    """COCO's numbers of masks (`iou_type` segm), and among `metrics` and `intervals` those of the same detections'
    boxes: `box_AP`, `box_AP50` and so on.

    Everything else (operating point, confusion, curves, by class) is of masks. Arguments and errors are those of
    `evaluate_detection`.
    """
    masks = evaluate_detection(dataset, predictions, iou_type="segm", max_dets=max_dets, conf=conf, resamples=resamples)
    at = masks.operating_point.conf
    boxes = evaluate_detection(dataset, predictions, iou_type="bbox", max_dets=max_dets, conf=at, resamples=resamples)
    return replace(
        masks,
        metrics=masks.metrics | {f"box_{name}": boxes.metrics[name] for name in BOX_METRICS},
        intervals=masks.intervals | {f"box_{n}": ends for n, ends in boxes.intervals.items() if n in BOX_METRICS},
        conventions=masks.conventions | {"box_": "before a metric's name: of the boxes of the same detections"},
    )
