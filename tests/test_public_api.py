"""The public names: each one is here on purpose, and each one is there."""

import importlib
from pathlib import Path

import pytest

import sightline

DOOR = ["Dataset", "Finding", "Geometry", "InputError", "Predictions", "Preprocess", "SightlineError", "__version__", "audit_dataset", "evaluate_detection", "evaluate_semantic", "evaluate_tracking", "open_predictor", "read_dataset"]
PACKAGES = {"audit": ["AuditOptions", "AuditResult", "LabelErrors", "QUANTILES", "SplitOptions", "audit_dataset", "plan_splits", "rank_label_errors", "write_quarantine", "write_split"], "data": ["BACKGROUND_NAMES", "CODES", "DESCRIPTION_NAME", "Description", "FORMATS", "IMAGE_SUFFIXES", "MASK_IGNORE", "absolute", "check_split_overlap", "class_ids", "detect_format", "entry_lines", "finding", "images_of_findings", "inside", "list_images", "mask_palette", "path_from", "read_class_mask", "read_coco_results", "read_dataset", "read_mot_txt", "split_dataset", "split_of", "watch_copying", "write_dataset", "write_mot_predictions", "write_mot_txt"], "deploy": ["ExportResult", "ParityReport", "ParityTolerance", "check_parity", "export_onnx"], "draw": ["CAPTION_PX", "Drawer", "GROUND", "JUDGED", "PALETTE", "TINT", "Tag", "View", "class_key", "dot", "draw_caption", "draw_class_map", "lay_out", "outline_box", "outline_mask", "show_tones", "text_width", "tint", "view_whole", "write_tags"], "evaluate": ["DEFAULT_MAX_DETS", "DetectionCurves", "DetectionImage", "DetectionResult", "IGNORED", "PointCounts", "SemanticAccumulator", "SemanticResult", "TrackingResult", "TrackingScores", "best_and_worst", "class_ratios", "evaluate_detection", "evaluate_mot_files", "evaluate_semantic", "evaluate_semantic_maps", "evaluate_tracking", "mean_defined", "read_truth", "score_detection_images"], "infer": ["BACKENDS", "FrameResult", "Image", "NetworkPredictor", "OUTPUT_NAMES", "Outputs", "Prediction", "Predictor", "RunInfo", "RunResult", "SINKS", "Sink", "Source", "StageTimer", "StagedPredictor", "VideoSettings", "create_sinks", "embed_dataset", "open_predictor", "open_source", "predict_dataset", "run_pipeline", "track_dataset"], "media": ["COLOUR_BASE", "FileBuffer", "ImageError", "ImageHeader", "MAX_PIXELS", "MAX_SIDE", "VideoIndex", "as_rgb8", "as_uint8", "colour_of_id", "decode_image", "decode_mask", "decode_reduced", "decode_scaled", "find_videos", "find_zeroed_block", "id_of_colour", "image_size", "parse_header", "read_bytes", "read_frame", "read_header", "read_image", "read_mask", "video_index"], "models": ["Decoded", "IGNORE_INDEX", "MODELS", "Model", "ModelComplexity", "Targets", "cache_folder", "count_parameters", "create", "describe_model", "describe_weights", "fuse", "list_models", "load_model", "model_digest", "read_weights_meta", "save_weights", "synchronise_norms"], "ops": ["RleError", "assign", "box_area", "ciou_matrix", "clip_boxes", "confusion_matrix", "cxcywh_to_xyxy", "diou_matrix", "giou_matrix", "iou_matrix", "nms", "rle", "xywh_to_xyxy", "xyxy_to_cxcywh", "xyxy_to_xywh"], "report": ["CardResult", "CardText", "OutputFormat", "ReportResult", "write_audit_page", "write_card", "write_look", "write_report", "write_study_page", "write_template"], "synth": ["CRACK_CLASS_NAMES", "CrackImage", "MIN_VISIBILITY", "MIN_VISIBLE_PX", "SceneObject", "SequenceFrame", "SynthFormat", "SynthResult", "SynthScene", "TRAFFIC_CLASS_NAMES", "TrafficImage", "generate", "render_cracks", "render_traffic", "render_traffic_sequence"], "testing": ["check_format", "check_model", "check_predictor", "check_tracker", "check_written"], "track": ["ASSOCIATION_SCHEMA", "FrameAssociation", "KalmanIouTracker", "MotionConfig", "TRACKERS", "Tracker", "TrackerConfig", "create_tracker", "sequence_frames", "track_predictions"], "train": ["Ablation", "AblationResult", "Augmentation", "Profile", "SHORT_NAMES", "SearchResult", "TrainConfig", "TrainResult", "Tuning", "Watcher", "join_processes", "nest_settings", "profile_training", "resume", "run_ablation", "run_tuning", "train"]}


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
