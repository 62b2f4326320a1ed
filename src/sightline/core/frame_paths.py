"""Frames of videos as images of a data set: the path `clips/street.mp4#000012` is frame 12 (from 0) of that video."""

import re
from pathlib import Path

__all__ = ["VIDEO_SUFFIXES", "frame_path", "picture_file", "split_frame_path"]

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm"})
_FRAME = re.compile(r"(.*\.[A-Za-z0-9]+)#([0-9]{1,9})", re.DOTALL)


def frame_path(video: str, index: int) -> str:
    """The path of frame `index` (from 0) of a video, with six digits so that paths sort like frames."""
    return f"{video}#{index:06d}"


def split_frame_path(path: str | Path) -> tuple[str, int] | None:
    """The video and the index of a frame's path; None for the path of anything else.

    >>> split_frame_path("clips/street.mp4#000012")
    ('clips/street.mp4', 12)
    >>> split_frame_path("clips/street#12.png") is None
    True
    """
    match = _FRAME.fullmatch(str(path))
    if match is None or Path(match[1]).suffix.lower() not in VIDEO_SUFFIXES:
        return None
    return match[1], int(match[2])


def picture_file(path: str | Path) -> Path:
    """The file that holds an image: the video of a frame, else the path itself."""
    frame = split_frame_path(path)
    return Path(path) if frame is None else Path(frame[0])
