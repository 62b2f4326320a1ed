"""The rows of YOLO label files as the columns of an objects table: boxes, polygons, boxes with keypoints."""

import math
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import LARGEST, label_lines
from sightline.data.layout import relative
from sightline.ops.outlines import signed_area

__all__ = ["FAR", "RowReader"]

_SEEN = {0.0, 1.0, 2.0}  # visibilities
_BOX = 5  # numbers of a row: class and box
_CORNERS = 9  # class and four corners
_FEWEST = 4  # rows from which on all of them being in pixels is said of the set
_SQUARE_PX = 2.0  # how far the diagonals of a rectangle may differ in length and middle: labels carry few decimals
_UPRIGHT_PX = 2.0  # sides off the axes by less are those of an upright box
FAR = 2.0  # a relative coordinate beyond this is in pixels, not a box that reaches outside

_THIN_PX = 1.0  # square pixels; only an outline of less can lie on a line
_ON_A_LINE_PX = 1e-3  # labels carry few decimals, and products of them rounding

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]


class _Row(NamedTuple):
    """A row as it stands in its file."""

    tokens: list[str]
    image_id: int
    file: str
    line: int


def _is_posed(tokens: list[str]) -> bool:
    """Whether a row may be a box and keypoints of x, y and visibility."""
    return len(tokens) > _BOX and (len(tokens) - _BOX) % 3 == 0 and set(map(_number, tokens[7::3])) <= _SEEN


@dataclass
class RowReader:
    """Collects the rows of all label files, then turns them into columns at once."""

    root: Path
    keypoints: tuple[int, int] | None = None  # how many, and how many numbers (2 or 3) each
    findings: list[Finding] = field(default_factory=list)
    _odd: list["_Row"] = field(default_factory=list)  # too long for a box, no polygon, and like a box with keypoints
    _tokens: list[list[str]] = field(default_factory=list)
    _images: list[int] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    def read_file(self, label: Path, image_id: int) -> None:
        """Take in the rows of one label file; rows of an impossible length are reported."""
        name = relative(label, self.root)
        for number, line in label_lines(label, name, image_id, self.findings):
            row = _Row(line.split(), image_id, name, number)
            if self._fits(len(row.tokens)):
                self._add(row)
            elif self.keypoints is None and _is_posed(row.tokens):
                self._odd.append(row)
            else:
                self._refuse(row)

    def recognise_keypoints(self) -> None:
        """Read the rows as boxes with keypoints where nothing says so and all that are longer than a box look it."""
        if self.keypoints is not None:
            return
        longer = [t for t in self._tokens if len(t) > _BOX] + [row.tokens for row in self._odd]
        lengths = set(map(len, longer))
        sure = len(lengths) == 1 and all(map(_is_posed, longer)) and any(2.0 in map(_number, t[7::3]) for t in longer)
        if not sure:
            for row in self._odd:
                self._refuse(row)
            return
        for row in self._odd:
            self._add(row)
        count = (lengths.pop() - _BOX) // 3
        self.keypoints = (count, 3)
        first = next(i for i, t in enumerate(self._tokens) if len(t) > _BOX)
        message = (
            f"all {len(longer)} rows longer than a box have {count} × 3 numbers more, every third of them 0, 1 or 2: "
            f"they are read as a box and {count} keypoints; `kpt_shape: [{count}, 3]` is missing"
        )
        place = {"path": self._files[first], "line": self._lines[first], "count": len(longer)}
        self.findings.append(finding("label-no-keypoint-shape", message, facts={"keypoints": count}, **place))  # type: ignore[arg-type]

    def _add(self, row: "_Row") -> None:
        self._tokens.append(row.tokens)
        self._images.append(row.image_id)
        self._files.append(row.file)
        self._lines.append(row.line)

    def _refuse(self, row: "_Row") -> None:
        shapes = "7, 9, 11, … (polygon)" if self.keypoints is None else f"{self._pose_length()} (with keypoints)"
        message = f"a row must have 5 numbers (box) or {shapes}, got {len(row.tokens)}"
        self.findings.append(finding("label-malformed", message, path=row.file, line=row.line, image_id=row.image_id))

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
        boxes, far, flat, polygons, areas = _shapes(values, offsets, keep, sizes, posed=self.keypoints is not None)
        self._report_pixels(keep, far, values, offsets, len(bad))
        table = pl.DataFrame(
            {
                "image_id": image_id,
                "class_id": of_class[keep],
                **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
                "area": areas,
                "crowd": pl.repeat(False, len(keep), eager=True),
                "ignore": far | flat,
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

    def _report_pixels(self, keep: Ints, far: Bools, values: Floats, offsets: Ints, total: int) -> None:
        """Rows in pixels, one by one; once where all rows of the set are."""
        if len(keep) < _FEWEST or not far.all():
            self._report_rows(_at(total, keep[far]), "label-not-normalised", "coordinates must be 0..1, got '{}'")
            return
        largest = max(float(values[offsets[row] + 1 : offsets[row + 1]].max()) for row in keep.tolist())
        first = int(keep[0])
        message = (
            f"the coordinates of all {len(keep)} rows are far beyond 1, up to {largest:g}: they are in pixels; the "
            f"first is '{' '.join(self._tokens[first])[:60]}'"
        )
        place = {"path": self._files[first], "line": self._lines[first], "entry": self._lines[first]}
        facts = {"largest": largest, "rows": len(keep)}
        self.findings.append(finding("label-not-normalised", message, count=len(keep), facts=facts, **place))  # type: ignore[arg-type]

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
) -> tuple[Floats, Bools, Bools, list[list[list[float]] | None], Floats]:
    """Of the given rows the boxes in pixels, which are far from 0..1, whose polygon lies on a line, the polygons in
    pixels, and the areas."""
    lengths = np.diff(offsets)[rows]
    boxes = np.zeros((len(rows), 4))
    areas = np.zeros(len(rows))
    far, flat = np.zeros((2, len(rows)), dtype=np.bool_)
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
        flat[row] = areas[row] < _THIN_PX and _is_flat(points)
        polygons[row] = [points.ravel().tolist()]
    return boxes, far, flat, polygons, areas


def _is_flat(points: Floats) -> bool:
    """Whether the points (P, 2) lie on one line, as far as rounding lets them."""
    offsets = points - points[0]
    lengths = np.hypot(offsets[:, 0], offsets[:, 1])
    x, y = offsets[lengths.argmax()]
    return bool((np.abs(offsets[:, 0] * y - offsets[:, 1] * x) <= _ON_A_LINE_PX * lengths.max()).all())


def _at(length: int, rows: Ints) -> npt.NDArray[np.bool_]:
    mask = np.zeros(length, dtype=np.bool_)
    mask[rows] = True
    return mask


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
