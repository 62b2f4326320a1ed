"""Video files and cameras through PyAV: true timestamps, upright frames, and damage that is named, not hidden."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sightline.core.errors import SourceError
from sightline.core.frames import Frame, frame_path
from sightline.media import open_video_stream, shown_size, upright_pixels, video_reason

__all__ = ["CameraSource", "VideoSource", "open_camera", "open_video"]

_SHORT_S = 1.0  # a container's duration counts the last frame of its longest stream; less than this is no evidence


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video file or stream. Every iteration opens it afresh, so it can be read more than once."""

    name: str
    location: str
    fps: float | None
    size_hw: tuple[int, int] | None
    frame_count: int | None
    media_path: Path | None

    @property
    def files(self) -> Sequence[Path]:
        """The video, none where it is a stream."""
        return [Path(self.location)] if Path(self.location).is_file() else []

    def __iter__(self) -> Iterator[Frame]:
        """Upright RGB frames; SourceError, naming the last good frame, where the file is truncated or damaged."""
        with closing(_open(self.location)) as container:
            yield from _read(container, self)


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

    def __iter__(self) -> Iterator[Frame]:
        """Frames as the device delivers them, with its timestamps."""
        with closing(_open(self.device, "v4l2")) as container:
            yield from _read(container, self)


def open_video(location: str, *, is_file: bool = True) -> VideoSource:
    """A source for a video file (or, with `is_file` false, a stream address); SourceError when it is not a video."""
    with closing(_open(location)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        return VideoSource(
            name=Path(location).name if is_file else location,
            location=location,
            fps=float(rate) if rate else None,
            size_hw=_first_size(container, stream, location),
            frame_count=stream.frames or None,
            media_path=Path(location) if is_file and container.streams.audio else None,
        )


def open_camera(index: int) -> CameraSource:
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
        return CameraSource(f"camera-{index}", device, float(stream.average_rate or 0) or None, size)


def _open(location: str, demuxer: str | None = None) -> Any:
    return open_video_stream(location, one_thread=False, demuxer=demuxer, error=SourceError)


def _read(container: Any, source: VideoSource | CameraSource) -> Iterator[Frame]:
    stream = container.streams.video[0]
    reach = _Reach()
    start: Fraction | None = None
    index = 0
    last = "no frame before it is good"
    try:
        for picture in _pictures(container, stream, reach):
            if picture.is_corrupt:
                raise SourceError(f"frame {index} must be whole, got damaged data; {last}", where=source.name)
            stamp = None if picture.pts is None else picture.pts * picture.time_base
            start = stamp if start is None else start
            yield _frame(picture, index, _time_s(stamp, start, index, source.fps), source)
            last = f"frame {index}{'' if stamp is None else f' at {float(stamp):.3f} s'} is the last good one"
            index += 1
    except (av.FFmpegError, OSError) as error:
        of = f" of {source.frame_count}" if source.frame_count else ""
        raise SourceError(
            f"the video must be whole, got: {video_reason(error)} after {index} frames{of}; {last}", where=source.name
        ) from None
    missing = _missing(container, stream, reach.until_s)
    if missing and isinstance(source, VideoSource):
        raise SourceError(f"the video must be whole, got {index} frames and then {missing}; {last}", where=source.name)
    if index == 0:
        raise SourceError("the video must hold frames, got none that can be decoded", where=source.name)


@dataclass(slots=True)
class _Reach:
    """How far into the file, over all its streams, packets have been read."""

    until_s: float = 0.0


def _pictures(container: Any, stream: Any, reach: _Reach) -> Iterator[Any]:
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            reach.until_s = max(reach.until_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is stream:
            yield from packet.decode()


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


def _frame(picture: Any, index: int, time_s: float | None, source: VideoSource | CameraSource) -> Frame:
    image = upright_pixels(picture, source.name, SourceError)
    file = None
    if isinstance(source, VideoSource) and Path(source.location).is_file():
        file = frame_path(source.location, index)
    return Frame(image, index, time_s, source.name, picture.pts, picture.time_base, file)


def _time_s(stamp: Fraction | None, start: Fraction | None, index: int, fps: float | None) -> float | None:
    if stamp is not None and start is not None:
        return float(stamp - start)
    return None if fps is None else index / fps


def _first_size(container: Any, stream: Any, location: str) -> tuple[int, int]:
    try:
        for picture in container.decode(stream):
            return shown_size(picture)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"must hold frames that can be decoded, got: {video_reason(error)}", where=location) from None
    raise SourceError("must hold frames that can be decoded, got none", where=location)
