"""Video files, streams and cameras as sources, through PyAV: upright RGB frames with the container's own timestamps."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import av

from sightline.core.errors import SourceError
from sightline.core.frames import Frame, frame_path
from sightline.infer.sources.clock import Clock
from sightline.media import open_video_stream, shown_size, upright_pixels, video_reason

__all__ = ["TIMEOUT_S", "CameraSource", "VideoSource", "open_camera", "open_video"]

T = TypeVar("T")
TIMEOUT_S = 15.0
"""Cameras on a network take some seconds to answer; FFmpeg itself would wait for ever."""
_RECONNECTS = 5  # in a row, with waits of 1, 2, 4, 8 and 16 s: a camera that restarts is back within half a minute
_SHORT_S = 1.0  # a container's duration counts the last frame of its longest stream; less than this is no evidence
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, as ITU-T H.273 numbers them


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video file or stream. Every iteration opens it afresh, so it can be read more than once.

    `timeout_s` is set for network addresses, `live` for those without an end, which are opened again when they break.
    With `skip_damaged` what cannot be decoded is left out. `notes` are what the last reading met.
    """

    name: str
    location: str
    fps: float | None
    size_hw: tuple[int, int] | None
    frame_count: int | None
    media_path: Path | None
    timeout_s: float | None = None
    live: bool = False
    skip_damaged: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> Sequence[Path]:
        """The video, none where it is a stream."""
        return [Path(self.location)] if Path(self.location).is_file() else []

    def __iter__(self) -> Iterator[Frame]:
        """Upright RGB frames; SourceError, naming the last good frame, where the file is truncated or damaged."""
        reading = _Reading(self)
        tries = 0
        while True:
            before = reading.index
            try:
                with closing(_open(self.location, timeout_s=self.timeout_s)) as container:
                    yield from reading.frames(container)
                return
            except SourceError as error:
                tries = tries + 1 if reading.index == before else 1
                if not self.live or tries > _RECONNECTS:
                    raise
                self.notes.append(f"opened again behind frame {reading.index - 1}: {error.what}")
            time.sleep(2.0 ** (tries - 1))
            reading.clock.begin_anew()


@dataclass(frozen=True, slots=True)
class CameraSource:
    """A camera of this machine; delivers frames until the caller stops."""

    name: str
    device: str
    fps: float | None
    size_hw: tuple[int, int] | None
    frame_count: int | None = None
    media_path: Path | None = None
    files: Sequence[Path] = ()
    skip_damaged: bool = False
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        """Frames as the device delivers them, with its timestamps."""
        with closing(_open(self.device, "v4l2")) as container:
            yield from _Reading(self).frames(container)


