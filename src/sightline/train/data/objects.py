"""The labelled objects of a data set at network size, row by row, as arrays.

Loader processes are forked, and a fork has none of the threads that polars waits for: what is asked for behind the
start is taken from NumPy's arrays alone.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.preprocess import Geometry
from sightline.ops.oriented import box_corners, oriented_boxes
from sightline.ops.rle import counts_to_runs, from_polygons
from sightline.train.augment.sample import Layers, Sample

__all__ = ["ObjectLabels"]

_MOST_OBJECTS = 10_000
"""Of an image with masks: mosaic, pasting and mixup put at most six together, whose objects 16 bits must number."""


class ObjectLabels:
    """Usable objects in the order of rows and object ids; `of(row)` gives those of an image.

    `masks(row)` gives their masks where the labels were made `with_masks`.
    """

    def __init__(
        self, dataset: Dataset, geometries: Sequence[Geometry], *, with_masks: bool = False, oriented: bool = False
    ) -> None:
        rows = dataset.images.select("image_id").with_row_index("row")
        table = dataset.usable_objects.join(rows, on="image_id").sort("row", "object_id")
        self.geometries = geometries
        self._paths: list[str] = dataset.images["path"].to_list()
        edges = np.arange(len(geometries) + 1)
        self._starts = np.searchsorted(table["row"].to_numpy(), edges, side="left")
        corners = table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
        self._outlines = _Outlines(table, corners) if with_masks else None
        self._labels = table["class_id"].to_numpy().astype(np.int64)
        parts = [g.boxes_to_network(corners[self._span(row)]) for row, g in enumerate(geometries)]
        self.boxes = np.concatenate([np.zeros((0, 4)), *parts]).astype(np.float32)
        turned = box_corners(oriented_boxes(table)) if oriented else np.zeros((len(table), 4, 2))
        moved = [g.points_to_network(turned[self._span(row)]) for row, g in enumerate(geometries)]
        self._corners = np.concatenate([np.zeros((0, 4, 2)), *moved]).astype(np.float32) if oriented else None
        self._keypoints = _keypoints(table)
        self.keypoint_count = 0 if self._keypoints is None else self._keypoints.shape[1]
        tracks = table["track_id"]
        self._tracks = None if tracks.null_count() == len(tracks) else tracks.fill_null(-1).to_numpy().astype(np.int64)

    def of(self, row: int) -> Sample:
        """The object part of a sample: views, not to be written into."""
        span = self._span(row)
        sample: Sample = {"boxes": self.boxes[span], "labels": self._labels[span]}
        sample["objects"] = np.arange(span.start, span.stop)
        if self._keypoints is not None:
            points = self._keypoints[span].copy()
            points[..., :2] = self.geometries[row].points_to_network(points[..., :2])
            points[points[..., 2] == 0] = 0.0
            sample["keypoints"] = points.astype(np.float32)
        if self._corners is not None:
            sample["corners"] = self._corners[span]
        if self._tracks is not None:
            sample["tracks"] = self._tracks[span]
        return sample

    def masks(self, row: int) -> Layers:
        """Masks of an image's objects, drawn at its own size; one without an outline is its filled box."""
        if self._outlines is None:
            raise ValueError("labels must be made with_masks before masks are asked for")
        geometry, span = self.geometries[row], self._span(row)
        count = span.stop - span.start
        if count > _MOST_OBJECTS:
            raise DataError(
                f"an image must have at most {_MOST_OBJECTS} objects where masks are used, got {count}",
                where=self._paths[row],
                do="tile the images, or train a detector with augment.copy_paste, augment.rotate, augment.shear at 0",
            )
        pixels = (self._outlines.pixels(index, geometry.source_hw) for index in range(span.start, span.stop))
        layers = Layers.draw(pixels, geometry.source_hw, self._outlines.outlined[span].tolist())
        return layers.changed(lambda labels: geometry.mask_to_network(labels, 0))

    def _span(self, row: int) -> slice:
        return slice(int(self._starts[row]), int(self._starts[row + 1]))


class _Outlines:
    """Run-length codes, polygons and boxes of N objects in few arrays."""

    def __init__(self, table: pl.DataFrame, corners: NDArray[np.float64]) -> None:
        self._corners = corners
        rings = table["polygon"].explode(empty_as_null=False, keep_nulls=False)
        self._codes = b"".join(table["rle"].drop_nulls())
        self._code_starts = _starts(table["rle"].bin.size())
        self._rings = rings.explode(empty_as_null=False, keep_nulls=False).to_numpy().astype(np.float64)
        self._point_starts = _starts(rings.list.len())
        self._ring_starts = _starts(table["polygon"].list.len())
        counts = np.diff(self._ring_starts) + np.diff(self._code_starts)
        self.outlined: NDArray[np.bool_] = counts > 0  # (N,), whether each has more than a box

    def pixels(self, index: int, size_hw: tuple[int, int]) -> NDArray[np.int64]:
        """The pixels of an object, counted column by column: of its mask, else of its polygon, else of its box."""
        code = self._codes[self._code_starts[index] : self._code_starts[index + 1]]
        first, last = self._ring_starts[index : index + 2].tolist()
        if code:
            return _of_runs(counts_to_runs(code, size_hw))
        if last > first:
            ends = self._point_starts[first : last + 1].tolist()
            rings = [self._rings[start:stop] for start, stop in itertools.pairwise(ends)]
            return _of_runs(counts_to_runs(from_polygons(rings, size_hw), size_hw))
        x1, y1, x2, y2 = self._corners[index].tolist()
        left, right = round(max(0, x1)), round(min(size_hw[1], x2))
        top, bottom = round(max(0, y1)), round(min(size_hw[0], y2))
        box: NDArray[np.int64] = (np.arange(left, right)[:, None] * size_hw[0] + np.arange(top, bottom)).ravel()
        return box


def _starts(lengths: pl.Series) -> NDArray[np.int64]:
    """Where each of N parts of these lengths begins among all, and where the last one ends (N + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths.fill_null(0).to_numpy())]).astype(np.int64)


def _of_runs(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    inside = runs[1::2]
    starts = (np.cumsum(runs) - runs)[1::2] - (np.cumsum(inside) - inside)
    pixels: NDArray[np.int64] = np.repeat(starts, inside) + np.arange(inside.sum())
    return pixels


def _keypoints(table: pl.DataFrame) -> NDArray[Any] | None:
    """(N, K, 3) in image pixels, zeros where an object has none; None where no object has any."""
    column = table["keypoints"]
    most = max(column.list.len().fill_null(0).to_list(), default=0)
    if not most:
        return None
    points = np.zeros((len(table), most // 3, 3))
    for i, values in enumerate(column):
        if values is not None:
            points[i, : len(values) // 3] = np.asarray(values).reshape(-1, 3)
    return points
