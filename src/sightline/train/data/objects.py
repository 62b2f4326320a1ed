"""The labelled objects of a data set at network size, row by row, as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.preprocess import Geometry
from sightline.ops.rle import counts_to_runs, from_polygons
from sightline.train.augment.sample import Layers, Sample

__all__ = ["ObjectLabels"]

_MOST_OBJECTS = 10_000
"""Of an image with masks: mosaic, pasting and mixup put at most six together, whose objects 16 bits must number."""


class ObjectLabels:
    """Usable objects in the order of rows and object ids; `of(row)` gives those of an image."""

    def __init__(self, dataset: Dataset, geometries: Sequence[Geometry]) -> None:
        rows = dataset.images.select("image_id").with_row_index("row")
        self.table = dataset.usable_objects.join(rows, on="image_id").sort("row", "object_id")
        self.geometries = geometries
        self._paths: list[str] = dataset.images["path"].to_list()
        edges = np.arange(len(geometries) + 1)
        self._starts = np.searchsorted(self.table["row"].to_numpy(), edges, side="left")
        corners = self.table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
        self._labels = self.table["class_id"].to_numpy().astype(np.int64)
        parts = [g.boxes_to_network(corners[self._span(row)]) for row, g in enumerate(geometries)]
        self.boxes = np.concatenate([np.zeros((0, 4)), *parts]).astype(np.float32)
        self._keypoints = _keypoints(self.table)
        self.keypoint_count = 0 if self._keypoints is None else self._keypoints.shape[1]
        tracks = self.table["track_id"]
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
        if self._tracks is not None:
            sample["tracks"] = self._tracks[span]
        return sample

    def masks(self, row: int) -> Layers:
        """Masks of an image's objects, drawn at its own size; one without an outline is its filled box."""
        geometry = self.geometries[row]
        part = self.table[self._span(row)].select("rle", "polygon", "x1", "y1", "x2", "y2")
        if len(part) > _MOST_OBJECTS:
            raise DataError(
                f"an image must have at most {_MOST_OBJECTS} objects where augmentation uses masks, got {len(part)}",
                where=self._paths[row],
                do="set augment.copy_paste, augment.rotate and augment.shear to 0, or tile the images",
            )
        pixels = (_pixels(*values, geometry.source_hw) for values in part.iter_rows())
        outlined = (part["rle"].is_not_null() | (part["polygon"].list.len().fill_null(0) > 0)).to_list()
        layers = Layers.draw(pixels, geometry.source_hw, outlined)
        return layers.changed(lambda labels: geometry.mask_to_network(labels, 0))

    def _span(self, row: int) -> slice:
        return slice(int(self._starts[row]), int(self._starts[row + 1]))


def _pixels(counts: bytes | None, rings: list[list[float]] | None, *place: Any) -> NDArray[np.int64]:
    """The pixels of an object, counted column by column: of its mask, else of its polygon, else of its box."""
    x1, y1, x2, y2, (height, width) = place
    drawn = from_polygons(rings, (height, width)) if counts is None and rings else counts
    if drawn is None:
        left, right = round(max(0, x1)), round(min(width, x2))
        top, bottom = round(max(0, y1)), round(min(height, y2))
        box: NDArray[np.int64] = (np.arange(left, right)[:, None] * height + np.arange(top, bottom)).ravel()
        return box
    runs = counts_to_runs(drawn, (height, width))
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
