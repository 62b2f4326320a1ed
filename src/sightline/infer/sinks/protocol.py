"""What a sink gets and must do; the files it writes appear under their name only when they are complete."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import supervision as sv

from sightline.core.dataset import Task
from sightline.core.files import atomic_path
from sightline.core.frames import Frame, SemanticMap
from sightline.track import FrameAssociation

__all__ = ["FrameResult", "PendingFile", "RunInfo", "Sink"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known before the first frame."""

    source: str
    task: Task
    class_names: tuple[str, ...]
    fps: float | None = None
    frame_count: int | None = None
    media_path: Path | None = None
    tracked: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One frame and what was found in it; `picture` is the frame drawn on, where a sink asked for it."""

    frame: Frame
    detections: sv.Detections | None = None
    semantic: SemanticMap | None = None
    association: FrameAssociation | None = None
    picture: npt.NDArray[np.uint8] | None = None


class Sink(Protocol):
    """Takes results frame by frame. `close` completes the file; `discard` leaves no trace of it."""

    @property
    def kind(self) -> str:
        """Its name among `SINKS`."""
        ...

    @property
    def path(self) -> Path:
        """Where the result will be."""
        ...

    @property
    def needs_picture(self) -> bool:
        """Whether frames must be drawn for it."""
        ...

    def open(self, info: RunInfo) -> None:
        """Get ready; ConfigError when this sink cannot hold what the run makes."""
        ...

    def write(self, result: FrameResult) -> None:
        """Take one frame."""
        ...

    def close(self) -> None:
        """Complete the file with the frames taken so far and give it its name."""
        ...

    def discard(self) -> None:
        """Remove what was written; an earlier file of that name stays."""
        ...


class PendingFile:
    """A file under a temporary name beside its target until it is committed."""

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self.temporary = self._stack.enter_context(atomic_path(path))

    def commit(self) -> None:
        """Rename to the target."""
        self._stack.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        reason = RuntimeError("discarded")
        self._stack.__exit__(RuntimeError, reason, None)
