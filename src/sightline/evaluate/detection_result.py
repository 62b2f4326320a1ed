"""What detection and instance segmentation score, with everything a figure or a report needs."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from sightline.core.results import Result
from sightline.evaluate.coco import IntArray, IouType
from sightline.ops.boxes import FloatArray


@dataclass(frozen=True)
class PointCounts:
    """Pooled counts of all classes at one confidence threshold, IoU 0.5. `origin` says how the threshold came about.

    A detection counts when its score is at least `conf`; the `on_crowd` ones lie on crowd or ignored regions and are
    neither true nor false. Precision without detections and recall without objects are NaN; all three are 1 at best.
    """

    conf: float
    origin: str
    precision: float
    recall: float
    f1: float
    true_positives: int
    false_positives: int
    false_negatives: int
    on_crowd: int


@dataclass(frozen=True, eq=False)
class DetectionCurves:
    """Curves at IoU 0.5 by class (C rows) and over classes.

    `precision` (C, 101) is COCO's interpolated precision at `recall` (101,), NaN for a class without objects;
    `mean_precision` leaves those classes out. `f1` (C, 101) is over confidence thresholds `conf` (101,); `pooled_*`
    pool the counts of all classes.
    """

    class_names: tuple[str, ...]
    recall: FloatArray
    precision: FloatArray
    mean_precision: FloatArray
    conf: FloatArray
    f1: FloatArray
    pooled_f1: FloatArray
    pooled_precision: FloatArray
    pooled_recall: FloatArray


@dataclass(frozen=True, eq=False)
class DetectionResult(Result):
    """COCO's 12 numbers, numbers by class, curves, and one operating point with its confusion matrix.

    `metrics`: AP (mean over IoU 0.50:0.95), AP50, AP75, APs, APm, APl (small, medium, large objects), AR1, AR10, AR100
    (recall at so many detections per image), ARs, ARm, ARl, each in 0..1 and 1 at best, NaN without such objects.
    `per_class` has a row for each class: objects, crowd, detections, AP, AP50, AP75, AR, and tp, fp, fn, precision,
    recall, f1 at the operating point. `confusion` (C + 1, C + 1) has ground truth in rows, detections in columns,
    background last. `warnings` are reasons to doubt the numbers: predictions that seem to be something else than they
    were read as, cut short, or of part of the images.
    """

    iou_type: IouType
    metrics: dict[str, float]
    per_class: pl.DataFrame
    operating_point: PointCounts
    confusion: IntArray
    curves: DetectionCurves
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> float:
        """One of the 12 numbers, such as `result["AP50"]`."""
        return self.metrics[metric]

    @property
    def title(self) -> str:
        """What was measured and, in capitals, what keeps it from being the number others would give."""
        kind = "boxes" if self.iou_type == "bbox" else "masks"
        return " · ".join([f"COCO {kind}, {self.conventions['images']} images", *self.conventions.get("limits", ())])

    def to_frame(self) -> pl.DataFrame:
        """The 12 numbers and the operating point as `metric`, `value`."""
        point = self.operating_point
        at_point = {"precision": point.precision, "recall": point.recall, "F1": point.f1, "conf": point.conf}
        values = {**self.metrics, **at_point}
        return pl.DataFrame(
            {"metric": list(values), "value": list(values.values())}, schema_overrides={"value": pl.Float64}
        )
