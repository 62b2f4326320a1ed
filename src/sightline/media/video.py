"""The one way a video is opened, for data sets and for `run`: its stream, upright pictures, and errors in words.

A file is handed to FFmpeg as `file:` and an absolute path, and may open no other: no name is taken for an address, and
no playlist reaches files that nobody named.
"""

import errno
import os
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from sightline.core.errors import DataError, InputError
from sightline.core.frames import VIDEO_SUFFIXES

__all__ = [
    "Picture",
    "find_videos",
    "open_media",
    "open_video_stream",
    "shown_size",
    "upright_pixels",
    "video_reason",
]

Picture: TypeAlias = npt.NDArray[np.uint8]


# What only lists other files or addresses to open.
_PLAYLISTS = {"applehttp", "concat", "dash", "hls", "imf", "sdp", "webm_dash_manifest"}
_LOCAL = {"protocol_whitelist": "file", "format_whitelist": ",".join(sorted(av.formats_available - _PLAYLISTS))}
_REMOTE = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,srt,crypto",
    "rtsp_transport": "tcp",  # by UDP lost packets are damaged frames
    "reconnect": "1",  # a file by HTTP goes on where the connection broke
}


def open_media(location: str, *, demuxer: str | None = None, timeout_s: float | None = None) -> Any:
    """An open PyAV container: of a file, of a device with its `demuxer`, or with `timeout_s` of a network address.

    The seconds are those it may take to open it and to wait for each packet.
    """
    if demuxer is not None:
        return av.open(location, format=demuxer)
    if timeout_s is not None:
        return av.open(location, options=_REMOTE, timeout=(timeout_s, timeout_s))
    return av.open(f"file:{os.path.abspath(location)}", options=_LOCAL)  # noqa: PTH100 - links stay as they are


def find_videos(folder: Path) -> list[Path]:
    """The video files of a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())


def open_video_stream(
    location: str,
    *,
    one_thread: bool,
    demuxer: str | None = None,
    timeout_s: float | None = None,
    error: type[InputError] = DataError,
) -> Any:
    """An open PyAV container that has a video stream; `error` where it cannot be opened or has none.

    `demuxer` and `timeout_s` as in `open_media`. `one_thread` where callers are parallel over videos or may fork: a
    decoder's own threads do not survive a fork.
    """
    try:
        container = open_media(location, demuxer=demuxer, timeout_s=timeout_s)
    except (av.FFmpegError, OSError, ValueError) as problem:
        refused = isinstance(problem, av.FFmpegError) and problem.errno == errno.EINVAL  # the demuxers of `_LOCAL`
        got = "a playlist or something else that is no video by itself" if refused else video_reason(problem)
        raise error(f"must be a readable video, got: {got}", where=location) from None
    if not container.streams.video:
        container.close()
        raise error("must hold a video stream, got none", where=location)
    if one_thread:
        container.streams.video[0].codec_context.thread_count = 1
    else:
        container.streams.video[0].thread_type = "AUTO"
    return container


def shown_size(picture: Any) -> tuple[int, int]:
    """Height and width of a decoded frame as it is meant to be seen."""
    size_hw = (picture.height, picture.width)
    return size_hw[::-1] if picture.rotation % 180 else size_hw


def upright_pixels(picture: Any, where: str, error: type[InputError] = DataError) -> Picture:
    """A decoded frame as RGB uint8 (H, W, 3), turned as its display matrix (ISO/IEC 14496-12) says."""
    pixels: Picture = picture.to_ndarray(format="rgb24")
    turns, rest = divmod(picture.rotation, 90)
    if rest:
        raise error(f"rotation must be a multiple of 90 degrees, got {picture.rotation}", where=where)
    return np.ascontiguousarray(np.rot90(pixels, turns % 4)) if turns % 4 else pixels


def video_reason(problem: Exception) -> str:
    """What FFmpeg or the system says, without the numbers of its own that it puts around it."""
    if isinstance(problem, av.error.ExitError):
        return "no answer in time"
    return str(getattr(problem, "strerror", None) or problem)
