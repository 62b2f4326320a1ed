"""What one MOTChallenge sequence is made of: its `seqinfo.ini`, and its frames as pictures or as a video."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import VIDEO_SUFFIXES, frame_path
from sightline.data.codes import finding
from sightline.data.layout import inside, list_images, read_text, relative
from sightline.media import MAX_SIDE, VideoIndex, find_videos, read_header, video_index

__all__ = ["IMAGE_FOLDER", "Frames", "SeqInfo", "read_seqinfo", "seqinfo_text", "sequence_frames", "videos_of"]

IMAGE_FOLDER = "img1"


@dataclass(frozen=True)
class SeqInfo:
    """What `seqinfo.ini` says; None where it says nothing."""

    image_folder: str = IMAGE_FOLDER
    extension: str = ".jpg"
    fps: float | None = None
    length: int | None = None
    size_wh: tuple[int, int] | None = None
    name: str | None = None


@dataclass(frozen=True)
class Frames:
    """The frames' paths in order, whether they exist or not, their size, and their times where a video tells them.

    `scale` is what the labels' x and y are to be multiplied by: not 1 where they were made for another size.
    """

    paths: list[Path]
    size_wh: tuple[int, int]
    times: tuple[float, ...] | None = None
    scale: tuple[float, float] = (1.0, 1.0)


def read_seqinfo(file: Path) -> SeqInfo:
    """The contents of a `seqinfo.ini`; DataError when it is not one."""
    if not file.is_file():
        return SeqInfo()
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(file))
        section = parser["Sequence"]
        width, height = section.getint("imWidth", 0), section.getint("imHeight", 0)
        info = SeqInfo(
            section.get("imDir", IMAGE_FOLDER),
            section.get("imExt", ".jpg"),
            section.getfloat("frameRate", None),
            section.getint("seqLength", None),
            (width, height) if min(width, height) > 0 and max(width, height) <= MAX_SIDE else None,
            section.get("name"),
        )
    except (configparser.Error, KeyError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise DataError(
            f"must be a MOTChallenge seqinfo with a section [Sequence], got: {message}", where=str(file)
        ) from None
    if (info.fps is not None and not 0 < info.fps < 1e6) or not 0 <= (info.length or 0) < 10**7:
        raise DataError(f"frameRate and seqLength must be sane, got {info.fps} and {info.length}", where=str(file))
    return info


def seqinfo_text(name: str, fps: float | None, length: int, size_wh: tuple[int, int], extension: str) -> str:
    """The text of a `seqinfo.ini`; `frameRate` is left out where it is not known."""
    values = {
        "name": name,
        "imDir": IMAGE_FOLDER,
        "frameRate": None if fps is None else f"{fps:.10g}",
        "seqLength": length,
        "imWidth": size_wh[0],
        "imHeight": size_wh[1],
        "imExt": extension,
    }
    return "[Sequence]\n" + "".join(f"{k}={v}\n" for k, v in values.items() if v is not None)


def sequence_frames(
    folder: Path, info: SeqInfo, table: pl.DataFrame | None, video: Path | None, root: Path, *, alone: bool
) -> tuple[Frames, list[Finding]]:
    """The frames of a sequence: pictures, else a video, else the names pictures would have; and findings.

    The video is the given one, one named like the sequence inside or beside its folder, or the only one there where
    the sequence is `alone` and as long as it. DataError when nothing tells the frames' size.
    """
    images = list_images(folder / inside(folder, info.image_folder, str(folder / "seqinfo.ini")))
    last = int(table["frame"].max() or 0) + 1 if table is not None and len(table) else 0  # type: ignore[arg-type]
    length = info.length if info.length is not None else last
    notes: list[Finding] = []
    if not images:
        found = _video(folder, info, video, alone=alone)
        if found is not None and (frames := _of_video(found, folder, info, root, notes)) is not None:
            return frames, notes
    if not images or info.length not in {None, len(images)}:
        images = [folder / info.image_folder / f"{frame:06d}{info.extension}" for frame in range(1, length + 1)]
    return Frames(images, info.size_wh or _size_of_first(images, folder)), notes


def _video(folder: Path, info: SeqInfo, given: Path | None, *, alone: bool) -> Path | None:
    if given is not None:
        return given
    named = [place / f"{folder.name}{suffix}" for place in (folder, folder.parent) for suffix in sorted(VIDEO_SUFFIXES)]
    found = next((p for p in named if p.is_file()), None)
    if found is not None:
        return found
    for place in (folder, folder.parent) if alone else (folder,):
        videos = find_videos(place)
        if len(videos) == 1 and info.length == _frame_count(videos[0]):
            return videos[0]
    return None


def _frame_count(video: Path) -> int | None:
    try:
        return video_index(video).frame_count
    except DataError:
        return None


def _of_video(video: Path, folder: Path, info: SeqInfo, root: Path, notes: list[Finding]) -> Frames | None:
    name, sequence = relative(video, root), relative(folder, root)
    try:
        index = video_index(video)
    except DataError as error:
        notes.append(finding("image-unreadable", f"the video {name}: {error.what}", path=sequence))
        return None
    count = index.frame_count if info.length is None else min(info.length, index.frame_count)
    notes += _video_notes(video, folder, info, index, name, sequence)
    width, height = index.size_hw[1], index.size_hw[0]
    stated = info.size_wh or (width, height)
    return Frames(
        [root / frame_path(name, i) for i in range(count)],
        (width, height),
        None if index.times is None else index.times[:count],
        (width / stated[0], height / stated[1]),
    )


def _video_notes(
    video: Path, folder: Path, info: SeqInfo, index: VideoIndex, name: str, sequence: str
) -> list[Finding]:
    notes = []
    width, height = index.size_hw[1], index.size_hw[0]
    if video.stem != folder.name:
        notes.append(finding("layout-elsewhere", f"the frames are those of the video {name}", path=sequence))
    if info.length is not None and info.length > index.frame_count:
        message = f"the video {name} has {index.frame_count} of the {info.length} frames seqinfo.ini states"
        missing = info.length - index.frame_count
        notes.append(finding("sequence-frame-missing", message, path=sequence, count=missing))
    elif info.length is not None and info.length < index.frame_count:
        message = f"of the {index.frame_count} frames of the video {name} the first {info.length} are used"
        notes.append(finding("layout-elsewhere", message, path=sequence))
    if info.size_wh is not None and info.size_wh != (width, height):
        message = (
            f"the labels are for {info.size_wh[0]} × {info.size_wh[1]} pixels, the video {name} has "
            f"{width} × {height}; boxes are scaled by {width / info.size_wh[0]:.6g} and {height / info.size_wh[1]:.6g}"
        )
        notes.append(finding("label-scaled", message, path=sequence))
    return notes


def _size_of_first(frames: list[Path], folder: Path) -> tuple[int, int]:
    if not frames or not frames[0].is_file():
        raise DataError("a sequence must have frames or a seqinfo.ini with imWidth and imHeight", where=str(folder))
    height, width = read_header(frames[0]).size_hw
    return width, height


def videos_of(named: Mapping[str, Path], sequences: list[str]) -> dict[str, Path]:
    """The given video of each sequence; "" stands for the only one. DataError for a name that is none."""
    strange = sorted(set(named) - {"", *sequences})
    if strange or ("" in named and len(sequences) != 1):
        raise DataError(
            f"'video' must name the video of each sequence ({', '.join(sequences)}), got "
            f"{strange[0] if strange else f'one for {len(sequences)} sequences'}"
        )
    missing = [video for video in named.values() if not video.is_file()]
    if missing:
        raise DataError("'video' must be a file, got none", where=str(missing[0]))
    return {name or sequences[0]: video for name, video in named.items()}
