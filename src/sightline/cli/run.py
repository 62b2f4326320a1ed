"""`sightline run`."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    warn,
)
from sightline.cli.network import AssemblyOptions, assembled, read_size
from sightline.core.errors import ConfigError, SourceError, unknown_name
from sightline.core.files import check_writable, refuse_overwriting
from sightline.core.operating_point import Suppression
from sightline.core.runs import RunFolder

if TYPE_CHECKING:
    from sightline.infer import NetworkPredictor, Predictor, RunResult, Window

    _Given = tuple[str, Path, tuple[str, ...], Window | None]

__all__ = ["run"]


class RunOptions(AssemblyOptions):
    """How the model runs, and what is followed."""

    track: bool | None = Field(
        default=None,
        description="Follow objects over time; without it whatever has a time is tracked, stills are not.",
    )
    tracker: str = Field(
        default="kalman-iou", description="Name of the tracker: kalman-iou, or one of a plug-in (doctor lists them)."
    )
    tracker_settings: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="Settings of the tracker as name=value, such as max_age_s=1 or motion.velocity_noise=1."
    )
    conf: float | None = Field(
        default=None,
        description="Least score, 0 to 1; the model's own operating point without it. Of label maps of two classes the "
        "least probability of the foreground; without it the likelier class.",
    )
    imgsz: str | None = Field(
        default=None,
        description="Size the network is fed at in place of its own, one side or HEIGHTxWIDTH, of weights "
        "(.safetensors): its numbers hold for its own.",
    )
    iou: float | None = Field(default=None, description="Greatest IoU two kept boxes of a class may have.")
    max_det: int | None = Field(default=None, ge=1, description="Most detections per frame.")
    suppression: Suppression | None = Field(
        default=None,
        description="How one object is kept once: nms by class, agnostic over classes, diou (boxes with other centres "
        "stay), soft-linear and soft-gaussian (scores decay), none. The model's own without it.",
    )
    sigma: float | None = Field(
        default=None,
        description="Of soft-gaussian: the smaller, the faster scores decay; 0.5 where the model says none.",
    )
    classes: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="Keep detections of these classes only, by name or id."
    )
    codec: Literal["h264", "av1", "vp9", "mpeg4"] = Field(default="h264", description="Of the review video.")
    audio: bool = Field(default=True, description="Keep the sound in the review video.")
    container: Literal["mp4", "mkv", "mov"] = Field(default="mp4", description="Kind of file of the review video.")
    batch: int = Field(default=1, ge=1, description="Frames, or tiles (8 without it), per forward pass.")
    max_frames: int | None = Field(default=None, ge=1, description="Stop after so many frames.")
    allow_network: bool = Field(default=False, description="Allow rtsp:// and http:// sources.")
    timeout: float | None = Field(
        default=None, gt=0, description="Seconds within which a stream must answer and go on; 15 without it."
    )
    skip_damaged: bool = Field(default=False, description="Leave out frames and pictures that cannot be decoded.")
    show: bool = Field(
        default=False,
        description="Show the frames in a window as they come; q, Escape or closing it ends the run. Stills stay until "
        "a key is pressed.",
    )
    record: str | None = Field(
        default=None, description="Folder of a run: video.json is kept there too, for its report."
    )


def run(
    model: str,
    source: str,
    *sources: str,
    out: str = "outputs",
    save: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    options: Annotated[RunOptions, Parameter(name="*")] = RunOptions(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Run a model on images, folders, sequences, videos or a camera. Ctrl-C keeps the frames done (exit code 130).

    Parameters
    ----------
    model
        A .safetensors or .onnx file of ours.
    source
        Image, folder (with its sub-folders: pictures, videos, MOTChallenge sequences), video file, pattern such as
        'clips/*.mp4', or the number of a camera.
    sources
        More of them, one after the other; each has outputs and a record of its own name.
    out
        Folder for the outputs and video.json, the record of the run (of several `<name>-video.json`).
    save
        What to write: video, pictures, jsonl, csv, txt (YOLO text), masks (of label maps), mot, coco, parquet,
        association (why each match was made), or an output of a plug-in. Without it jsonl, and a video or, of stills,
        pictures.
    options
        How the model runs, and what is followed.
    """
    for kind in save:
        if kind not in sightline.infer.SINKS:
            raise ConfigError(unknown_name("output", kind, sightline.infer.SINKS))
    if options.imgsz is not None:
        read_size(options.imgsz, "--imgsz")
    if options.tracker not in sightline.track.TRACKERS:
        raise ConfigError(unknown_name("tracker", options.tracker, sightline.track.TRACKERS))
    places = [place for spec in (source, *sources) for place in sightline.infer.sources.find_sources(spec)]
    if options.record is not None and len(places) > 1:
        raise ConfigError(f"--record must be given with one source, got {len(places)}")
    check_writable([Path(out) / "video.json"])
    keep = RunFolder.open(options.record) if options.record is not None else None
    with sightline.infer.Window(model) if options.show else nullcontext() as window:
        return _run_all(places, keep, (model, Path(out), save, window), options, json)


