"""The public names: each one is here on purpose, and each one is there."""

import importlib
from pathlib import Path

import pytest

import sightline

DOOR = [
    "Dataset",
    "Finding",
    "Geometry",
    "InputError",
    "Predictions",
    "Preprocess",
    "SightlineError",
    "__version__",
    "audit_dataset",
    "evaluate_detection",
    "evaluate_semantic",
    "evaluate_tracking",
    "open_predictor",
    "read_dataset",
]
PACKAGES = {
    "data": [
        "AuditOptions",
        "AuditResult",
        "CODES",
        "FORMATS",
        "ImageHeader",
        "LabelErrors",
        "MASK_IGNORE",
        "MAX_PIXELS",
        "SplitOptions",
        "audit_dataset",
        "check_format",
        "check_split_overlap",
        "check_written",
        "detect_format",
        "image_size",
        "plan_splits",
        "rank_label_errors",
        "read_class_mask",
        "read_dataset",
        "read_header",
        "read_image",
        "read_mask",
        "read_mot_txt",
        "split_dataset",
        "watch_copying",
        "write_dataset",
        "write_mot_txt",
        "write_quarantine",
        "write_split",
    ],
    "deploy": ["ExportResult", "ParityReport", "ParityTolerance", "check_parity", "export_onnx"],
    "evaluate": [
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
    ],
    "infer": [
        "BACKENDS",
        "FrameResult",
        "NetworkPredictor",
        "Predictor",
        "RunInfo",
        "RunResult",
        "SINKS",
        "Sink",
        "Source",
        "StageTimer",
        "StagedPredictor",
        "VideoSettings",
        "check_predictor",
        "create_sinks",
        "embed_dataset",
        "open_predictor",
        "open_source",
        "predict_dataset",
        "run_pipeline",
        "track_dataset",
    ],
    "models": [
        "Decoded",
        "IGNORE_INDEX",
        "MODELS",
        "Model",
        "ModelComplexity",
        "Targets",
        "check_model",
        "count_parameters",
        "create",
        "describe_model",
        "describe_weights",
        "fuse",
        "list_models",
        "load_model",
        "model_digest",
        "read_weights_meta",
        "save_weights",
    ],
    "ops": [
        "RleError",
        "assign",
        "box_area",
        "ciou_matrix",
        "clip_boxes",
        "confusion_matrix",
        "cxcywh_to_xyxy",
        "diou_matrix",
        "giou_matrix",
        "iou_matrix",
        "nms",
        "rle",
        "xywh_to_xyxy",
        "xyxy_to_cxcywh",
        "xyxy_to_xywh",
    ],
    "report": ["CardResult", "CardText", "ReportResult", "write_card", "write_report", "write_study_page"],
    "track": [
        "ASSOCIATION_SCHEMA",
        "FrameAssociation",
        "KalmanIouTracker",
        "MotionConfig",
        "TRACKERS",
        "Tracker",
        "TrackerConfig",
        "check_tracker",
        "create_tracker",
        "track_predictions",
    ],
    "train": [
        "Ablation",
        "AblationResult",
        "Augmentation",
        "SearchResult",
        "TrainConfig",
        "TrainResult",
        "Tuning",
        "Watcher",
        "resume",
        "run_ablation",
        "run_tuning",
        "train",
    ],
}


def test_the_door_has_exactly_these_names():
    assert sorted(sightline.__all__) == DOOR
    assert dir(sightline) == DOOR


@pytest.mark.parametrize("name", DOOR)
def test_each_name_of_the_door_resolves(name):
    assert getattr(sightline, name) is not None


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Dataest'"):
        sightline.Dataest  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_has_exactly_these_names(package):
    module = importlib.import_module(f"sightline.{package}")
    assert sorted(module.__all__) == sorted(PACKAGES[package])
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_no_package_is_forgotten():
    root = importlib.import_module("sightline").__path__[0]
    found = {path.parent.name for path in Path(root).glob("*/__init__.py")}
    with_names = {name for name in found if hasattr(importlib.import_module(f"sightline.{name}"), "__all__")}
    assert with_names == set(PACKAGES)
