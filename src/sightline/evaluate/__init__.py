"""How good is it: detection, segmentation and tracking, equal to the reference implementations."""

from sightline.evaluate.detection import evaluate_detection
from sightline.evaluate.detection_result import DetectionCurves, DetectionResult, PointCounts
from sightline.evaluate.segmentation import SemanticResult, evaluate_semantic, evaluate_semantic_maps
from sightline.evaluate.semantic_scores import SemanticAccumulator
from sightline.evaluate.tracking import TrackingResult, TrackingScores, evaluate_mot_files, evaluate_tracking

__all__ = [
    "DetectionCurves",
    "DetectionResult",
    "PointCounts",
    "SemanticAccumulator",
    "SemanticResult",
    "TrackingResult",
    "TrackingScores",
    "evaluate_detection",
    "evaluate_mot_files",
    "evaluate_semantic",
    "evaluate_semantic_maps",
    "evaluate_tracking",
]
