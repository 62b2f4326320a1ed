"""The review video: frames as drawn, with the timing and the audio of the source."""

import io
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from sightline.core.config import Config
from sightline.core.errors import ConfigError, SourceError
from sightline.core.frames import Frame
from sightline.infer.sinks.protocol import FrameResult, PendingFile, RunInfo
from sightline.media import open_media

__all__ = ["VideoSettings", "VideoSink"]

_ENCODERS = {"h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9", "mpeg4": "mpeg4"}
_SUFFIXES = (".mp4", ".mkv", ".mov")
_MPEG4_MAX_TICKS = 65535  # ISO/IEC 14496-2 stores ticks per second in 16 bits
_BT709, _LIMITED_RANGE = 1, 1  # as FFmpeg numbers them


class VideoSettings(Config):
    """How the review video is encoded."""

    codec: Literal["h264", "av1", "vp9", "mpeg4"] = "h264"
    crf: int = Field(
        default=23, ge=0, le=63, description="constant quality, smaller is better; mpeg4 uses its own scale"
    )
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow"] = "veryfast"
    fps_without_clock: float = Field(default=10.0, gt=0, description="frames per second for pictures without times")
    audio: bool = Field(default=True, description="copy the source's audio packets unchanged")
    container: Literal["mp4", "mkv", "mov"] = Field(default="mp4", description="kind of file, by its suffix")


