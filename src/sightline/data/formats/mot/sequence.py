"""What one MOTChallenge sequence is made of: its `seqinfo.ini`, its frames as pictures or as a video, its text files.

A text file has one comma-separated row per box, with frames, ids and pixels counted from 1.
"""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.errors import DataError
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.core.frames import VIDEO_SUFFIXES, frame_path
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import LARGEST
from sightline.data.layout import inside, list_images, read_text, relative
from sightline.media import MAX_SIDE, VideoIndex, find_videos, read_header, video_index

__all__ = [
    "IMAGE_FOLDER",
    "MOT_SCHEMA",
    "Frames",
    "SeqInfo",
    "mot_text",
    "read_mot_txt",
    "read_seqinfo",
    "seqinfo_text",
    "sequence_frames",
    "videos_of",
    "write_mot_txt",
]

IMAGE_FOLDER = "img1"
_MOST_FRAMES = 1_000_000  # that are believed without pictures or a video: nine hours at 30 a second


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
    rows = None if table is None else table.filter(pl.col("frame") < _MOST_FRAMES)["frame"]
    last = int(rows.max() or 0) + 1 if rows is not None and len(rows) else 0  # type: ignore[arg-type]
    length = info.length if info.length is not None else last
    notes: list[Finding] = []
    if not images:
        found = _video(folder, info, video, alone=alone)
        if found is not None and (frames := _of_video(found, folder, info, root, notes)) is not None:
            return frames, notes
    if not images or info.length not in {None, len(images)}:
        if length > max(_MOST_FRAMES, len(images)):
            message = f"seqLength must be at most {_MOST_FRAMES:,} where the frames are not there, got {length:,}"
            raise DataError(message, where=str(folder / "seqinfo.ini"))
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


MOT_SCHEMA = {
    "line": pl.Int64,
    "frame": pl.Int64,  # 0-based
    "track_id": pl.Int64,  # -1 in files of detections
    "x1": pl.Float64,
    "y1": pl.Float64,
    "x2": pl.Float64,
    "y2": pl.Float64,
    "score": pl.Float64,  # confidence; in ground truth the "consider" flag
    "class_number": pl.Int64,  # null in MOT15 files, which have none
    "visibility": pl.Float64,  # null where the file has none
}
_FEWEST, _MOST = 6, 10
Floats: TypeAlias = npt.NDArray[np.float64]


def read_mot_txt(
    path: str | Path, name: str | None = None, *, length: int | None = None
) -> tuple[pl.DataFrame, list[Finding]]:
    """The rows of a ground-truth, detections or results file (`MOT_SCHEMA`), and a finding for each unusable line.

    Pixels become 0-based with exclusive ends (`x1 = left - 1`, `x2 = x1 + width`), frames 0-based. Files of 9 columns
    follow MOT16 and later (class, visibility); those of 10 follow MOT15 (world coordinates, which are not read).
    `name` is the path that findings carry. Where `length`, the sequence's number of frames, is given, a file that
    counts its frames from 0 is read so, which is a finding: its first frame is 0 and its last one below `length`.
    DataError when the file cannot be read.
    """
    file = Path(path)
    name = name or str(file)
    lines = read_text(file).splitlines()
    numbers = [i for i, text in enumerate(lines, start=1) if text.strip()]
    rows = [_fields(lines[i - 1]) for i in numbers]
    values, bad = _values(rows)
    zero = length is not None and _counts_from_zero(values[~bad, 0], length)
    bad |= values[:, 0] < (0 if zero else 1)
    findings = [
        finding(
            "label-malformed",
            f"a row must be frame, id, left, top, width, height and up to four more numbers up to 1e15, "
            f"got '{lines[numbers[i] - 1][:60]}'",
            path=name,
            line=numbers[i],
        )
        for i in np.flatnonzero(bad).tolist()
    ]
    good = np.flatnonzero(~bad)
    if zero:
        findings.append(_from_zero(values[good], name, numbers[int(good[values[good, 0].argmin()])]))
        values[:, 0] += 1
    columns = np.array([len(rows[i]) for i in good.tolist()], dtype=np.int64)
    values = values[good]
    return _table(values, columns, np.array(numbers, dtype=np.int64)[good]), findings


