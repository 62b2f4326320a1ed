"""What a source of frames offers, and from what the user typed to one."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from sightline.core.errors import SourceError
from sightline.core.frames import Frame
from sightline.infer.sources.images import ImageSource, look_through, open_folder, open_sequence
from sightline.infer.sources.video import TIMEOUT_S, open_camera, open_video
from sightline.media import IMAGE_SUFFIXES

__all__ = ["Noting", "Source", "find_sources", "open_source"]


@runtime_checkable
class Source(Protocol):
    """Frames in time order, with what is known about them beforehand.

    `fps`, `size_hw` (upright) and `frame_count` are None where nobody knows; `media_path` is the file whose audio
    belongs to the frames, None where there is none; `files` are all files that are read, none of a camera. Iterating
    raises SourceError, naming the last good frame, when the source turns out to be damaged; the frames before it have
    been delivered.
    """

    @property
    def name(self) -> str:
        """A short name for file names and reports."""
        ...

    @property
    def fps(self) -> float | None:
        """Mean frames per second."""
        ...

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width of the frames as delivered."""
        ...

    @property
    def frame_count(self) -> int | None:
        """How many frames the source says it has."""
        ...

    @property
    def media_path(self) -> Path | None:
        """The file to copy audio from."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files the frames come from: outputs must not be written over them."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames from the first one on."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A source or sink that says what its reader should know."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences, complete when the frames are."""
        ...


def find_sources(spec: str | Path | int) -> list[str]:
    """What a place stands for, each for `open_source`: the files of a pattern such as `clips/*.mp4`, in order.

    Of a folder itself, where it has pictures (in sub-folders too), then its videos and sequences, wherever below it.
    What is neither stands for itself. SourceError for a pattern that fits nothing, and a folder with nothing to run on.
    """
    text = str(spec)
    if "://" in text:
        return [text]
    if Path(text).is_dir():
        return [str(place) for place in look_through(Path(text))]
    if not glob.has_magic(text) or Path(text).exists():
        return [text]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - patterns may be absolute
    if not found:
        raise SourceError("a pattern must fit files, got one that fits none", where=text)
    return [str(place) for name in found for place in (look_through(Path(name)) if Path(name).is_dir() else [name])]


def open_source(
    spec: str | Path | int, *, allow_network: bool = False, skip_damaged: bool = False, timeout_s: float = TIMEOUT_S
) -> Source:
    """The source for an image, a folder of images (sub-folders included), a MOTChallenge sequence folder, a video file
    or a camera number.

    Addresses (`rtsp://…`, `https://…`) are opened only with `allow_network`, and must answer within `timeout_s`.
    With `skip_damaged` frames and pictures that cannot be decoded are left out and counted in the source's notes.
    SourceError in one sentence otherwise.
    """
    text = str(spec)
    if isinstance(spec, int) or (text.isdecimal() and not Path(text).exists()):
        return open_camera(int(text), skip_damaged=skip_damaged)
    if "://" in text:
        if not allow_network:
            raise SourceError(f"a source must be on this machine, got '{text}'", do="allow the network explicitly")
        return open_video(text, timeout_s=timeout_s, skip_damaged=skip_damaged)
    path = Path(spec)
    if not path.exists():
        raise SourceError(
            "no such file or folder", where=text, do="give an image, a folder, a video or a camera number"
        )
    if path.is_dir():
        found = open_sequence(path) if (path / "seqinfo.ini").is_file() else open_folder(path)
        return replace(found, skip_damaged=skip_damaged)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path.name, [path], skip_damaged=skip_damaged)
    return open_video(text, skip_damaged=skip_damaged, wait_s=timeout_s)
