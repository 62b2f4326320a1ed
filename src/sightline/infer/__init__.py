"""Running a model: predictors of every backend, sources, sinks, drawing and the video pipeline. Works without torch."""

from sightline.infer.dataset import predict_dataset
from sightline.infer.dataset_embedding import embed_dataset
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.opening import BACKENDS, open_predictor
from sightline.infer.pipeline import RunResult, run_pipeline
from sightline.infer.predictor import Predictor, StagedPredictor, check_predictor
from sightline.infer.sinks import SINKS, FrameResult, RunInfo, Sink, VideoSettings, create_sinks
from sightline.infer.sources import Source, open_source
from sightline.infer.timing import StageTimer
from sightline.infer.tracking import track_dataset

__all__ = [
    "BACKENDS",
    "SINKS",
    "FrameResult",
    "NetworkPredictor",
    "Predictor",
    "RunInfo",
    "RunResult",
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
]
