"""MOTChallenge: a folder per sequence with `gt/gt.txt`, `seqinfo.ini` and frames in `img1/`.

Recognised: one sequence folder; a folder of sequences; `train/` and `test/` folders of sequences (their names become
the splits). A sequence is a group; its frames are images `<sequence>/<imDir>/000001.jpg`, counted from 0, at
`frame / fps` seconds. Rows whose "consider" flag is 0 are kept with `ignore = true`; `occlusion = 1 - visibility` where
the file has it. Class names are those of MOT16 and later, or the lines of `gt/labels.txt`; MOT15 files know pedestrians
only.

A sequence without pictures may have a video instead, named like it inside or beside its folder, or named under `video`
in a `sightline.yaml`; its frames are images `<video>#000000`, and boxes made for another size are scaled to it.

A sequence without either can be evaluated against; this is reported once. `det/det.txt` and tracker results are read
with `read_mot_txt`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from sightline.core.dataset import IMAGES_SCHEMA, OBJECTS_SCHEMA, Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import picture_file
from sightline.data.codes import finding
from sightline.data.formats.mot.sequence import read_mot_txt, read_seqinfo, sequence_frames, videos_of
from sightline.data.formats.shared.image_tables import build_dataset, class_table
from sightline.data.layout import absolute, common_root, list_images, read_text, relative, split_of

__all__ = ["LOOKED_FOR", "detect", "read"]

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


def read(path: Path, videos: Mapping[str, Path] | None = None) -> Dataset:
    """The data set of a sequence or a folder of sequences. DataError when there is none.

    `videos` names the video of sequences without pictures; "" stands for the only sequence.
    """
    path = absolute(path)
    folders = _sequences(path) if path.is_dir() else []
    if not folders:
        raise DataError(f"must be {LOOKED_FOR}, got none of these", where=str(path))
    root = path.parent if folders == [(path, None)] else path
    names = [relative(folder, root) for folder, _ in folders]
    given = videos_of(videos or {}, names)
    reader = _Reader(common_root([root, *(video.parent for video in given.values())]))
    for (folder, split), name in zip(folders, names, strict=True):
        reader.read_sequence(folder, name, split, given.get(name), alone=len(folders) == 1)
    images, objects, classes = reader.tables()
    # MOTChallenge draws the whole person, seen or not.
    parts = (images, objects, classes, reader.findings)
    return build_dataset(path, "mot", *parts, root=reader.root, task="track", amodal=True)


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


@dataclass
class _Reader:
    """Collects the sequences' frames and boxes."""

    root: Path
    findings: list[Finding] = field(default_factory=list)
    _images: list[tuple[Any, ...]] = field(default_factory=list)
    _rows: list[pl.DataFrame] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    def read_sequence(self, folder: Path, name: str, split: str | None, video: Path | None, *, alone: bool) -> None:
        """Take in one sequence."""
        info = read_seqinfo(folder / "seqinfo.ini")
        gt = folder / "gt" / "gt.txt"
        expected = info.length or len(list_images(folder / info.image_folder)) or None
        name_of = relative(gt, self.root)
        table, findings = read_mot_txt(gt, name_of, length=expected) if gt.is_file() else (None, [])
        self.findings += findings
        if table is None:
            self.findings.append(finding("label-missing-file", "the sequence has no gt/gt.txt", path=name))
        frames, notes = sequence_frames(folder, info, table, video, self.root, alone=alone)
        self.findings += notes
        first, length = len(self._images), len(frames.paths)
        for frame, file in enumerate(frames.paths):
            stated = None if frames.times is None else frames.times[frame]
            time_s = frame / info.fps if info.fps else stated
            self._images.append((first + frame, relative(file, self.root), *frames.size_wh, split, name, frame, time_s))
        holders = {file: picture_file(file) for file in frames.paths}
        present = {holder for holder in set(holders.values()) if holder.is_file()}
        self._note_missing([file for file, holder in holders.items() if holder not in present], length, name)
        if table is not None:
            across, down = frames.scale
            scaled = [pl.col(c) * across for c in ("x1", "x2")] + [pl.col(c) * down for c in ("y1", "y2")]
            self._add_rows(table.with_columns(scaled), relative(gt, self.root), first, length)
            self._read_names(gt.parent / "labels.txt", table["class_number"].drop_nulls().to_list())

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """The images, objects and classes tables."""
        images = pl.DataFrame(self._images, schema={k: IMAGES_SCHEMA[k] for k in _IMAGE_COLUMNS}, orient="row")
        numbers = sorted(self._names)
        slots = {number: i for i, number in enumerate(numbers)}
        names = [self._names[n] for n in numbers]
        classes = class_table(names, source_id=numbers)
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
            occlusion=pl.when(pl.col("visibility") >= 0).then(1.0 - pl.col("visibility")),  # -1: not known
            track_id="track_id",
            label_path=pl.col("path").cast(pl.Categorical),
            entry=pl.col("line").cast(pl.Int32),
        )
        self._check_ids(rows)
        return images, objects, classes

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