def open_video(
    location: str, *, timeout_s: float | None = None, skip_damaged: bool = False, wait_s: float = TIMEOUT_S
) -> VideoSource:
    """A source for a video file or, with `timeout_s`, a stream address; SourceError when it is not a video.

    Of what is no regular file the first frame is waited for up to `wait_s`, and Ctrl-C ends the wait.
    """

    def opened() -> VideoSource:
        with closing(_open(location, timeout_s=timeout_s)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            return VideoSource(
                name=Path(location).name if timeout_s is None else location,
                location=location,
                fps=float(rate) if rate else None,
                size_hw=_first_size(container, stream, location, skip_damaged),
                frame_count=stream.frames or None,
                media_path=Path(location) if timeout_s is None and container.streams.audio else None,
                timeout_s=timeout_s,
                live=timeout_s is not None and (container.duration or 0) <= 0,
                skip_damaged=skip_damaged,
            )

    if timeout_s is None and Path(location).is_file():
        return opened()
    return _within(opened, wait_s if timeout_s is None else 2 * timeout_s, location)


def _within(work: Callable[[], T], limit_s: float, location: str) -> T:
    """What `work` gives, done in a thread of its own: FFmpeg waits where no signal reaches it. SourceError if late."""
    results: list[T | BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            results.append(error)

    thread = threading.Thread(target=run, name="sightline-open", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not results:
        raise SourceError(f"the source must answer within {limit_s:g} s, got nothing", where=location)
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def open_camera(index: int, *, skip_damaged: bool = False) -> CameraSource:
    """The camera `/dev/video<index>` (Video4Linux2); SourceError when there is none."""
    device = f"/dev/video{index}"
    if not Path(device).exists():
        present = sorted(str(p) for p in Path("/dev").glob("video*"))
        raise SourceError(
            f"camera {index} must be a device of this machine, got none at {device} "
            f"(present: {', '.join(present) or 'no camera'})"
        )
    with closing(_open(device, "v4l2")) as container:
        stream = container.streams.video[0]
        size = stream.codec_context.height, stream.codec_context.width
        fps = float(stream.average_rate or 0) or None
        return CameraSource(f"camera-{index}", device, fps, size, skip_damaged=skip_damaged)


def _open(location: str, demuxer: str | None = None, timeout_s: float | None = None) -> Any:
    return open_video_stream(location, one_thread=False, demuxer=demuxer, timeout_s=timeout_s, error=SourceError)


class _Reading:
    """One reading of a source, over all its connections: where it is, its clock, and what is left out."""

    def __init__(self, source: VideoSource | CameraSource) -> None:
        self.source = source
        self.index = self.skipped = 0
        self.clock = Clock(source.fps)
        self.last = "no frame before it is good"
        self._reached_s = 0.0
        source.notes.clear()

    def frames(self, container: Any) -> Iterator[Frame]:
        """The frames of a connection; SourceError where it breaks."""
        stream, source = container.streams.video[0], self.source
        first, self._reached_s = self.index, 0.0
        try:
            for picture in self._pictures(container, stream):
                yield self._frame(picture, stream)
                self.index += 1
        except (av.FFmpegError, OSError) as error:
            of = f" of {source.frame_count}" if source.frame_count else ""
            message = f"the video must be whole, got: {video_reason(error)} after {self.index} frames{of}; {self.last}"
            raise SourceError(message, where=source.name) from None
        finally:
            if self.skipped:
                source.notes.append(f"{self.skipped} damaged frames left out")
                self.skipped = 0
        missing = _missing(container, stream, self._reached_s)
        if missing and isinstance(source, VideoSource):
            message = f"the video must be whole, got {self.index} frames and then {missing}; {self.last}"
            if not source.skip_damaged:
                raise SourceError(message, where=source.name)
            source.notes.append(message)
        if self.index == first:
            raise SourceError("the video must hold frames, got none that can be decoded", where=source.name)

    def _pictures(self, container: Any, stream: Any) -> Iterator[Any]:
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                reached = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._reached_s = max(self._reached_s, float(reached))
            if packet.stream is not stream:
                continue
            for picture in self._decoded(packet):
                if not picture.is_corrupt:
                    yield picture
                else:
                    self._skip(f"frame {self.index} must be whole, got damaged data; {self.last}")

    def _decoded(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except av.error.InvalidDataError:
            if not self.source.skip_damaged:
                raise
            self._skip("")
            return []

    def _skip(self, message: str) -> None:
        if not self.source.skip_damaged:
            raise SourceError(message, where=self.source.name)
        self.skipped += 1
        self.index += 1

    def _frame(self, picture: Any, stream: Any) -> Frame:
        source, notes = self.source, self.source.notes
        image = upright_pixels(picture, source.name, SourceError)
        stamp = None if picture.pts is None else picture.pts * picture.time_base
        shown = self.clock.read(stamp, self.index)
        if self.clock.jumped_s:
            notes.append(
                f"the clock jumped back by {self.clock.jumped_s:.3f} s at frame {self.index}: "
                "times go on from there, and tracks begin anew"
            )
        if self.index == 0:
            notes += _looks(picture, stream)
        self.last = f"frame {self.index}{'' if stamp is None else f' at {float(stamp):.3f} s'} is the last good one"
        is_file = isinstance(source, VideoSource) and Path(source.location).is_file()
        file = frame_path(source.location, self.index) if isinstance(source, VideoSource) and is_file else None
        frame = Frame(image, self.index, shown, source.name, picture.pts, picture.time_base, file)
        if picture.pts is not None:
            pts = picture.pts + round(self.clock.offset_s / picture.time_base)
            frame = replace(frame, pts=pts, restarts=self.clock.began_anew)
        return frame


def _looks(picture: Any, stream: Any) -> list[str]:
    """What about the picture is not shown as it is meant to be."""
    said = []
    if picture.color_trc in _HDR:
        curve = _HDR[picture.color_trc]
        said.append(f"the video is HDR ({curve}): its colours are taken as stored, paler than meant, not tone-mapped")
    shape = stream.sample_aspect_ratio
    if shape and shape != 1:
        said.append(f"pixels are {shape} as wide as high: pictures, boxes and outputs are in pixels as stored")
    return said


def _missing(container: Any, stream: Any, read_until_s: float) -> str | None:
    """What says that the file should have gone on; None when it is complete, or nothing can tell."""
    size = container.size
    promised = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    if size > 0 and promised > size:
        return f"the end of the file at {size} of at least {promised} bytes"
    declared_s = (container.duration or 0) / av.time_base
    offset_s = (container.start_time or 0) / av.time_base
    if declared_s + min(offset_s, 0.0) - read_until_s > _SHORT_S:
        return f"the end of the file at {read_until_s:.3f} of {declared_s:.3f} s"
    return None


def _first_size(container: Any, stream: Any, location: str, skip_damaged: bool) -> tuple[int, int]:
    problem = "none"
    for packet in _packets(container, stream, location):
        try:
            for picture in packet.decode():
                return shown_size(picture)
        except (av.FFmpegError, OSError) as error:
            problem = video_reason(error)
            if not skip_damaged:
                break
    raise SourceError(f"must hold frames that can be decoded, got: {problem}", where=location)


def _packets(container: Any, stream: Any, location: str) -> Iterator[Any]:
    try:
        yield from container.demux(stream)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"must hold frames that can be decoded, got: {video_reason(error)}", where=location) from None
