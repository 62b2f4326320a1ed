"""`sightline run`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

import sightline.infer
import sightline.infer.sources
import sightline.track
from sightline.cli.console import (
    INTERRUPTED,
    JsonFlag,
    emit_json,
    note,
    progress_bar,
    show_table,
)
from sightline.cli.evaluate import NetworkOptions
from sightline.core.errors import ConfigError, SourceError
from sightline.core.files import refuse_overwriting, write_json_atomic
from sightline.core.runs import RunFolder
from sightline.infer.sources import TIMEOUT_S

__all__ = ["run"]

Output = Literal["video", "pictures", "jsonl", "csv", "mot", "coco", "parquet", "association"]


class RunOptions(NetworkOptions):
    """How the model runs, and what is followed."""

    track: bool | None = Field(
        default=None,
        description="Follow objects over time; without it whatever has a time is tracked, stills are not.",
    )
    tracker: str = Field(default="kalman-iou", description="Name of the tracker.")
    conf: float | None = Field(default=None, description="Least score; the model's own operating point without it.")
    iou: float | None = Field(default=None, description="Greatest IoU two kept boxes of a class may have.")
    max_det: int | None = Field(default=None, ge=1, description="Most detections per frame.")
    codec: Literal["h264", "av1", "vp9", "mpeg4"] = Field(default="h264", description="Of the review video.")
    audio: bool = Field(default=True, description="Keep the sound in the review video.")
    container: Literal["mp4", "mkv", "mov"] = Field(default="mp4", description="Kind of file of the review video.")
    batch: int = Field(default=1, ge=1, description="Frames per forward pass.")
    max_frames: int | None = Field(default=None, ge=1, description="Stop after so many frames.")
    allow_network: bool = Field(default=False, description="Allow rtsp:// and http:// sources.")
    timeout: float = Field(default=TIMEOUT_S, gt=0, description="Seconds within which a stream must answer and go on.")
    skip_damaged: bool = Field(default=False, description="Leave out frames and pictures that cannot be decoded.")
    record: str | None = Field(
        default=None, description="Folder of a run: video.json is kept there too, for its report."
    )


def run(
    model: str,
    source: str,
    *,
    out: str = "outputs",
    save: Annotated[tuple[Output, ...], Parameter(negative="")] = (),
    options: Annotated[RunOptions, Parameter(name="*")] = RunOptions(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Run a model on an image, a folder, a sequence, a video or a camera. Ctrl-C keeps the frames done (exit code 130).

    Parameters
    ----------
    model
        A .safetensors or .onnx file of ours.
    source
        Image, folder, MOTChallenge sequence, video file, or the number of a camera.
    out
        Folder for the outputs and video.json, the record of the run.
    save
        What to write: video, pictures, jsonl, csv, mot, coco, parquet, association (why each match was made). Without
        it jsonl, and a video or, of stills, pictures.
    options
        How the model runs, and what is followed.
    """
    keep = RunFolder.open(options.record) if options.record is not None else None
    predictor = sightline.infer.open_predictor(
        model,
        conf=options.conf,
        iou=options.iou,
        max_det=options.max_det,
        device=options.device,
        threads=options.threads,
    )
    if predictor.task == "semantic" and (options.conf, options.iou, options.max_det) != (None, None, None):
        raise ConfigError("--conf, --iou and --max-det are for detections, got a model of label maps", where=model)
    opened = sightline.infer.open_source(
        source, allow_network=options.allow_network, skip_damaged=options.skip_damaged, timeout_s=options.timeout
    )
    stills = isinstance(opened, sightline.infer.sources.ImageSource) and opened.fps is None
    track = (not stills and predictor.task != "semantic") if options.track is None else options.track
    follows = sightline.track.create_tracker(options.tracker) if track else None
    stem = Path(source).resolve().stem if "://" not in source else "stream"
    kinds = save or ("pictures" if stills else "video", "jsonl")
    video = sightline.infer.VideoSettings(codec=options.codec, audio=options.audio, container=options.container)
    sinks = sightline.infer.create_sinks(kinds, out, stem, video)
    records = [folder / "video.json" for folder in ([Path(out)] if keep is None else [Path(out), keep.path])]
    refuse_overwriting([*(sink.path for sink in sinks.values()), *records], [model, *opened.files])
    with progress_bar() as bar:
        result = sightline.infer.run_pipeline(
            opened,
            predictor,
            follows,
            list(sinks.values()),
            batch=options.batch,
            max_frames=options.max_frames,
            progress=bar,
        )
    for record in records:
        write_json_atomic(record, result)
    if json:
        emit_json(result)
    else:
        counts = ", ".join(f"{n} {name}" for name, n in result.objects_by_class.items())
        show_table(
            f"{result.frames} frames at {result.fps:.1f} frames/s, {result.detections} detections ({counts}), "
            f"{result.tracks} tracks; milliseconds per frame",
            result.latency.columns,
            result.latency.rows(),
        )
        show_table("", ("output", "file"), list(result.outputs.items()))
    if result.unconfirmed:
        note(f"{result.unconfirmed} detections belong to no confirmed track and have no track id (none in MOT text)")
    if result.left_out:
        note(f"{result.left_out} detections left out: their scores may only continue a track, and they continued none")
    for line in result.notes:
        note(line)
    if result.reason:
        raise SourceError(f"stopped after {result.frames} frames, which the outputs have: {result.reason}")
    if result.interrupted:
        note(f"interrupted after {result.frames} frames; the outputs are complete up to there")
        return INTERRUPTED
    return 0
