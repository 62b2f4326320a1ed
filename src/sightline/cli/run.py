"""`sightline run`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import sightline.infer
import sightline.infer.sources
import sightline.track
from sightline.cli.console import INTERRUPTED, Count, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic
from sightline.core.runs import RunFolder

__all__ = ["run"]

Output = Literal["video", "pictures", "jsonl", "csv", "mot", "coco", "parquet", "association"]


def run(
    model: str,
    source: str,
    *,
    out: str = "outputs",
    save: Annotated[tuple[Output, ...], Parameter(negative="")] = (),
    track: bool | None = None,
    tracker: str = "kalman-iou",
    conf: float | None = None,
    iou: float | None = None,
    max_det: Count | None = None,
    codec: Literal["h264", "av1", "vp9", "mpeg4"] = "h264",
    batch: Count = 1,
    max_frames: Count | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: Count | None = None,
    allow_network: bool = False,
    record: str | None = None,
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
    track
        Follow objects over time; without it whatever has a time is tracked, stills are not.
    tracker
        Name of the tracker.
    conf
        Least score; the model's own operating point without it.
    iou
        Greatest IoU two kept boxes of a class may have.
    max_det
        Most detections per frame.
    codec
        Of the review video.
    batch
        Frames per forward pass.
    max_frames
        Stop after so many frames.
    device
        Where a torch model runs.
    threads
        Threads the network may use.
    allow_network
        Allow rtsp:// and http:// sources.
    record
        Folder of a run: video.json is kept there too, for its report.
    json
        Print the result as JSON.
    """
    keep = RunFolder.open(record) if record is not None else None
    predictor = sightline.infer.open_predictor(
        model, conf=conf, iou=iou, max_det=max_det, device=device, threads=threads
    )
    if predictor.task == "semantic" and (conf, iou, max_det) != (None, None, None):
        raise ConfigError("--conf, --iou and --max-det are for detections, got a model of label maps", where=model)
    opened = sightline.infer.open_source(source, allow_network=allow_network)
    stills = isinstance(opened, sightline.infer.sources.ImageSource) and opened.fps is None
    if track is None:
        track = not stills and predictor.task != "semantic"
    follows = sightline.track.create_tracker(tracker) if track else None
    stem = Path(source).resolve().stem if "://" not in source else "stream"
    sinks = sightline.infer.create_sinks(
        save or ("pictures" if stills else "video", "jsonl"), out, stem, sightline.infer.VideoSettings(codec=codec)
    )
    with progress_bar() as bar:
        result = sightline.infer.run_pipeline(
            opened,
            predictor,
            follows,
            list(sinks.values()),
            batch=batch,
            max_frames=max_frames,
            progress=bar,
        )
    for folder in [Path(out)] if keep is None else [Path(out), keep.path]:
        write_json_atomic(folder / "video.json", result)
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
    if result.interrupted:
        note(f"interrupted after {result.frames} frames; the outputs are complete up to there")
        return INTERRUPTED
    return 0
