"""Pictures out of videos by frame number: exactly the frames that decoding from the start gives, in any order.

A video is demuxed once to learn the time of every frame and which ones can be decoded alone. A frame is reached from
the last such frame before it; the time it carries proves that it is the right one, and where a seek leads elsewhere an
earlier start is tried, the video's beginning last. Where the packets' times are not those of the decoded frames (AVI
keeps none), frames are counted from the start. Each thread keeps a few videos open, so that frames asked for in order
are decoded once.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av

from sightline.core.errors import DataError
from sightline.media.video import Picture, open_video_stream, shown_size, upright_pixels, video_reason

__all__ = ["VideoIndex", "frame_size", "read_frame", "video_index"]

_OPEN_VIDEOS = 4  # for each thread
_INDEXES = 256
_COMPARED = 64  # decoded frames whose times must be those of the packets


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """A video's frames in the order they are shown.

    `times` are seconds from the first frame, None where the file tells none. `stamps` are the container's own times
    and `starts` the frames that can be decoded alone; both are empty where frames are reached from the start only.
    """

    size_hw: tuple[int, int]  # upright
    frame_count: int
    times: tuple[float, ...] | None
    stamps: tuple[int, ...]
    starts: tuple[int, ...]


def read_frame(video: str | Path, index: int) -> Picture:
    """Frame `index` (from 0) of a video, upright RGB (H, W, 3); DataError when there is none or it is damaged.

    Frames asked for in rising order are decoded once; others from the last frame before them that stands alone.
    """
    file = Path(video)
    _check_index(video_index(file), index, file)
    try:
        return _reader(file).read(index)
    except (av.FFmpegError, OSError, DataError) as error:
        _forget(file)  # its decoder may stand anywhere now
        if isinstance(error, DataError):
            raise
        raise DataError(f"frame {index} cannot be decoded, got: {video_reason(error)}", where=str(file)) from None


def frame_size(video: str | Path, index: int) -> tuple[int, int]:
    """Height and width of frame `index` (from 0); DataError when there is none."""
    found = video_index(video)
    _check_index(found, index, video)
    return found.size_hw


def video_index(video: str | Path) -> VideoIndex:
    """The frames of a video, found out once for each state of the file; DataError when it is none."""
    return _index(*_state(Path(video)))


def _check_index(found: VideoIndex, index: int, video: str | Path) -> None:
    if not 0 <= index < found.frame_count:
        raise DataError(f"a frame must be one of 0..{found.frame_count - 1}, got {index}", where=str(video))


def _state(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"cannot read the video ({error.strerror or error})", where=str(file)) from None
    return str(file), status.st_mtime_ns, status.st_size


@lru_cache(_INDEXES)
def _index(path: str, _changed: int, _size: int) -> VideoIndex:
    try:
        with _open(path) as container:
            size_hw, shown = _first_frames(container, path)
        with _open(path) as container:
            found = _demuxed(container)
        if found is None or list(found[1][: len(shown)]) != shown:
            with _open(path) as container:
                found = _decoded(container)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"must be a video that can be decoded, got: {video_reason(error)}", where=path) from None
    count, stamps, starts, base = found
    times = tuple(float((s - stamps[0]) * base) for s in stamps) if stamps and base is not None else None
    return VideoIndex(size_hw, count, times, stamps if starts else (), starts)


def _demuxed(container: Any) -> tuple[int, tuple[int, ...], tuple[int, ...], Any] | None:
    """Count, times, lone frames and time base as the packets tell them; None where they do not tell enough."""
    stream = container.streams.video[0]
    # Only the times are kept: the packets themselves are the whole file.
    packets = [(p.pts, p.is_keyframe, p.is_corrupt) for p in container.demux(stream) if p.size and not p.is_discard]
    if not packets or any(pts is None or corrupt for pts, _, corrupt in packets):
        return None
    stamps = sorted(pts for pts, _, _ in packets)
    # Frames that are never shown, or times that say nothing, show in the counts or in equal times.
    if len(set(stamps)) < len(stamps) or stream.frames not in {0, len(stamps)}:
        return None
    lone = {pts for pts, is_lone, _ in packets if is_lone}
    return len(stamps), tuple(stamps), tuple(i for i, s in enumerate(stamps) if s in lone), stream.time_base


def _decoded(container: Any) -> tuple[int, tuple[int, ...], tuple[int, ...], Any]:
    """The same by decoding everything: exact for any file, at the price of reading all of it."""
    stamps, base = [], None
    for picture in _pictures(container):
        stamps.append(picture.pts)
        base = picture.time_base
    rising = None not in stamps and all(a < b for a, b in pairwise(stamps))
    return len(stamps), tuple(stamps) if rising else (), (), base


def _pictures(container: Any) -> Iterator[Any]:
    return iter(container.decode(container.streams.video[0]))


def _first_frames(container: Any, path: str) -> tuple[tuple[int, int], list[int | None]]:
    """The upright size of the first frame and the times of the first frames."""
    pictures = list(islice(_pictures(container), 1))
    if not pictures:
        raise DataError("must hold frames that can be decoded, got none", where=path)
    stamps = [pictures[0].pts]
    with suppress(av.FFmpegError):  # damage further on is met where its frames are asked for
        stamps += [picture.pts for picture in islice(_pictures(container), _COMPARED - 1)]
    return shown_size(pictures[0]), stamps


class _Reader:
    """An open video and the frame its decoder delivers next."""

    def __init__(self, path: str, index: VideoIndex) -> None:
        self.path, self.index = path, index
        self.container = _open(path)
        self.pictures = _pictures(self.container)
        self.upcoming = 0

    def read(self, index: int) -> Picture:
        starts = self.index.starts
        reach = bisect_right(starts, index) - 1
        if not (self.upcoming <= index and (reach < 0 or starts[reach] <= self.upcoming)):
            for start in starts[reach::-1] if reach >= 0 else ():
                if start and (picture := self._from(start, index)) is not None:
                    return _upright(picture, self.path)
            self._restart()
        return _upright(self._forward(index), self.path)

    def _from(self, start: int, index: int) -> Any | None:
        """Frame `index` reached from the lone frame `start`; None where the seek does not lead there."""
        stamps = self.index.stamps
        self.container.seek(stamps[start], stream=self.container.streams.video[0], backward=True)
        self.pictures = _pictures(self.container)
        arrived = False
        try:
            for picture in self.pictures:
                if picture.pts is None or picture.pts > stamps[index]:
                    break
                arrived = arrived or picture.pts == stamps[start]
                if picture.pts == stamps[index]:
                    self.upcoming = index + 1
                    return picture
        except av.FFmpegError:
            if arrived:  # the seek was right and the data is damaged: an earlier start meets the same damage
                raise
        return None

    def _forward(self, index: int) -> Any:
        stamps = self.index.stamps
        for picture in self.pictures:
            place, self.upcoming = self.upcoming, self.upcoming + 1
            if stamps and picture.pts != stamps[place]:
                raise DataError(
                    f"frame {place} must be whole, got another or none in its place",
                    where=self.path,
                    do="Write the video anew; a part of it is damaged",
                )
            if place == index:
                return picture
        raise DataError(f"frame {index} must be whole, got the end of the video", where=self.path)

    def _restart(self) -> None:
        self.close()
        self.container = _open(self.path)
        self.pictures = _pictures(self.container)
        self.upcoming = 0

    def close(self) -> None:
        self.container.close()


class _Readers(threading.local):
    """The videos this thread has open, the last used at the end."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.by_state: OrderedDict[tuple[str, int, int], _Reader] = OrderedDict()
        self.inherited: list[OrderedDict[tuple[str, int, int], _Reader]] = []


_READERS = _Readers()


def _reader(file: Path) -> _Reader:
    if _READERS.process != os.getpid():
        # A forked process shares the files' positions with its parent and opens the videos for itself. What it
        # inherited is kept and never closed: closing waits for threads that the fork has not taken along.
        _READERS.inherited.append(_READERS.by_state)
        _READERS.process, _READERS.by_state = os.getpid(), OrderedDict()
    state, known = _state(file), _READERS.by_state
    if state not in known:
        known[state] = _Reader(str(file), video_index(file))
    known.move_to_end(state)
    while len(known) > _OPEN_VIDEOS:
        known.popitem(last=False)[1].close()
    return known[state]


def _forget(file: Path) -> None:
    for state in [s for s in _READERS.by_state if s[0] == str(file)]:
        _READERS.by_state.pop(state).close()


def _open(path: str) -> Any:
    return open_video_stream(path, one_thread=True)


def _upright(picture: Any, path: str) -> Picture:
    if picture.is_corrupt:
        raise DataError("a frame must be whole, got damaged data", where=path)
    return upright_pixels(picture, path)
