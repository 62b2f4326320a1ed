"""Source → predictor → tracker → drawing → sinks, one result for each frame, in order; every stage is timed."""

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import supervision as sv

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError, SourceError
from sightline.core.frames import Frame, SemanticMap
from sightline.core.process import Progress, StopRequest, stop_at_next_step
from sightline.core.results import Result
from sightline.draw import Drawer
from sightline.infer.predictor import LEFT_OUT, Prediction, Predictor, StagedPredictor, meta_of
from sightline.infer.prefetch import prefetch
from sightline.infer.sinks import FrameResult, RunInfo, Sink
from sightline.infer.sources import Noting, Source
from sightline.ops.postprocess import CANDIDATE_LIMIT
from sightline.track import NO_TRACK, FrameAssociation, Tracker, with_unconfirmed

__all__ = ["LATENCY_SCHEMA", "STAGES", "RunResult", "StageTimer", "run_pipeline"]

STAGES = ("decode", "preprocess", "network", "postprocess", "track", "draw", "encode", "show")
"""Stages of the video pipeline in their order; a predictor that is not staged has `predict` for the middle three."""

OnPicture: TypeAlias = Callable[[npt.NDArray[np.uint8], bool, Callable[[], bool]], bool]

LATENCY_SCHEMA = {
    "stage": pl.String,
    "count": pl.Int64,
    "mean_ms": pl.Float64,
    "p50_ms": pl.Float64,
    "p95_ms": pl.Float64,
    "p99_ms": pl.Float64,
    "max_ms": pl.Float64,
}


class StageTimer:
    """Collects durations by stage."""

    def __init__(self) -> None:
        self._samples_ms: dict[str, list[float]] = {}

    def add(self, stage: str, duration_ms: float) -> None:
        """One sample of a stage."""
        self._samples_ms.setdefault(stage, []).append(duration_ms)

    @contextmanager
    def measure(self, stage: str, share: int = 1) -> Iterator[None]:
        """Time the block; with `share` > 1 the time is spread evenly over that many samples (a batch)."""
        start = time.perf_counter()
        yield
        each_ms = (time.perf_counter() - start) * 1e3 / share
        for _ in range(share):
            self.add(stage, each_ms)

    def summary(self) -> pl.DataFrame:
        """Count, mean, percentiles and maximum of every stage in milliseconds (`LATENCY_SCHEMA`), in pipeline order."""
        known = {stage: i for i, stage in enumerate(STAGES)}
        rows = []
        for stage in sorted(self._samples_ms, key=lambda s: known.get(s, len(known))):
            values = np.array(self._samples_ms[stage])
            p50, p95, p99 = (float(v) for v in np.percentile(values, [50, 95, 99]))
            rows.append((stage, len(values), float(values.mean()), p50, p95, p99, float(values.max())))
        return pl.DataFrame(rows, schema=LATENCY_SCHEMA, orient="row")


@dataclass(frozen=True)
class RunResult(Result):
    """What a run did. `fps` is frames per second of wall-clock time; `latency` is per frame and stage, milliseconds.

    `detections` and `objects_by_class` count what was handed to the sinks; of label maps they count classes per frame.
    Of the detections `unconfirmed` have no track id (yet); `left_out` were of too low a score to begin a track and
    continued none. `interrupted` runs were stopped before the end: by Ctrl-C or a signal, or for the `reason` given.
    `notes` are what source and outputs met on the way.
    """

    source: str
    task: Task
    frames: int
    detections: int
    tracks: int
    unconfirmed: int
    left_out: int
    objects_by_class: dict[str, int]
    wall_s: float
    fps: float
    interrupted: bool
    outputs: dict[str, str]
    latency: pl.DataFrame
    conventions: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pl.DataFrame:
        """The latency of each stage."""
        return self.latency


