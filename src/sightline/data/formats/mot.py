"""MOTChallenge: a folder per sequence with `gt/gt.txt`, `seqinfo.ini` and frames in `img1/`.

Recognised: one sequence folder; a folder of sequences; `train/` and `test/` folders of sequences (their names become
the splits). A sequence is a group; its frames are images `<sequence>/<imDir>/000001.jpg`, counted from 0, at
`frame / fps` seconds. Rows whose "consider" flag is 0 are kept with `ignore = true`; `occlusion = 1 - visibility` where
the file has it. Class names are those of MOT16 and later, or the lines of `gt/labels.txt`; MOT15 files know pedestrians
only.

A sequence without pictures can be evaluated against; this is reported once. `det/det.txt` and tracker results are read
with `read_mot_txt`.
"""

import configparser
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA, OBJECTS_SCHEMA, Dataset, dataset_from_rows
from sightline.core.errors import DataError
from sightline.core.files import write_text_atomic
from sightline.core.findings import Finding
from sightline.data.box_checks import check_boxes
from sightline.data.codes import finding
from sightline.data.formats.mot_txt import read_mot_txt, write_mot_txt
from sightline.data.image_header import MAX_SIDE, read_header
from sightline.data.layout import absolute, inside, list_images, read_text, relative, split_of

__all__ = ["LOOKED_FOR", "detect", "read", "write_mot_gt"]

LOOKED_FOR = "a MOTChallenge sequence (`gt/gt.txt` or `seqinfo.ini` with frames) or a folder of such"
_CLASSES = (
    "pedestrian",
    "person on vehicle",
    "car",
    "bicycle",
    "motorbike",
    "non-motorised vehicle",
    "static person",
    "distractor",
    "occluder",
    "occluder on the ground",
    "occluder full",
    "reflection",
    "crowd",
)
_IMAGE_COLUMNS = ("image_id", "path", "width", "height", "split", "group", "frame", "time_s")


def detect(path: Path) -> float | None:
    """How surely the path is MOTChallenge, 0..1, or None."""
    return 0.9 if path.is_dir() and _sequences(path) else None


def read(path: Path) -> Dataset:
    """The data set of a sequence or a folder of sequences. DataError when there is none."""
    path = absolute(path)
    folders = _sequences(path) if path.is_dir() else []
    if not folders:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    root = path.parent if folders == [(path, None)] else path
    reader = _Reader(root)
    for folder, split in folders:
        reader.read_sequence(folder, split)
    images, objects, classes = reader.tables()
    return dataset_from_rows(
        images, objects, classes, root=root, name=path.name, task="track", format="mot", findings=reader.findings
    )


def write_mot_gt(dataset: Dataset, folder: str | Path) -> list[Path]:
    """Write `<group>/gt/gt.txt`, `gt/labels.txt` and `seqinfo.ini` for every group of a tracked data set.

    Returns the ground-truth files. Frames are not written: they are expected in `<group>/img1/`, numbered from 1 with
    six digits. Objects without a track id cannot be written and raise DataError.
    """
    written = []
    objects = dataset.objects.join(dataset.images.select("image_id", "group", "frame"), on="image_id")
    if objects["track_id"].null_count():
        raise DataError(f"every object must have a track id, got {objects['track_id'].null_count()} without")
    for group, images in dataset.images.group_by("group", maintain_order=True):
        name = str(group[0])
        if group[0] is None or images["frame"].null_count():
            raise DataError("every image must have a group and a frame to be written as MOTChallenge")
        rows = objects.filter(pl.col("group") == name).select(
            "frame",
            "track_id",
            "x1",
            "y1",
            "x2",
            "y2",
            score=1.0 - pl.col("ignore").cast(pl.Float64),
            class_number=pl.col("class_id").cast(pl.Int64) + 1,
            visibility=1.0 - pl.col("occlusion").fill_null(0.0),
        )
        target = Path(folder) / name
        write_mot_txt(target / "gt" / "gt.txt", rows)
        write_text_atomic(target / "gt" / "labels.txt", "".join(f"{n}\n" for n in dataset.class_names))
        write_text_atomic(target / "seqinfo.ini", _seqinfo_text(name, images))
        written.append(target / "gt" / "gt.txt")
    return written