class VideoSink:
    """Encodes each frame as it comes; odd sizes are padded by one row or column of black.

    Frames keep the `pts` and `time_base` of their source, so variable frame rates survive (mpeg4 allows at most 65,535
    ticks a second: times are then rounded to that). Sound that this kind of file cannot hold is left out, which `notes`
    say.
    """

    kind = "video"
    needs_picture = True

    def __init__(self, path: str | Path, settings: VideoSettings | None = None) -> None:
        self.path = Path(path)
        self.settings = settings if settings is not None else VideoSettings()
        if self.path.suffix.lower() not in _SUFFIXES:
            raise ConfigError(f"a review video must end in {', '.join(_SUFFIXES)}, got '{self.path.name}'")
        self.notes: list[str] = []
        self._pending: PendingFile | None = None
        self._container: Any = None
        self._stream: Any = None
        self._audio: _AudioCopy | None = None
        self._size_hw: tuple[int, int] | None = None
        self._time_base = Fraction(1)
        self._last_pts: int | None = None
        self._last_step_s = 0.0

    def open(self, info: RunInfo) -> None:
        """Create the container; the stream follows with the first frame, whose size it needs."""
        self._info = info
        self._pending = PendingFile(self.path)
        options = {"movflags": "+faststart"} if self.path.suffix.lower() != ".mkv" else {}
        self._muxer = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[self.path.suffix.lower()]
        self._container = av.open(str(self._pending.temporary), "w", format=self._muxer, options=options)

    def write(self, result: FrameResult) -> None:
        """Encode the drawn picture at its frame's time; SourceError when its size differs from the first one's."""
        picture = result.picture if result.picture is not None else result.frame.image
        size_hw = (picture.shape[0], picture.shape[1])
        if self._stream is None:
            self._start(result.frame, size_hw)
        if size_hw != self._size_hw:
            raise SourceError(
                f"frames of one video must be of one size, got {size_hw} after {self._size_hw}",
                where=f"{self._info.source}, frame {result.frame.index}",
                do="run without the review video, or give images of one size",
            )
        encoded = av.VideoFrame.from_ndarray(_padded(picture), format="rgb24")
        encoded = encoded.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        encoded.pts, encoded.time_base = self._pts(result.frame), self._time_base
        seconds = float(encoded.pts * self._time_base)
        if self._audio is not None:
            self._audio.copy_until(self._container, seconds)
        self._container.mux(self._stream.encode(encoded))

    def close(self) -> None:
        """Flush the encoder, copy the audio up to the end of the last frame, complete the file."""
        if self._container is None or self._pending is None:
            return
        if self._stream is None:
            self._container.close()
            self._pending.discard()
            return
        self._container.mux(self._stream.encode(None))
        if self._audio is not None:
            assert self._last_pts is not None
            self._audio.copy_until(self._container, float(self._last_pts * self._time_base) + self._last_step_s)
            self._audio.close()
        self._container.close()
        self._pending.commit()

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._container is None or self._pending is None:
            return
        if self._audio is not None:
            self._audio.close()
        with suppress(av.FFmpegError):  # an encoder that failed cannot be flushed; its file goes anyway
            self._container.close()
        self._pending.discard()

    def _start(self, frame: Frame, size_hw: tuple[int, int]) -> None:
        rate = self._info.fps or self.settings.fps_without_clock
        self._time_base = self._choose_time_base(frame, rate)
        self._last_step_s = 1.0 / rate
        try:
            stream = self._container.add_stream(
                _ENCODERS[self.settings.codec], rate=Fraction(rate).limit_denominator(1001), options=self._options()
            )
        except (av.FFmpegError, ValueError) as error:
            raise ConfigError(f"codec '{self.settings.codec}' must be in this build of FFmpeg, got: {error}") from None
        stream.height, stream.width = (side + side % 2 for side in size_hw)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        self._stream, self._size_hw = stream, size_hw
        if self.settings.audio and self._info.media_path is not None:
            self._audio = _AudioCopy(self._container, self._info.media_path, self._muxer, self.notes)
        try:
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            message = f"this kind of file must be able to hold the video, got: {error}"
            raise ConfigError(message, where=str(self.path), do="choose another container or codec") from None

    def _options(self) -> dict[str, str]:
        settings = self.settings
        speeds = {"ultrafast": 0, "veryfast": 1, "fast": 2, "medium": 3, "slow": 4}
        slowness = speeds[settings.preset]
        match settings.codec:
            case "h264":
                return {"crf": str(min(settings.crf, 51)), "preset": settings.preset}
            case "av1":
                # Presets above 9 are not meant for viewing, says the encoder itself.
                return {"crf": str(settings.crf), "preset": str(9 - slowness)}
            case "vp9":
                return {"crf": str(settings.crf), "b": "0", "deadline": "realtime", "cpu-used": str(8 - slowness)}
            case "mpeg4":
                return {"flags": "+qscale", "global_quality": str(118 * max(2, settings.crf // 5))}

    def _choose_time_base(self, frame: Frame, rate: float) -> Fraction:
        own = frame.time_base if frame.pts is not None and frame.time_base is not None else None
        if own is None:
            return 1 / Fraction(rate).limit_denominator(1001)
        if self.settings.codec == "mpeg4" and own.denominator > _MPEG4_MAX_TICKS:
            return Fraction(1, 60000)
        return own

    def _pts(self, frame: Frame) -> int:
        if frame.pts is not None and frame.time_base is not None:
            pts = round(frame.pts * frame.time_base / self._time_base)
        elif frame.time_s is not None:
            pts = round(frame.time_s / self._time_base)
        else:
            pts = frame.index
        if self._last_pts is not None:
            # A muxer refuses time that stands still, which damaged or rounded timestamps do.
            pts = max(pts, self._last_pts + 1)
            self._last_step_s = float((pts - self._last_pts) * self._time_base)
        self._last_pts = pts
        return pts


class _AudioCopy:
    """The audio packets of a file, muxed unchanged in step with the video, as far as its kind of file takes them."""

    def __init__(self, output: Any, path: Path, muxer: str, notes: list[str]) -> None:
        self._input = open_media(str(path))
        self._notes = notes
        streams = []
        for stream in self._input.streams.audio:
            if _fits(path, stream.index, muxer):
                streams.append(stream)
            else:
                codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
                notes.append(f"sound left out of the video: {muxer} cannot hold {codec}, the codec of the source")
        self._streams = {s.index: output.add_stream_from_template(s) for s in streams}
        self._packets = self._input.demux(*streams) if streams else iter(())
        self._waiting: Any = None

    def copy_until(self, output: Any, seconds: float) -> None:
        """Mux the packets that start before `seconds` of the source's clock."""
        while True:
            packet = self._waiting if self._waiting is not None else self._next()
            if packet is None:
                return
            self._waiting = packet
            if packet.dts * packet.time_base >= seconds:
                return
            self._waiting = None
            packet.stream = self._streams[packet.stream.index]
            try:
                output.mux(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                what = "its packets do not go on, as in recordings that were joined"
                self._notes.append(f"sound left out of the video from about {seconds:.1f} s on: {what}")
                self._packets = iter(())

    def close(self) -> None:
        """Close the source file."""
        self._input.close()

    def _next(self) -> Any:
        try:
            for packet in self._packets:
                if packet.dts is not None and packet.size:
                    return packet
        except av.FFmpegError:
            return None  # the source is damaged here; reading its frames says so
        return None


def _fits(path: Path, index: int, muxer: str) -> bool:
    """Whether a kind of file takes an audio stream: tried in memory with its first packet, for some say so late."""
    with open_media(str(path)) as source:
        stream = source.streams[index]
        trial = av.open(io.BytesIO(), "w", format=muxer)
        try:
            copy = trial.add_stream_from_template(stream)
            for packet in islice((p for p in source.demux(stream) if p.dts is not None and p.size), 1):
                packet.stream = copy
                trial.mux(packet)
            trial.close()
        except (av.FFmpegError, ValueError):
            return False
    return True


def _padded(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(picture)
    return np.asarray(cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT), np.uint8)
