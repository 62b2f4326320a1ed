"""How good is it: detection, segmentation and tracking, equal to the reference implementations."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.evaluate.boundaries import BOUNDARY_COLUMNS, BoundaryAccumulator, BoundaryOptions
    from sightline.evaluate.coco import DetectionArrays, IouType, detection_arrays
    from sightline.evaluate.detection import (
        DEFAULT_MAX_DETS,
        DEFAULT_MAX_POSES,
        DetectionCurves,
        DetectionResult,
        PointCounts,
        evaluate_detection,
    )
    from sightline.evaluate.detection_matching import MATCH_IOU, average_precision, match_detections
    from sightline.evaluate.foreground import ForegroundCounts, ForegroundCurves, ForegroundPoint
    from sightline.evaluate.image_scores import DetectionImage, best_and_worst, score_detection_images
    from sightline.evaluate.inputs import fit_predictions
    from sightline.evaluate.instances import evaluate_instances, evaluate_oriented, evaluate_pose, measure_of
    from sightline.evaluate.intervals import RESAMPLES
    from sightline.evaluate.object_errors import OBJECT_KINDS, PREDICTION_KINDS, ObjectErrors
    from sightline.evaluate.panoptic import PanopticAccumulator, PanopticResult, Segments, evaluate_panoptic
    from sightline.evaluate.pixels import SemanticAccumulator, class_ratios, mean_defined, summary
    from sightline.evaluate.registry import METRICS, with_added_metrics
    from sightline.evaluate.segmentation import SemanticResult, evaluate_semantic, evaluate_semantic_maps
    from sightline.evaluate.sizes import SIZES, best_conf_by_size
    from sightline.evaluate.tracking import (
        TrackingResult,
        TrackingScores,
        evaluate_mot_files,
        evaluate_mot_results,
        evaluate_tracking,
    )

__all__ = [
    "BOUNDARY_COLUMNS",
    "DEFAULT_MAX_DETS",
    "DEFAULT_MAX_POSES",
    "MATCH_IOU",
    "METRICS",
    "OBJECT_KINDS",
    "PREDICTION_KINDS",
    "RESAMPLES",
    "SIZES",
    "BoundaryAccumulator",
    "BoundaryOptions",
    "DetectionArrays",
    "DetectionCurves",
    "DetectionImage",
    "DetectionResult",
    "ForegroundCounts",
    "ForegroundCurves",
    "ForegroundPoint",
    "IouType",
    "ObjectErrors",
    "PanopticAccumulator",
    "PanopticResult",
    "PointCounts",
    "Segments",
    "SemanticAccumulator",
    "SemanticResult",
    "TrackingResult",
    "TrackingScores",
    "average_precision",
    "best_and_worst",
    "best_conf_by_size",
    "class_ratios",
    "detection_arrays",
    "evaluate_detection",
    "evaluate_instances",
    "evaluate_mot_files",
    "evaluate_mot_results",
    "evaluate_oriented",
    "evaluate_panoptic",
    "evaluate_pose",
    "evaluate_semantic",
    "evaluate_semantic_maps",
    "evaluate_tracking",
    "fit_predictions",
    "match_detections",
    "mean_defined",
    "measure_of",
    "score_detection_images",
    "summary",
    "with_added_metrics",
]

__getattr__, __dir__ = door(__name__)