def _sequences(path: Path) -> list[tuple[Path, str | None]]:
    if _is_sequence(path):
        return [(path, None)]
    below = sorted(p for p in path.iterdir() if p.is_dir())
    found: list[tuple[Path, str | None]] = [(p, None) for p in below if _is_sequence(p)]
    for part in below:
        if split_of(part.name):
            found += [(p, split_of(part.name)) for p in sorted(part.iterdir()) if p.is_dir() and _is_sequence(p)]
    return found


def _is_sequence(folder: Path) -> bool:
    return (folder / "gt" / "gt.txt").is_file() or (folder / "seqinfo.ini").is_file()


@dataclass(frozen=True)
class _Info:
    """What `seqinfo.ini` says; None where it says nothing."""

    image_folder: str = "img1"
    extension: str = ".jpg"
    fps: float | None = None
    length: int | None = None
    size_wh: tuple[int, int] | None = None


@dataclass
class _Reader:
    """Collects the sequences' frames and boxes."""

    root: Path
    findings: list[Finding] = field(default_factory=list)
    _images: list[tuple[Any, ...]] = field(default_factory=list)
    _rows: list[pl.DataFrame] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    def read_sequence(self, folder: Path, split: str | None) -> None:
        """Take in one sequence."""
        name = relative(folder, self.root)
        info = _read_seqinfo(folder / "seqinfo.ini")
        gt = folder / "gt" / "gt.txt"
        table, findings = (None, []) if not gt.is_file() else read_mot_txt(gt, relative(gt, self.root))
        self.findings += findings
        if table is None:
            self.findings.append(finding("label-missing-file", "the sequence has no gt/gt.txt", path=name))
        frames = self._frames(folder, info, table)
        length = len(frames)
        size = info.size_wh or _size_of_first(frames, folder)
        first = len(self._images)
        for frame, file in enumerate(frames):
            time_s = frame / info.fps if info.fps else None
            row = (first + frame, relative(file, self.root), *size, split, name, frame, time_s)
            self._images.append(row)
        self._note_missing([f for f in frames if not f.is_file()], length, name)
        if table is not None:
            self._add_rows(table, relative(gt, self.root), first, length)
            self._read_names(gt.parent / "labels.txt", table["class_number"].drop_nulls().to_list())

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """The images, objects and classes tables."""
        images = pl.DataFrame(self._images, schema={k: IMAGES_SCHEMA[k] for k in _IMAGE_COLUMNS}, orient="row")
        numbers = sorted(self._names)
        slots = {number: i for i, number in enumerate(numbers)}
        names = [self._names[n] for n in numbers]
        classes = pl.DataFrame(
            {"class_id": range(len(names)), "name": names, "source_id": numbers},
            schema={"class_id": pl.Int32, "name": pl.String, "source_id": pl.Int64},
        )
        if not self._rows:
            return images, pl.DataFrame(schema=OBJECTS_SCHEMA), classes
        rows = pl.concat(self._rows)
        objects = rows.select(
            "image_id",
            pl.col("class_number").replace_strict(slots, return_dtype=pl.Int32).alias("class_id"),
            "x1",
            "y1",
            "x2",
            "y2",
            crowd=pl.lit(False),
            ignore=pl.col("score") == 0,
            occlusion=1.0 - pl.col("visibility"),
            track_id="track_id",
        )
        paths, lines = rows["path"], rows["line"]

        def places(indices: npt.NDArray[np.int64]) -> list[tuple[str, int | None]]:
            return [(paths[i], lines[i]) for i in indices.tolist()]

        objects, found = check_boxes(objects, images, names, places)
        self.findings += found
        self._check_ids(rows)
        return images, objects, classes

    def _frames(self, folder: Path, info: _Info, table: pl.DataFrame | None) -> list[Path]:
        """The frames' files in order, whether they exist or not."""
        images = list_images(folder / inside(folder, info.image_folder, str(folder / "seqinfo.ini")))
        if images and (info.length is None or info.length == len(images)):
            return images
        last = int(table["frame"].max() or 0) + 1 if table is not None and len(table) else 0  # type: ignore[arg-type]
        length = info.length if info.length is not None else last
        return [folder / info.image_folder / f"{frame:06d}{info.extension}" for frame in range(1, length + 1)]

    def _note_missing(self, missing: list[Path], length: int, name: str) -> None:
        if not missing:
            return
        message = f"{len(missing)} of {length} frames do not exist, the first is {missing[0].name}"
        self.findings.append(finding("image-missing", message, path=name, count=len(missing)))

    def _add_rows(self, table: pl.DataFrame, path: str, first: int, length: int) -> None:
        outside = table.filter(~pl.col("frame").is_between(0, length - 1))
        for row in outside.iter_rows(named=True):
            message = f"frame {row['frame'] + 1} is outside the sequence of {length} frames"
            self.findings.append(finding("track-frame-range", message, path=path, line=row["line"]))
        rows = table.filter(pl.col("frame").is_between(0, length - 1))
        self._rows.append(
            rows.with_columns(pl.col("class_number").fill_null(1), image_id=pl.col("frame") + first, path=pl.lit(path))
        )

    def _read_names(self, file: Path, used: Iterable[int]) -> None:
        names = [n.strip() for n in read_text(file).splitlines() if n.strip()] if file.is_file() else []
        known = dict(enumerate(names or _CLASSES, start=1))
        wanted = set(used) | (set(known) if names else {1})
        for number in sorted(wanted):
            name = known.get(number, f"class_{number}")
            if number not in known:
                message = f"class {number} has no name in {file.name}"
                self.findings.append(finding("class-names-missing", message, path=relative(file.parent, self.root)))
            if self._names.setdefault(number, name) != name:
                message = f"class {number} is '{name}' here and '{self._names[number]}' in another sequence"
                self.findings.append(finding("class-conflict", message, path=relative(file, self.root)))

    def _check_ids(self, rows: pl.DataFrame) -> None:
        double = rows.filter(pl.struct("image_id", "track_id").is_duplicated() & (pl.col("score") != 0))
        for row in double.unique(("image_id", "track_id"), keep="last", maintain_order=True).iter_rows(named=True):
            message = f"id {row['track_id']} is on several boxes in frame {row['frame'] + 1}"
            place = {"path": row["path"], "line": row["line"], "image_id": row["image_id"]}
            self.findings.append(finding("track-duplicate-id", message, **place))


