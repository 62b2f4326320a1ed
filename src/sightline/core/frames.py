"""What a source delivers, what a segmentation model returns, and paths that are no file of their own.

The path `clips/street.mp4#000012` is frame 12 (from 0) of that video. The path `masks/*/a.png` is the mask that the
files `a.png` in the folders of all classes make up together.
"""

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.core.files import file_sha256

__all__ = ["EACH_CLASS", "IGNORE_INDEX", "VIDEO_SUFFIXES", "Frame", "SemanticMap"]
__all__ += ["frame_path", "mask_files", "mask_sha256", "picture_file", "split_frame_path"]

IGNORE_INDEX = 255
"""The class id of pixels that never count, in every map of class ids: so there are at most 255 classes, 0..254."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source: `image` is RGB uint8 (H, W, 3), upright; `time_s` counts from the source's start.

    `pts` and `time_base` are the container's own timestamp (seconds = pts * time_base), kept so that a video written
    from these frames has the very same timing; None where the source has no clock. `file` is where the picture lies
    (`video.mp4#000012` for a frame of a video), None for cameras and streams. `restarts` where the source began anew
    before this frame, and nothing is known of the time between: what was followed is over.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float | None
    source: str
    pts: int | None = None
    time_base: Fraction | None = None
    file: str | None = None
    restarts: bool = False

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class SemanticMap:
    """A class for each pixel: `class_ids` is (H, W) integer at image resolution, indexing `class_names`.

    `foreground` is the probability (H, W) of the second of two classes, and `confidence` (C,) the mean probability of
    each class over the pixels that were given to it (NaN for a class without any), where a predictor was asked to keep
    them.
    """

    class_ids: NDArray[np.integer]
    class_names: tuple[str, ...]
    foreground: NDArray[np.floating] | None = None
    confidence: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.class_ids.ndim != 2 or not np.issubdtype(self.class_ids.dtype, np.integer):
            raise ValueError(
                f"class_ids must be an integer (H, W) array, got {self.class_ids.dtype} {self.class_ids.shape}"
            )


EACH_CLASS = "*"
"""In the path of a mask: the folder of each class."""

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


def mask_files(path: str | Path) -> list[Path]:
    """The files that make up a mask, in order of their classes' folders; the path itself for one that is a file."""
    mask = Path(path)
    if EACH_CLASS not in mask.parts or mask.is_file():
        return [mask]
    place = mask.parts.index(EACH_CLASS)
    top, rest = Path(*mask.parts[:place]), Path(*mask.parts[place + 1 :])
    folders = sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
    return [folder / rest for folder in folders if (folder / rest).is_file()]


def mask_sha256(path: str | Path) -> str:
    """SHA-256 (hex) of the file of an image or mask; of a mask in several files over their folders and digests.

    OSError where there is none or it cannot be read.
    """
    mask = Path(path)
    files = mask_files(mask)
    if files == [mask] or not files:
        return file_sha256(mask)
    place = mask.parts.index(EACH_CLASS)  # a file that moves to another class makes another mask
    lines = [f"{file.parts[place]} {file_sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