def run_pipeline(
    source: Source,
    predictor: Predictor,
    tracker: Tracker | None = None,
    sinks: Sequence[Sink] = (),
    *,
    batch: int = 1,
    max_frames: int | None = None,
    classes: Collection[int] | None = None,
    on_picture: OnPicture | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run every frame of `source`; each sink gets exactly one result per frame, in order.

    Of detections those of `classes` (ids) are kept, before anything is tracked; of None all. `on_picture` gets every
    frame as it is drawn (H, W, 3, RGB), whether it is a still, and what says that the run is to stop; it stops the run
    by False, as Ctrl-C does.

    Ctrl-C and SIGTERM stop after the frame in work and complete all outputs (`interrupted` is then true); so does a
    disk that is nearly full (`reason` says so). When the source turns out to be damaged, or an output cannot be
    written, outputs are completed with the frames before and the SourceError or OSError is raised; without such frames,
    and on any other error, outputs are discarded. Reading is done ahead in a thread; results do not
    depend on the clock.
    """
    if tracker is not None and predictor.task == "semantic":
        raise ConfigError("a tracker must be given detections, got a model of label maps", do="run without a tracker")
    if classes is not None and predictor.task == "semantic":
        raise ConfigError("classes must be chosen of detections, got a model of label maps")
    run, stop = _Run(source, predictor, tracker, sinks, classes, on_picture), StopRequest()
    space = _Space([sink.path.parent for sink in sinks])
    start = time.perf_counter()
    try:
        for sink in sinks:
            sink.open(run.info)
        # No output ends in the middle of a frame.
        with stop_at_next_step(stop, signal.SIGINT, signal.SIGTERM):
            run.all_frames(batch, max_frames, progress, lambda: stop.made or run.unwatched or space.is_short())
    except BaseException as error:
        if isinstance(error, (SourceError, OSError, KeyboardInterrupt)) and run.frames:
            with suppress(OSError):  # the first error is the one to tell
                _complete(sinks)
        else:
            for sink in sinks:
                sink.discard()
        raise
    _complete(sinks)
    return run.result(time.perf_counter() - start, stop.made or run.unwatched or bool(space.reason), space.reason)


def _complete(sinks: Sequence[Sink]) -> None:
    """Complete what can be completed: the disk that refuses one output may take the end of another."""
    problems = []
    for sink in sinks:
        try:
            sink.close()
        except OSError as error:
            problems.append(error)
            sink.discard()
    if problems:
        raise problems[0]


class _Space:
    """Whether the disks of the outputs have room for their ends: the index of a video, what is still in memory."""

    _LEAST = 32 << 20  # the index of a day of video, and a few pictures
    _SHARE = 0.25  # of what was free at first, on a small disk

    def __init__(self, folders: Sequence[Path]) -> None:
        self.reason = ""
        existing = {next(p for p in (folder, *folder.absolute().parents) if p.exists()) for folder in folders}
        self._least = {p: min(self._LEAST, int(self._SHARE * shutil.disk_usage(p).free)) for p in existing}

    def is_short(self) -> bool:
        """Asked before each batch of frames."""
        for place, least in self._least.items():
            if shutil.disk_usage(place).free < least:
                self.reason = f"the disk is nearly full, with less than {least / 1e6:.1f} MB free in {place}"
        return bool(self.reason)


class _Follower:
    """A tracker that is begun anew where the source is, with ids that go on from the last."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._ids = self._keys = self._last_id = self._last_key = 0

    def update(self, frame: Frame, found: sv.Detections) -> tuple[sv.Detections, FrameAssociation | None]:
        """The detections with their track ids, unconfirmed ones included, and why."""
        if frame.restarts:
            self._tracker.reset()
            self._ids, self._keys = self._last_id, self._last_key + 1
        tracked = self._tracker.update(found, time_s=frame.time_s)
        association = self._tracker.association
        if tracked.tracker_id is not None and self._ids:
            tracked.tracker_id = np.asarray(tracked.tracker_id) + self._ids
        if association is not None and self._keys:
            moved: dict[str, Any] = {
                name: np.where(getattr(association, name) >= 0, getattr(association, name) + by, -1)
                for suffix, by in (("id", self._ids), ("key", self._keys))
                for name in (f"detection_{suffix}", f"track_{suffix}", f"expired_{suffix}")
            }
            association = replace(association, **moved)
        if association is not None:
            self._last_key = max([self._last_key, *association.detection_key.tolist()])
        if tracked.tracker_id is not None:
            self._last_id = max([self._last_id, *np.asarray(tracked.tracker_id).tolist()])
        return with_unconfirmed(found, tracked, association), association


class _Run:
    """State of one run: timers, counts, the drawer."""

    def __init__(
        self,
        source: Source,
        predictor: Predictor,
        tracker: Tracker | None,
        sinks: Sequence[Sink],
        classes: Collection[int] | None,
        on_picture: OnPicture | None,
    ) -> None:
        self.source, self.predictor, self.sinks, self.on_picture = source, predictor, sinks, on_picture
        self.unwatched = False
        self.stopped: Callable[[], bool] = lambda: False
        self.classes = None if classes is None else np.array(sorted(classes), np.int64)
        self.follower = None if tracker is None else _Follower(tracker)
        self.timer = StageTimer()
        self.frames = self.detections = self.unconfirmed = self.left_out = self.unmet = 0
        self.by_class: Counter[str] = Counter()
        self.track_ids: set[int] = set()
        self.drawer: Drawer | None = None
        self.draws = on_picture is not None or any(sink.needs_picture for sink in sinks)
        self.info = RunInfo(
            source=source.name,
            task=predictor.task,
            class_names=predictor.class_names,
            fps=source.fps,
            frame_count=source.frame_count,
            media_path=source.media_path,
            tracked=tracker is not None,
            meta=meta_of(predictor),
        )

    def all_frames(
        self, batch: int, max_frames: int | None, progress: Progress | None, stopped: Callable[[], bool]
    ) -> None:
        self.stopped = stopped
        total = self.source.frame_count
        total = total if max_frames is None else min(max_frames, total if total is not None else max_frames)
        report = progress or (lambda *_: None)
        frames_ahead = prefetch(islice(iter(self.source), max_frames), stopped=stopped)
        with closing(frames_ahead) as ahead:  # type: ignore[type-var]
            for frames in self._batches(ahead, batch):
                for frame, prediction in zip(frames, self._predict(frames), strict=True):
                    self._one(frame, prediction)
                    report(self.frames, total, "frames")
                if stopped():
                    return

    def _batches(self, ahead: Iterator[tuple[Frame, float]], size: int) -> Iterator[list[Frame]]:
        """Frames in groups; when the source fails, the frames before the failure are still delivered."""
        waiting: list[Frame] = []
        try:
            for frame, decode_ms in ahead:
                self.timer.add("decode", decode_ms)
                waiting.append(frame)
                if len(waiting) == size:
                    yield waiting
                    waiting = []
        except SourceError:
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    def _predict(self, frames: list[Frame]) -> Sequence[Prediction]:
        images, count = [frame.image for frame in frames], len(frames)
        same_size = len({frame.size_hw for frame in frames}) == 1
        if not isinstance(self.predictor, StagedPredictor) or not same_size:
            with self.timer.measure("predict", count):
                return self.predictor(images)
        with self.timer.measure("preprocess", count):
            prepared = self.predictor.prepare(images)
        with self.timer.measure("network", count):
            outputs = self.predictor.run(prepared.pixels)
        with self.timer.measure("postprocess", count):
            return self.predictor.finish(outputs, prepared.geometries)

    def _one(self, frame: Frame, prediction: Prediction) -> None:
        association = None
        if isinstance(prediction, sv.Detections):
            self.unmet += prediction.metadata.get(LEFT_OUT, 0)
        if self.classes is not None and isinstance(prediction, sv.Detections) and prediction.class_id is not None:
            prediction = prediction.select(np.flatnonzero(np.isin(prediction.class_id, self.classes)))
        if self.follower is not None and isinstance(prediction, sv.Detections):
            given = len(prediction)
            with self.timer.measure("track"):
                prediction, association = self.follower.update(frame, prediction)
            if prediction.tracker_id is not None:
                self.unconfirmed += int((np.asarray(prediction.tracker_id) == NO_TRACK).sum())
            self.left_out += given - len(prediction)
        detections = prediction if isinstance(prediction, sv.Detections) else None
        semantic = prediction if isinstance(prediction, SemanticMap) else None
        picture = None
        if self.draws:
            with self.timer.measure("draw"):
                if self.drawer is None:
                    self.drawer = Drawer(frame.size_hw, self.predictor.class_names)
                picture = self.drawer.draw(frame.image, detections, semantic)
        result = FrameResult(frame, detections, semantic, association, picture)
        if self.sinks:
            with self.timer.measure("encode"):
                for sink in self.sinks:
                    sink.write(result)
        self._count(prediction)
        if self.on_picture is not None and picture is not None and not self.unwatched:
            with self.timer.measure("show"):
                self.unwatched = not self.on_picture(picture, frame.time_s is None, self.stopped)

    def _count(self, prediction: Prediction) -> None:
        self.frames += 1
        names = self.predictor.class_names
        if isinstance(prediction, SemanticMap):
            ids = np.unique(prediction.class_ids)
        else:
            ids = np.asarray(prediction.class_id if prediction.class_id is not None else [], np.int64)
            if prediction.tracker_id is not None:
                self.track_ids.update(i for i in np.asarray(prediction.tracker_id).tolist() if i != NO_TRACK)
        self.detections += len(ids)
        self.by_class.update(names[int(i)] for i in ids)

    def _notes(self) -> Iterator[str]:
        for part in (self.source, self.predictor, *self.sinks):
            yield from part.notes if isinstance(part, Noting) else ()
        if self.unmet:
            yield (
                f"{self.unmet} candidates of the lowest scores were left out before suppression, which meets "
                f"{CANDIDATE_LIMIT} of a frame at most: a higher --conf leaves fewer"
            )

    def result(self, wall_s: float, interrupted: bool, reason: str) -> RunResult:
        predicted_by = {k: v for k, v in self.info.meta.items() if k not in ("preprocess", "class_names")}
        return RunResult(
            source=self.source.name,
            task=self.predictor.task,
            frames=self.frames,
            detections=self.detections,
            tracks=len(self.track_ids),
            unconfirmed=self.unconfirmed,
            left_out=self.left_out,
            objects_by_class={name: self.by_class[name] for name in self.predictor.class_names},
            wall_s=wall_s,
            fps=self.frames / wall_s if wall_s > 0 else 0.0,
            interrupted=interrupted,
            outputs={sink.kind: str(sink.path) for sink in self.sinks},
            latency=self.timer.summary(),
            conventions={**predicted_by, "latency": "milliseconds per frame, first frame included, decoding overlaps"},
            reason=reason,
            notes=tuple(self._notes()),
        )