def _run_all(places: list[str], keep: RunFolder | None, given: "_Given", options: RunOptions, json: bool) -> int:
    model, out, *_ = given
    size_hw = None if options.imgsz is None else read_size(options.imgsz, "--imgsz")
    predictor = assembled(_opened(model, options, size_hw), options, lambda other: _opened(other, options, size_hw))
    results: list[RunResult] = []
    failed: list[str] = []
    for place, stem in zip(places, _stems(places), strict=True):
        name = "video.json" if len(places) == 1 else f"{stem}-video.json"
        records = [out / name, *([] if keep is None else [keep.path / name])]
        try:
            results.append(_run_one(predictor, place, stem, records, given, options))
        except SourceError as error:
            if len(places) == 1:
                raise
            failed.append(place)
            warn(f"{error} The other sources go on.")
            continue
        _show(results[-1], json)
        if results[-1].interrupted:
            break
    if json:
        emit_json(results[0] if len(places) == 1 else results)
    if failed and not (options.skip_damaged and results):
        what = f"every source must be one that can be read to its end, got {len(failed)} of {len(places)} that are not"
        raise SourceError(f"{what}: {', '.join(failed)}", do="mend or remove them, or add --skip-damaged")
    return _finish(results[-1])


def _opened(model: str, options: RunOptions, size_hw: tuple[int, int] | None) -> "NetworkPredictor":
    predictor = sightline.infer.open_predictor(
        model,
        conf=options.conf,
        iou=options.iou,
        max_det=options.max_det,
        suppression=options.suppression,
        sigma=options.sigma,
        size_hw=size_hw,
        device=options.device,
        threads=options.threads,
    )
    if predictor.task != "semantic":
        if options.sigma is not None and predictor.thresholds.suppression != "soft-gaussian":
            got = predictor.thresholds.suppression
            raise ConfigError(f"--sigma is for --suppression soft-gaussian, got {got}", where=model)
        return predictor
    if (options.iou, options.max_det, options.suppression, options.sigma) != (None,) * 4:
        message = "--iou, --max-det, --suppression and --sigma are for detections, got a model of label maps"
        raise ConfigError(message, where=model)
    chosen = predictor if options.conf is None else predictor.at_foreground(options.conf)
    if chosen.foreground_conf is not None:
        origin = "the model's own" if options.conf is None else "given"
        note(f"foreground from probability {chosen.foreground_conf:.4g} on ({origin})")
    return chosen


def _run_one(
    predictor: "Predictor",
    place: str,
    stem: str,
    records: list[Path],
    given: "_Given",
    options: RunOptions,
) -> "RunResult":
    model, out, save, window = given
    opened = sightline.infer.open_source(
        place,
        allow_network=options.allow_network,
        skip_damaged=options.skip_damaged,
        timeout_s=options.timeout or sightline.infer.sources.TIMEOUT_S,
    )
    stills = isinstance(opened, sightline.infer.sources.ImageSource) and opened.fps is None
    track = (not stills and predictor.task != "semantic") if options.track is None else options.track
    settings = _settings(options.tracker_settings)
    follows = sightline.track.create_tracker(options.tracker, **settings) if track or settings else None
    kinds = save or ("pictures" if stills else "video", "jsonl")
    video = sightline.infer.VideoSettings(codec=options.codec, audio=options.audio, container=options.container)
    sinks = sightline.infer.create_sinks(kinds, out, stem, video)
    refuse_overwriting([*(sink.path for sink in sinks.values()), *records], [model, *opened.files])
    with progress_bar() as bar:
        result = sightline.infer.run_pipeline(
            opened,
            predictor,
            follows if track else None,
            list(sinks.values()),
            batch=options.batch,
            max_frames=options.max_frames,
            classes=_class_ids(options.classes, predictor.class_names),
            on_picture=None if window is None else window.show,
            progress=bar,
        )
    for record in records:
        RunFolder(record.parent).keep(record.name, result)
    return result


def _stems(places: list[str]) -> list[str]:
    """What the outputs of each source are called; a number behind it tells those of one name apart."""
    stems = ["stream" if "://" in place else Path(place).resolve().stem for place in places]
    counts, seen, names = Counter(stems), Counter[str](), []
    for stem in stems:
        seen[stem] += 1
        names.append(stem if counts[stem] == 1 else f"{stem}-{seen[stem]}")
    return names


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`a=1 motion.b=2` as {"a": "1", "motion": {"b": "2"}}; the tracker's own config reads the values."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        *groups, name = key.split(".")
        if not equals or not all((*groups, name)):
            raise ConfigError(f"--tracker-settings must be name=value, got '{pair}'")
        place = settings
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, Mapping):
                raise ConfigError(f"--tracker-settings must name a value or a group, got '{group}' as both")
        place[name] = None if value in ("none", "null") else value
    return settings


def _class_ids(chosen: tuple[str, ...], names: tuple[str, ...]) -> set[int] | None:
    ids = set()
    for name in chosen:
        if name in names:
            ids.add(names.index(name))
        elif name.isdecimal() and int(name) < len(names):
            ids.add(int(name))
        else:
            raise ConfigError(unknown_name("class", name, names))
    return ids or None


def _show(result: "RunResult", json: bool) -> None:
    if not json:
        counts = ", ".join(f"{n} {name}" for name, n in result.objects_by_class.items() if n)
        show_table(
            f"{result.frames} frames at {result.fps:.1f} frames/s, {result.detections} detections"
            f"{f' ({counts})' if counts else ''}, "
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


def _finish(last: "RunResult") -> int:
    if last.reason:
        raise SourceError(f"stopped after {last.frames} frames, which the outputs have: {last.reason}")
    if last.interrupted:
        note(f"interrupted after {last.frames} frames; the outputs are complete up to there")
        return INTERRUPTED
    return 0
