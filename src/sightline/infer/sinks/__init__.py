"""Where results go: review video, pictures, JSON Lines, CSV, MOTChallenge text, COCO results, Parquet."""

from sightline.infer.sinks.drawn import VideoSettings, VideoSink
from sightline.infer.sinks.folders import FolderSink, PicturesSink, TextSink, masks_sink
from sightline.infer.sinks.protocol import FrameResult, RunInfo, Sink
from sightline.infer.sinks.registry import SINKS, create_sinks
from sightline.infer.sinks.tables import ParquetSink, coco_sink, mot_sink, parquet_sink
from sightline.infer.sinks.text import LineSink, association_sink, csv_sink, jsonl_sink

__all__ = [
    "SINKS",
    "FolderSink",
    "FrameResult",
    "LineSink",
    "ParquetSink",
    "PicturesSink",
    "RunInfo",
    "Sink",
    "TextSink",
    "VideoSettings",
    "VideoSink",
    "association_sink",
    "coco_sink",
    "create_sinks",
    "csv_sink",
    "jsonl_sink",
    "masks_sink",
    "mot_sink",
    "parquet_sink",
]