def _size_of_first(frames: list[Path], folder: Path) -> tuple[int, int]:
    if not frames or not frames[0].is_file():
        raise DataError("a sequence must have frames or a seqinfo.ini with imWidth and imHeight", where=str(folder))
    height, width = read_header(frames[0]).size_hw
    return width, height


def _read_seqinfo(file: Path) -> _Info:
    if not file.is_file():
        return _Info()
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(file))
        section = parser["Sequence"]
        width, height = section.getint("imWidth", 0), section.getint("imHeight", 0)
        info = _Info(
            section.get("imDir", "img1"),
            section.get("imExt", ".jpg"),
            section.getfloat("frameRate", None),
            section.getint("seqLength", None),
            (width, height) if min(width, height) > 0 and max(width, height) <= MAX_SIDE else None,
        )
    except (configparser.Error, KeyError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise DataError(
            f"must be a MOTChallenge seqinfo with a section [Sequence], got: {message}", where=str(file)
        ) from None
    if (info.fps is not None and not 0 < info.fps < 1e6) or not 0 <= (info.length or 0) < 10**7:
        raise DataError(f"frameRate and seqLength must be sane, got {info.fps} and {info.length}", where=str(file))
    return info


def _seqinfo_text(name: str, images: pl.DataFrame) -> str:
    last = images.sort("frame").row(-1, named=True)
    fps = last["frame"] / last["time_s"] if last["time_s"] else 25.0
    values = {
        "name": name,
        "imDir": "img1",
        "frameRate": f"{fps:.10g}",
        "seqLength": last["frame"] + 1,
        "imWidth": last["width"],
        "imHeight": last["height"],
        "imExt": Path(last["path"]).suffix,
    }
    return "[Sequence]\n" + "".join(f"{k}={v}\n" for k, v in values.items())
