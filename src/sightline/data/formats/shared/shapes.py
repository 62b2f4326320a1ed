"""Objects out of drawn shapes (boxes, outlines, pixel masks; several may be parts of one), and masks of single objects.

A mask is that of a row of the objects table, of a map of ids, of a crop, or pixels of an image.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import OBJECTS_SCHEMA
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data.codes import finding
from sightline.data.formats.shared.image_tables import class_table
from sightline.ops import rle

__all__ = [
    "Flags",
    "ObjectCollector",
    "Part",
    "Place",
    "ShapeError",
    "checked_ring",
    "crop_of_rle",
    "ellipse_ring",
    "foreground",
    "object_rle",
    "paint",
    "rle_of_crop",
    "split_ids",
    "turned_box_ring",
]

Ints: TypeAlias = npt.NDArray[np.int64]


def object_rle(row: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes | None:
    """Compressed run lengths of an object's `rle` or `polygon`; None where it has neither or they are unreadable."""
    try:
        if row["rle"] is not None:
            rle.counts_to_runs(row["rle"], size_hw)
            return bytes(row["rle"])
        rings = [ring for ring in row["polygon"] or () if len(ring) >= 6]
        return rle.from_polygons(rings, size_hw) if rings else None
    except DataError:
        return None


def foreground(counts: bytes, size_hw: tuple[int, int]) -> Ints:
    """The foreground's pixels (N,), counted down the columns."""
    runs = rle.counts_to_runs(counts, size_hw)
    ends = np.cumsum(runs)
    lengths = runs[1::2]
    starts = ends[0::2][: len(lengths)]
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + inside, dtype=np.int64)


def paint(layers: Iterable[tuple[int, Ints]], size_hw: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """A picture (H, W) of values and their places (counted down the columns) over 0, the later over the earlier; and
    how many painted pixels each layer has covered.
    """
    flat = np.zeros(size_hw[0] * size_hw[1], dtype=np.uint8)
    covered = []
    for value, places in layers:
        covered.append(int(np.count_nonzero(flat[places])))
        flat[places] = value
    return np.ascontiguousarray(flat.reshape(size_hw[::-1]).T), covered


def split_ids(ids: npt.NDArray[Any]) -> dict[int, bytes]:
    """The mask of each id of a map (H, W) as compressed run lengths, by rising id; one pass whatever their number."""
    flat = ids.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]).astype(np.int64)
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    found, first = np.unique(values[order], return_index=True)
    parts = np.split(order, first[1:])
    size_hw = (ids.shape[0], ids.shape[1])
    return {int(v): _counts(starts[p], ends[p], size_hw) for v, p in zip(found.tolist(), parts, strict=True)}


def _counts(starts: Ints, ends: Ints, size_hw: tuple[int, int]) -> bytes:
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [size_hw[0] * size_hw[1]]])
    runs = np.diff(edges)
    return rle.runs_to_counts(runs[:-1] if runs[-1] == 0 else runs, size_hw)


Mask: TypeAlias = npt.NDArray[np.bool_]


def rle_of_crop(crop: npt.NDArray[Any], left: int, top: int, size_hw: tuple[int, int]) -> bytes:
    """Compressed counts, at image size, of a mask crop (h, w) whose upper left pixel is at (`left`, `top`).

    DataError when the crop reaches outside the image.
    """
    height, width = size_hw
    bottom, right = top + crop.shape[0], left + crop.shape[1]
    if left < 0 or top < 0 or right > width or bottom > height:
        raise DataError(
            f"a mask must lie inside its image of {width} × {height} pixels, got {left}..{right} × {top}..{bottom}"
        )
    # Only the crop's columns are looked at: the ones beside them are background, which lengthens the outer runs.
    strip = np.zeros((height, crop.shape[1]), dtype=np.bool_)
    strip[top:bottom] = crop != 0
    runs = rle.counts_to_runs(rle.encode(strip), strip.shape).tolist() or [0]
    runs[0] += left * height
    rest = (width - right) * height
    if len(runs) % 2 == 1:
        runs[-1] += rest
    elif rest:
        runs.append(rest)
    return rle.runs_to_counts(np.array(runs, dtype=np.int64), size_hw)


def crop_of_rle(counts: bytes, size_hw: tuple[int, int]) -> tuple[Mask, int, int] | None:
    """The tight crop (h, w) of a mask with its left and top; None for a mask without a pixel."""
    x1, y1, x2, y2 = (int(v) for v in rle.to_box(counts, size_hw))
    if x2 <= x1 or y2 <= y1:
        return None
    return rle.decode(counts, size_hw)[y1:y2, x1:x2], x1, y1


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
        return objects, class_table(names)

    def _report_undeclared(self, names: list[str], used: Counter[str], kept: list[int], resolve: Resolve) -> None:
        for name in names:
            first = next(i for i in kept if self._labels[i] == name)
            path, line = resolve([self._places[first]])[0]
            message = f"'{name}' is not in the list of classes; its {used[name]} objects are kept"
            self.findings.append(finding("label-unknown-class", message, path=path, line=line, count=used[name]))


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
