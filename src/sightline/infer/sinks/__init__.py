"""Where results go: review video, pictures, JSON Lines, CSV, MOTChallenge text, COCO results, Parquet."""

from sightline.infer.sinks.pictures import PicturesSink
from sightline.infer.sinks.protocol import FrameResult, RunInfo, Sink
from sightline.infer.sinks.registry import SINKS, create_sinks
from sightline.infer.sinks.tables import CocoSink, MotSink, ParquetSink
from sightline.infer.sinks.text import AssociationSink, CsvSink, JsonLinesSink
from sightline.infer.sinks.video import VideoSettings, VideoSink

__all__ = [
    "SINKS",
    "AssociationSink",
    "CocoSink",
    "CsvSink",
    "FrameResult",
    "JsonLinesSink",
    "MotSink",
    "ParquetSink",
    "PicturesSink",
    "RunInfo",
    "Sink",
    "VideoSettings",
    "VideoSink",
    "create_sinks",
]
