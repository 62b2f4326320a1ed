"""What a source of frames offers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from sightline.core.frames import Frame

__all__ = ["Source"]


@runtime_checkable
class Source(Protocol):
    """Frames in time order, with what is known about them beforehand.

    `fps`, `size_hw` (upright) and `frame_count` are None where nobody knows; `media_path` is the file whose audio
    belongs to the frames, None where there is none. Iterating raises SourceError, naming the last good frame, when the
    source turns out to be damaged; the frames before it have been delivered.
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

    def __iter__(self) -> Iterator[Frame]:
        """The frames from the first one on."""
        ...
