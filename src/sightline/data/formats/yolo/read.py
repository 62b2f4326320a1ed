"""YOLO labels: one text file per image, one row per object, coordinates relative to the image.

Recognised: an Ultralytics data YAML (`path`, `train`, `val`, `test`, `names`, each path relative to the YAML file) or a
folder that holds one; `images/` beside `labels/`, with or without split folders; `train|valid|test` folders with both
inside; a folder with images, text files of the same stem and a `*.names` or `classes.txt`.

A row of 5 numbers is a box (`class cx cy w h`), a longer one a polygon (`class x0 y0 x1 y1 …`); both may be mixed.
Polygons of four corners that are turned rectangles throughout (oriented boxes) are said to be so. With `kpt_shape` in
the data YAML a row is a box and its keypoints. An image without a label file is an image without objects, and is
reported. Coordinates are not clipped.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.config import read_yaml
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import (
    LARGEST,
    build_dataset,
    build_image_table,
    class_table,
    label_lines,
    labels_of_images,
)
from sightline.data.formats.yolo.layout import (
    Layout,
    data_yaml,
    folder_layout,
    has_label_pairs,
    is_data_yaml,
    yaml_layout,
)
from sightline.data.layout import absolute, list_files, relative, split_of, subfolder
from sightline.ops.outlines import signed_area

__all__ = ["FAR", "LOOKED_FOR", "detect", "read"]

_BOX = 5  # numbers of a row: class and box
_CORNERS = 9  # class and four corners
_SQUARE_PX = 2.0  # how far the diagonals of a rectangle may differ in length and middle: labels carry few decimals
_UPRIGHT_PX = 2.0  # sides off the axes by less are those of an upright box
FAR = 2.0  # a relative coordinate beyond this is in pixels, not a box that reaches outside

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass
class RowReader:
    """Collects the rows of all label files, then turns them into columns at once."""

    root: Path
    keypoints: tuple[int, int] | None = None  # how many, and how many numbers (2 or 3) each
    findings: list[Finding] = field(default_factory=list)
    _tokens: list[list[str]] = field(default_factory=list)
    _images: list[int] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    def read_file(self, label: Path, image_id: int) -> None:
        """Take in the rows of one label file; rows of an impossible length are reported."""
        name = relative(label, self.root)
        for number, line in label_lines(label, name, image_id, self.findings):
            tokens = line.split()
            if self._fits(len(tokens)):
                self._tokens.append(tokens)
                self._images.append(image_id)
                self._files.append(name)
                self._lines.append(number)
                continue
            shapes = "7, 9, 11, … (polygon)" if self.keypoints is None else f"{self._pose_length()} (with keypoints)"
            message = f"a row must have 5 numbers (box) or {shapes}, got {len(tokens)}"
            self.findings.append(finding("label-malformed", message, path=name, line=number, image_id=image_id))

    def _fits(self, length: int) -> bool:
        if self.keypoints is not None:
            return length in {_BOX, self._pose_length()}
        return length == _BOX or (length >= 7 and length % 2 == 1)

    def _pose_length(self) -> int:
        return _BOX + math.prod(self.keypoints or (0, 0))

    def largest_class(self) -> int:
        """The largest plausible class id in the rows (below 1000), -1 when there is none."""
        ids = [int(t[0]) for t in self._tokens if t[0].isdecimal() and len(t[0]) <= 3]
        return max(ids, default=-1)

    def objects(self, images: pl.DataFrame, class_ids: dict[int, int]) -> pl.DataFrame:
        """The objects table of all rows in pixels; `class_ids` maps the file's ids to the data set's."""
        values, offsets, bad = self._numbers()
        raw = np.array([values[o] for o in offsets[:-1]] if len(offsets) > 1 else [], dtype=np.float64)
        of_class = np.array([class_ids.get(int(c), -1) if c == int(c) else -1 for c in raw.tolist()], dtype=np.int64)
        self._report_rows(bad, "label-malformed", "a row must hold numbers up to 1e15, got '{}'")
        self._report_classes(np.flatnonzero((of_class < 0) & ~bad), raw)
        keep = np.flatnonzero(~bad & (of_class >= 0))
        image_id = np.array(self._images, dtype=np.int64)[keep]
        sizes = images.select("width", "height").to_numpy().astype(np.float64)[image_id]
        posed = keep[np.diff(offsets)[keep] > _BOX] if self.keypoints is not None else keep[:0]
        boxes, far, polygons, areas = _shapes(values, offsets, keep, sizes, posed=self.keypoints is not None)
        self._report_rows(_at(len(bad), keep[far]), "label-not-normalised", "coordinates must be 0..1, got '{}'")
        table = pl.DataFrame(
            {
                "image_id": image_id,
                "class_id": of_class[keep],
                **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
                "area": areas,
                "crowd": pl.repeat(False, len(keep), eager=True),
                "ignore": far,
                "label_path": pl.Series([self._files[i] for i in keep.tolist()], dtype=pl.Categorical),
                "entry": pl.Series([self._lines[i] for i in keep.tolist()], dtype=pl.Int32),
                "reported": far,
                "polygon": pl.Series(polygons, dtype=pl.List(pl.List(pl.Float64))),
                "keypoints": self._keypoints(values, offsets, posed, keep, sizes),
            }
        )
        self._note_oriented(np.diff(offsets)[keep], polygons)
        self._note_pixels(keep[far & (boxes[:, 2:] > sizes).all(axis=1)], len(keep), images["path"])
        return table

    def _note_pixels(self, rows: Ints, total: int, paths: pl.Series) -> None:
        """Say so where only some of the labels are in pixels: two exports in one."""
        others = total - len(rows)
        if len(rows) and others:
            message = f"coordinates of {len(rows)} labels are in pixels, those of {others} labels are not"
            place = {"path": self._files[rows[0]], "line": self._lines[rows[0]], "entry": self._lines[rows[0]]}
            facts = {"labels": len(rows), "others": others, "image": paths[self._images[rows[0]]]}
            self.findings.append(finding("label-mixed-coordinates", message, count=len(rows), facts=facts, **place))

    def _keypoints(self, values: Floats, offsets: Ints, posed: Ints, keep: Ints, sizes_wh: Floats) -> pl.Series:
        """Keypoints in pixels with visibility 0, 1 or 2; null for rows without any, or with none visible."""
        column: list[list[float] | None] = [None] * len(keep)
        if len(posed):
            count, width = self.keypoints or (0, 0)
            rows = np.searchsorted(keep, posed)
            points = values[offsets[posed][:, None] + np.arange(_BOX, _BOX + count * width)].reshape(-1, count, width)
            seen = points[..., 2] if width == 3 else 2.0 * (points != 0).any(axis=2)
            strange = (~np.isin(seen, (0, 1, 2))).any(axis=1)
            message = "a keypoint's visibility must be 0, 1 or 2; the keypoints of '{}' are left out"
            self._report_rows(_at(len(self._tokens), posed[strange]), "label-malformed", message)
            places = points[..., :2] * sizes_wh[rows][:, None, :] * (seen > 0)[..., None]
            flat = np.concatenate([places, seen[..., None]], axis=2).reshape(len(posed), -1)
            given = (seen > 0).any(axis=1) & ~strange
            for row, numbers in zip(rows[given].tolist(), flat[given].tolist(), strict=True):
                column[row] = numbers
        return pl.Series(column, dtype=pl.List(pl.Float64))

    def _note_oriented(self, lengths: Ints, polygons: list[list[list[float]] | None]) -> None:
        """Say so where every row is a rectangle of four corners and some stand turned: labels of oriented boxes."""
        if not len(lengths) or (lengths != _CORNERS).any() or self.keypoints is not None:
            return
        corners = np.array(polygons, dtype=np.float64).reshape(-1, 4, 2)
        middles = np.abs(corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]).max(axis=1) / 2
        diagonals = np.hypot(*np.moveaxis(corners[:, 2:] - corners[:, :2], 2, 0))
        square = (middles <= _SQUARE_PX) & (np.abs(diagonals[:, 0] - diagonals[:, 1]) <= _SQUARE_PX)
        turned = (np.abs(corners[:, 1] - corners[:, 0]).min(axis=1) > _UPRIGHT_PX) & square
        if square.all() and turned.any():
            message = f"all {len(square)} rows are rectangles by their corners, {int(turned.sum())} of them turned"
            self.findings.append(finding("label-oriented-box", message, path=self._files[0], count=len(square)))

    def _numbers(self) -> tuple[Floats, Ints, npt.NDArray[np.bool_]]:
        """All numbers in one array, the row offsets into it, and the rows that are not numbers (zeros instead)."""
        lengths = np.array([len(t) for t in self._tokens], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        bad = np.zeros(len(lengths), dtype=np.bool_)
        try:
            values = np.fromiter(map(float, chain.from_iterable(self._tokens)), np.float64, int(offsets[-1]))
        except ValueError:
            values = np.array([_number(t) for row in self._tokens for t in row], dtype=np.float64)
        if len(lengths):
            bad = ~(np.maximum.reduceat(np.abs(values), offsets[:-1]) <= LARGEST)
        values[np.repeat(bad, lengths)] = 0.0
        return values, offsets, bad

    def _report_rows(self, hit: npt.NDArray[np.bool_], code: str, message: str) -> None:
        for row in np.flatnonzero(hit).tolist():
            shown = " ".join(self._tokens[row])[:60]
            self.findings.append(finding(code, message.format(shown), **self._place(row)))

    def _report_classes(self, rows: Ints, numbers: Floats) -> None:
        for row in rows.tolist():
            message = f"class id '{self._tokens[row][0]}' is not declared"
            facts = {"class_number": int(numbers[row])} if numbers[row] == int(numbers[row]) else {}
            self.findings.append(finding("label-unknown-class", message, facts=facts, **self._place(row)))

    def _place(self, row: int) -> dict[str, Any]:
        line = self._lines[row]
        return {"path": self._files[row], "line": line, "entry": line, "image_id": self._images[row]}


def _shapes(
    values: Floats, offsets: Ints, rows: Ints, sizes_wh: Floats, *, posed: bool
) -> tuple[Floats, npt.NDArray[np.bool_], list[list[list[float]] | None], Floats]:
    """Boxes in pixels, rows whose coordinates are far from 0..1, polygons in pixels, and areas of the given rows."""
    lengths = np.diff(offsets)[rows]
    boxes = np.zeros((len(rows), 4))
    areas = np.zeros(len(rows))
    far = np.zeros(len(rows), dtype=np.bool_)
    polygons: list[list[list[float]] | None] = [None] * len(rows)
    plain = np.flatnonzero(posed | (lengths == _BOX))
    relative_boxes = values[offsets[rows[plain]][:, None] + np.arange(1, 5)]
    far[plain] = (np.abs(relative_boxes) > FAR).any(axis=1)
    centre, half = relative_boxes[:, :2], relative_boxes[:, 2:] / 2
    boxes[plain] = np.concatenate([centre - half, centre + half], axis=1) * np.tile(sizes_wh[plain], 2)
    areas[plain] = np.prod(np.clip(boxes[plain, 2:] - boxes[plain, :2], 0, None), axis=1)
    for row in [] if posed else np.flatnonzero(lengths > _BOX).tolist():
        start, stop = offsets[rows[row]] + 1, offsets[rows[row] + 1]
        points = values[start:stop].reshape(-1, 2)
        far[row] = bool((np.abs(points) > FAR).any())
        points = points * sizes_wh[row]
        boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
        areas[row] = abs(signed_area(points))
        polygons[row] = [points.ravel().tolist()]
    return boxes, far, polygons, areas


def _at(length: int, rows: Ints) -> npt.NDArray[np.bool_]:
    mask = np.zeros(length, dtype=np.bool_)
    mask[rows] = True
    return mask


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


LOOKED_FOR = (
    "an Ultralytics data YAML (train, val, names), `images/` beside `labels/*.txt`, "
    "or images with .txt files of the same stem"
)
_YAML = {".yaml", ".yml"}


def detect(path: Path) -> float | None:
    """How surely the path is YOLO, 0..1, or None."""
    if path.is_file():
        return 0.9 if path.suffix.lower() in _YAML and is_data_yaml(read_yaml(path)) else None
    if data_yaml(path) is not None:
        return 0.9
    labels = subfolder(path, ("labels",))
    if labels is not None and subfolder(path, ("images",)) is not None:
        return 0.8 if any(labels.rglob("*.txt")) else None
    if any((p / "labels").is_dir() and (p / "images").is_dir() for p in path.iterdir() if split_of(p.name)):
        return 0.8
    return 0.6 if has_label_pairs(path) else None


def read(path: Path) -> Dataset:
    """The data set of a data YAML or folder. DataError or ConfigError when it is not YOLO."""
    path = absolute(path)
    layout = _layout(path)
    images, findings = build_image_table(layout.images, layout.root)
    rows = RowReader(layout.root, layout.keypoints)
    findings = layout.findings + findings + _read_files(layout, images, rows)
    class_ids, classes, notes = _classes(layout, rows.largest_class())
    objects = rows.objects(images, class_ids)
    findings += notes + rows.findings
    dataset = build_dataset(path, "yolo", images, objects, classes, findings, root=layout.root)
    return replace(dataset, name=layout.name)


def _layout(path: Path) -> Layout:
    if path.is_file():
        if path.suffix.lower() not in _YAML:
            raise ConfigError("a YOLO data set must be a folder or a data YAML, got another file", where=str(path))
        return yaml_layout(path)
    file = data_yaml(path)
    layout = yaml_layout(file, path) if file is not None else folder_layout(path)
    if layout is None:
        raise DataError(f"must be YOLO ({LOOKED_FOR}), got none of these", where=str(path))
    return layout


def _read_files(layout: Layout, images: pl.DataFrame, rows: RowReader) -> list[Finding]:
    findings: list[Finding] = []
    expected = {name: layout.labels[layout.root / name] for name in images["path"]}
    there = {name: label for name, label in expected.items() if label.is_file()}
    for image_id, _, label in labels_of_images(images, there, findings, "label file"):
        rows.read_file(label, image_id)
    if len(images) and len(findings) == len(images):
        folders = ", ".join(sorted(str(f) for f in layout.label_folders)[:3])
        raise DataError(f"at least one image must have a label file, got none for {len(images)} images in {folders}")
    known = set(layout.labels.values()) | layout.not_labels
    for folder, recursive in sorted(layout.label_folders.items()):
        for file in list_files(folder, (".txt",), recursive=recursive):
            if file not in known:
                known.add(file)
                message = "the label file has no image"
                findings.append(finding("label-orphan", message, path=relative(file, layout.root)))
    return findings


def _classes(layout: Layout, largest: int) -> tuple[dict[int, int], pl.DataFrame, list[Finding]]:
    names, notes = layout.names, []
    if names is None:
        names = {i: f"class_{i}" for i in range(largest + 1)}
        notes.append(finding("class-names-missing", f"no class names are given; ids 0..{largest} are numbered"))
    ids = sorted(names)
    keypoint_names = [layout.keypoint_names.get(i) for i in ids]
    table = class_table([names[i] for i in ids], source_id=ids, keypoint_names=keypoint_names)
    return {source: i for i, source in enumerate(ids)}, table, notes