def write_mot_txt(path: str | Path, rows: pl.DataFrame) -> None:
    """Write rows of `MOT_SCHEMA` (`line` not needed) in one step: 9 columns where `class_number` is there, else 10."""
    write_text_atomic(path, mot_text(rows))


def mot_text(rows: pl.DataFrame) -> str:
    """The text of a MOTChallenge file, sorted by frame and id; numbers carry at most nine decimals."""
    ordered = rows.sort("frame", "track_id", maintain_order=True)
    with_class = "class_number" in ordered.columns and ordered["class_number"].null_count() == 0
    lines = []
    for row in ordered.iter_rows(named=True):
        box = (row["x1"] + 1, row["y1"] + 1, row["x2"] - row["x1"], row["y2"] - row["y1"])
        fields = [str(row["frame"] + 1), str(row["track_id"]), *map(_number, box), _number(row["score"])]
        if with_class:
            visibility = row.get("visibility")
            fields += [str(row["class_number"]), _number(1.0 if visibility is None else visibility)]
        else:
            fields += ["-1", "-1", "-1"]
        lines.append(",".join(fields))
    return "".join(f"{line}\n" for line in lines)


def _number(value: float) -> str:
    text = repr(round(value, 9))
    return text.removesuffix(".0")


def _fields(text: str) -> list[str]:
    """The numbers of a row, between commas (one may end the row) or blanks; an empty one stays, as no number."""
    if "," not in text:
        return text.split()
    fields = text.strip().removesuffix(",").split(",")
    return [number for field in fields for number in field.split() or [""]]


def _values(rows: list[list[str]]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Rows as float64 (N, 10), padded with NaN, and the rows that are not six to ten finite numbers."""
    values = np.full((len(rows), _MOST), np.nan)
    bad = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows):
        try:
            numbers = [float(t) for t in row]
        except ValueError:
            numbers = []
        if not _FEWEST <= len(numbers) <= _MOST or not (np.abs(numbers) <= LARGEST).all():
            bad[i] = True
        else:
            values[i, : len(numbers)] = numbers
    whole = (values[:, :2] == np.floor(values[:, :2])) & (np.abs(values[:, :2]) < 2**53)
    bad |= ~whole.all(axis=1)
    return values, bad


def _counts_from_zero(frames: Floats, length: int) -> bool:
    return len(frames) > 0 and frames.min() == 0 and frames.max() < length


def _from_zero(values: Floats, name: str, line: int) -> Finding:
    """The finding that frames count from 0, with what the boxes say of themselves."""
    touching = int(((values[:, 2] == 0) | (values[:, 3] == 0)).sum())
    boxes = f"; {touching} boxes begin at pixel 0: they may count from 0 too, and are read as counted from 1"
    message = (
        f"the frames are 0 to {int(values[:, 0].max())}, where the format counts from 1: they are read as counted from "
        f"0{boxes if touching else ''}"
    )
    facts = {"first": 0, "last": int(values[:, 0].max()), "boxes_at_zero": touching}
    return finding("label-counted-from-zero", message, path=name, line=line, count=len(values), facts=facts)


def _table(values: Floats, columns: npt.NDArray[np.int64], lines: npt.NDArray[np.int64]) -> pl.DataFrame:
    modern = columns == 9
    x1, y1 = values[:, 2] - 1, values[:, 3] - 1
    class_number = pl.Series(values[:, 7]).fill_nan(None).cast(pl.Int64, strict=False)
    visibility = pl.Series(values[:, 8]).fill_nan(None)
    table = pl.DataFrame(
        {
            "line": lines,
            "frame": values[:, 0].astype(np.int64) - 1,
            "track_id": values[:, 1].astype(np.int64),
            "x1": x1,
            "y1": y1,
            "x2": x1 + values[:, 4],
            "y2": y1 + values[:, 5],
            "score": pl.Series(values[:, 6]).fill_nan(1.0),
            "class_number": class_number,
            "visibility": visibility,
            "modern": modern,
        }
    )
    kept = (pl.when("modern").then(pl.col(c)).alias(c) for c in ("class_number", "visibility"))
    table = table.with_columns(kept).drop("modern")
    return table.select(pl.col(c).cast(t) for c, t in MOT_SCHEMA.items())
