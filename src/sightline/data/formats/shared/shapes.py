"""Objects out of drawn shapes: boxes, outlines and pixel masks, several of which may be parts of one object."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import CLASSES_SCHEMA, OBJECTS_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.columns import ignore_flat_boxes
from sightline.ops import rle

__all__ = [
    "Flags",
    "ObjectCollector",
    "Part",
    "Place",
    "ShapeError",
    "checked_ring",
    "ellipse_ring",
    "has_masks",
    "turned_box_ring",
]

_CIRCLE_POINTS = 64  # a multiple of 4, so that the outline reaches the circle's four outermost points

Place: TypeAlias = tuple[str, int]
"""Label file and the number of an entry in it, or its line: whatever the reader can find again."""
Corners: TypeAlias = tuple[float, float, float, float]
Resolve: TypeAlias = Callable[[Sequence[Place]], list[tuple[str, int | None]]]

_COLUMNS = (
    *("class_id", "x1", "y1", "x2", "y2", "area", "crowd", "ignore", "occlusion", "truncation", "track_id"),
    *("rle", "polygon"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One drawn shape: a box, an outline `x0, y0, x1, y1, …`, or run lengths at image size."""

    box: Corners | None = None
    ring: list[float] | None = None
    counts: bytes | None = None


class ShapeError(Exception):
    """A shape that cannot be used as drawn: the finding's code and message, and what of it can be `kept`."""

    def __init__(self, code: str, message: str, kept: Part | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.kept = code, message, kept


@dataclass(frozen=True, slots=True)
class Flags:
    """What is said about an object besides its place."""

    crowd: bool = False
    ignore: bool = False
    occlusion: float | None = None
    truncation: float | None = None
    track_id: int | None = None


@dataclass
class ObjectCollector:
    """Collects the objects of all label files as columns."""

    findings: list[Finding] = field(default_factory=list)
    _images: list[str] = field(default_factory=list)
    _labels: list[str] = field(default_factory=list)
    _places: list[Place] = field(default_factory=list)
    _rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(
        self, image: str, label: str, parts: Sequence[Part], flags: Flags, size_hw: tuple[int, int], place: Place
    ) -> None:
        """Take in the object that at least one shape draws; outlines are joined, and become pixels beside a mask."""
        box, area, counts, rings = _joined(parts, size_hw)
        self._images.append(image)
        self._labels.append(label)
        self._places.append(place)
        shares = (flags.occlusion, flags.truncation, flags.track_id)
        self._rows.append((*box, area, flags.crowd, flags.ignore, *shares, counts, rings))

    def tables(
        self,
        image_ids: dict[str, int],
        declared: Sequence[str],
        resolve: Resolve,
        last: Sequence[str] = (),
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The objects and classes tables, of the images that have an id.

        Classes are the declared ones in their order, then those in use besides, sorted (reported where some are
        declared); names in `last` come at the end, if they are in use at all. `resolve` gives path and line of places.
        """
        kept = [i for i, image in enumerate(self._images) if image in image_ids]
        used = Counter(self._labels[i] for i in kept)
        undeclared = sorted(set(used) - set(declared) - set(last))
        names = [*declared, *undeclared, *(name for name in last if used[name])]
        if declared:
            self._report_undeclared(undeclared, used, kept, resolve)
        slots = {name: i for i, name in enumerate(names)}
        class_rows = {"class_id": range(len(names)), "name": names}
        classes = pl.DataFrame(class_rows, schema={c: CLASSES_SCHEMA[c] for c in class_rows})
        columns = list(zip(*((slots[self._labels[i]], *self._rows[i]) for i in kept), strict=True))
        objects = pl.DataFrame(
            [
                pl.Series(name, columns[k] if columns else [], dtype=OBJECTS_SCHEMA[name], strict=False)
                for k, name in enumerate(_COLUMNS)
            ]
        )
        objects = objects.with_columns(
            pl.Series("image_id", [image_ids[self._images[i]] for i in kept], dtype=pl.Int64),
            pl.Series("label_path", [self._places[i][0] for i in kept], dtype=pl.Categorical),
            pl.Series("entry", [self._places[i][1] for i in kept], dtype=pl.Int32),
        )
        return ignore_flat_boxes(objects), classes

    def _report_undeclared(self, names: list[str], used: Counter[str], kept: list[int], resolve: Resolve) -> None:
        for name in names:
            first = next(i for i in kept if self._labels[i] == name)
            path, line = resolve([self._places[first]])[0]
            message = f"'{name}' is not in the list of classes; its {used[name]} objects are kept"
            self.findings.append(finding("label-unknown-class", message, path=path, line=line, count=used[name]))


def has_masks(objects: pl.DataFrame) -> bool:
    """Whether any object of an objects table has a polygon or run lengths."""
    return any(objects[column].null_count() < objects.height for column in ("rle", "polygon"))


def checked_ring(ring: list[float]) -> list[float]:
    """The ring itself; ShapeError when it has fewer than three points or cannot be drawn."""
    try:
        rle.from_polygons([ring], (1, 1))
    except DataError as error:
        raise ShapeError("label-malformed", error.what) from None
    return ring


def ellipse_ring(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> list[float]:
    """The outline of an ellipse around (`x`, `y`), turned clockwise as seen on the picture."""
    angle = np.arange(_CIRCLE_POINTS) * (2 * np.pi / _CIRCLE_POINTS)
    # The four outermost points are exact, which cos(π/2) is not.
    unit = np.stack([np.round(np.cos(angle), 15), np.round(np.sin(angle), 15)], axis=1)
    return _turned(unit * [radius_x, radius_y], x, y, degrees)


def turned_box_ring(box: Corners, degrees: float) -> list[float]:
    """The four corners of a box turned clockwise around its centre."""
    x1, y1, x2, y2 = box
    half_w, half_h = (x2 - x1) / 2, (y2 - y1) / 2
    corners = np.array([[-half_w, -half_h], [half_w, -half_h], [half_w, half_h], [-half_w, half_h]])
    return _turned(corners, (x1 + x2) / 2, (y1 + y2) / 2, degrees)


def _turned(points: npt.NDArray[np.float64], x: float, y: float, degrees: float) -> list[float]:
    if degrees % 360:
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        points = points @ np.array([[cos, sin], [-sin, cos]])
    ring: list[float] = (points + np.array([x, y])).ravel().tolist()
    return ring


def _joined(
    parts: Sequence[Part], size_hw: tuple[int, int]
) -> tuple[Corners, float, bytes | None, list[list[float]] | None]:
    """Box, area, run lengths and rings of an object; a box stated beside a mask stays the object's box."""
    rings = [part.ring for part in parts if part.ring is not None]
    masks = [part.counts for part in parts if part.counts is not None]
    box = next((part.box for part in parts if part.box is not None), None)
    if not rings and not masks:
        if box is None:
            raise ValueError("an object must have a shape")
        return box, max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0), None, None
    if masks:
        pixels = [*masks, *([rle.from_polygons(rings, size_hw)] if rings else [])]
        counts = pixels[0] if len(pixels) == 1 else rle.merge(pixels, size_hw)
        x1, y1, x2, y2 = rle.to_box(counts, size_hw).tolist()
        return box or (x1, y1, x2, y2), float(rle.area(counts)), counts, None
    xs, ys = [v for ring in rings for v in ring[0::2]], [v for ring in rings for v in ring[1::2]]
    area = float(rle.area(rle.from_polygons(rings, size_hw)))
    return box or (min(xs), min(ys), max(xs), max(ys)), area, None, rings
