"""Running a model: predictors of every backend, sources, sinks, drawing and the video pipeline. Works without torch."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.infer.cleaned import CleanedSegmenter
    from sightline.infer.dataset import predict_dataset, track_dataset
    from sightline.infer.foreground_search import search_foreground
    from sightline.infer.foreign.adopt import AdoptedGraph, AdoptHints, adopt_function, adopt_onnx, read_onnx
    from sightline.infer.fused import FusedPredictor
    from sightline.infer.network_predictor import OUTPUT_NAMES, NetworkPredictor, is_binary, output_names
    from sightline.infer.opening import BACKENDS, embed_dataset, open_predictor
    from sightline.infer.pipeline import RunResult, StageTimer, run_pipeline
    from sightline.infer.predictor import Image, Outputs, Prediction, Predictor, StagedPredictor, given_images
    from sightline.infer.sinks import SINKS, FrameResult, RunInfo, Sink, VideoSettings, create_sinks
    from sightline.infer.sources import Source, find_sources, open_source
    from sightline.infer.threshold_search import Criterion, ThresholdGrid, ThresholdsResult, search_thresholds
    from sightline.infer.tiled import TiledPredictor, Tiling
    from sightline.infer.tiled_maps import MapTiling, TiledSegmenter, measure_reach
    from sightline.infer.torch_predictor import predictor_from_model
    from sightline.infer.window import Window
    from sightline.ops.map_cleaning import MapCleaning

__all__ = [
    "BACKENDS",
    "OUTPUT_NAMES",
    "SINKS",
    "AdoptHints",
    "AdoptedGraph",
    "CleanedSegmenter",
    "Criterion",
    "FrameResult",
    "FusedPredictor",
    "Image",
    "MapCleaning",
    "MapTiling",
    "NetworkPredictor",
    "Outputs",
    "Prediction",
    "Predictor",
    "RunInfo",
    "RunResult",
    "Sink",
    "Source",
    "StageTimer",
    "StagedPredictor",
    "ThresholdGrid",
    "ThresholdsResult",
    "TiledPredictor",
    "TiledSegmenter",
    "Tiling",
    "VideoSettings",
    "Window",
    "adopt_function",
    "adopt_onnx",
    "create_sinks",
    "embed_dataset",
    "find_sources",
    "given_images",
    "is_binary",
    "measure_reach",
    "open_predictor",
    "open_source",
    "output_names",
    "predict_dataset",
    "predictor_from_model",
    "read_onnx",
    "run_pipeline",
    "search_foreground",
    "search_thresholds",
    "track_dataset",
]

__getattr__, __dir__ = door(__name__)
