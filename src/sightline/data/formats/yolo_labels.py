"""The rows of YOLO label files as columns: `class cx cy w h`, or `class x0 y0 x1 y1 …`, all relative to the image."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.box_checks import check_boxes
from sightline.data.codes import finding
from sightline.data.layout import read_text, relative

__all__ = ["RowReader"]

_FAR = 2.0  # a relative coordinate beyond this is in pixels, not a box that reaches outside

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass
class RowReader:
    """Collects the rows of all label files, then turns them into columns at once."""

    root: Path
    findings: list[Finding] = field(default_factory=list)
    _tokens: list[list[str]] = field(default_factory=list)
    _images: list[int] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _lines: list[int] = field(default_factory=list)

    def read_file(self, label: Path, image_id: int) -> None:
        """Take in the rows of one label file; rows of an impossible length are reported."""
        name = relative(label, self.root)
        try:
            text = read_text(label)
        except DataError as error:
            self.findings.append(finding("label-malformed", error.what, path=name, image_id=image_id))
            return
        rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
        rows = [(number, tokens) for number, tokens in rows if tokens]
        if not rows:
            self.findings.append(finding("label-empty-file", "no object", path=name, image_id=image_id))
        for number, tokens in rows:
            if len(tokens) == 5 or (len(tokens) >= 7 and len(tokens) % 2 == 1):
                self._tokens.append(tokens)
                self._images.append(image_id)
                self._files.append(name)
                self._lines.append(number)
                continue
            message = f"a row must have 5 numbers (box) or 7, 9, 11, … (polygon), got {len(tokens)}"
            self.findings.append(finding("label-malformed", message, path=name, line=number, image_id=image_id))

    def largest_class(self) -> int:
        """The largest plausible class id in the rows (below 1000), -1 when there is none."""
        ids = [int(t[0]) for t in self._tokens if t[0].isdecimal() and len(t[0]) <= 3]
        return max(ids, default=-1)

    def objects(self, images: pl.DataFrame, class_ids: dict[int, int], class_names: list[str]) -> pl.DataFrame:
        """The objects table of all rows in pixels; `class_ids` maps the file's ids to the data set's."""
        values, offsets, bad = self._numbers()
        raw = np.array([values[o] for o in offsets[:-1]] if len(offsets) > 1 else [], dtype=np.float64)
        of_class = np.array([class_ids.get(int(c), -1) if c == int(c) else -1 for c in raw.tolist()], dtype=np.int64)
        self._report_rows(bad, "label-malformed", "a row must hold finite numbers, got '{}'")
        self._report_rows((of_class < 0) & ~bad, "label-unknown-class", "class id '{}' is not declared")
        keep = np.flatnonzero(~bad & (of_class >= 0))
        image_id = np.array(self._images, dtype=np.int64)[keep]
        sizes = images.select("width", "height").to_numpy().astype(np.float64)[image_id]
        boxes, far, polygons, areas = _shapes(values, offsets, keep, sizes)
        self._report_rows(_at(len(bad), keep[far]), "label-not-normalised", "coordinates must be 0..1, got '{}'")
        table = pl.DataFrame(
            {
                "image_id": image_id,
                "class_id": of_class[keep],
                **{name: boxes[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
                "area": areas,
                "crowd": pl.repeat(False, len(keep), eager=True),
                "ignore": pl.repeat(False, len(keep), eager=True),
                "polygon": pl.Series(polygons, dtype=pl.List(pl.List(pl.Float64))),
            }
        )

        def places(rows: Ints) -> list[tuple[str, int | None]]:
            return [(self._files[i], self._lines[i]) for i in keep[rows].tolist()]

        table, found = check_boxes(table, images, class_names, places, reported=far)
        self.findings += found
        return table

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
            bad = ~np.isfinite(np.add.reduceat(values, offsets[:-1]))
        values[np.repeat(bad, lengths)] = 0.0
        return values, offsets, bad

    def _report_rows(self, hit: npt.NDArray[np.bool_], code: str, message: str) -> None:
        for row in np.flatnonzero(hit).tolist():
            shown = self._tokens[row][0] if code == "label-unknown-class" else " ".join(self._tokens[row])[:60]
            place: dict[str, Any] = {"path": self._files[row], "line": self._lines[row], "image_id": self._images[row]}
            self.findings.append(finding(code, message.format(shown), **place))


def _shapes(
    values: Floats, offsets: Ints, rows: Ints, sizes_wh: Floats
) -> tuple[Floats, npt.NDArray[np.bool_], list[list[list[float]] | None], Floats]:
    """Boxes in pixels, rows whose coordinates are far from 0..1, polygons in pixels, and areas of the given rows."""
    lengths = np.diff(offsets)[rows]
    boxes = np.zeros((len(rows), 4))
    areas = np.zeros(len(rows))
    far = np.zeros(len(rows), dtype=np.bool_)
    polygons: list[list[list[float]] | None] = [None] * len(rows)
    plain = np.flatnonzero(lengths == 5)
    relative_boxes = values[offsets[rows[plain]][:, None] + np.arange(1, 5)]
    far[plain] = (np.abs(relative_boxes) > _FAR).any(axis=1)
    centre, half = relative_boxes[:, :2], relative_boxes[:, 2:] / 2
    boxes[plain] = np.concatenate([centre - half, centre + half], axis=1) * np.tile(sizes_wh[plain], 2)
    areas[plain] = np.prod(np.clip(boxes[plain, 2:] - boxes[plain, :2], 0, None), axis=1)
    for row in np.flatnonzero(lengths > 5).tolist():
        start, stop = offsets[rows[row]] + 1, offsets[rows[row] + 1]
        points = values[start:stop].reshape(-1, 2)
        far[row] = bool((np.abs(points) > _FAR).any())
        points = points * sizes_wh[row]
        boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
        x, y = points[:, 0], points[:, 1]
        areas[row] = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
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
