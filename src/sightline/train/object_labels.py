"""The labelled objects of a data set at network size, row by row, as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.preprocess import Geometry
from sightline.ops.rle import decode, from_polygons
from sightline.train.augment.sample import Sample

__all__ = ["ObjectLabels"]


class ObjectLabels:
    """Usable objects in the order of rows and object ids; `of(row)` gives those of an image."""

    def __init__(self, dataset: Dataset, geometries: Sequence[Geometry]) -> None:
        rows = dataset.images.select("image_id").with_row_index("row")
        self.table = dataset.usable_objects.join(rows, on="image_id").sort("row", "object_id")
        self.geometries = geometries
        edges = np.arange(len(geometries) + 1)
        self._starts = np.searchsorted(self.table["row"].to_numpy(), edges, side="left")
        corners = self.table.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64)
        self._labels = self.table["class_id"].to_numpy().astype(np.int64)
        parts = [g.boxes_to_network(corners[self._span(row)]) for row, g in enumerate(geometries)]
        self.boxes = np.concatenate([np.zeros((0, 4)), *parts]).astype(np.float32)
        self._keypoints = _keypoints(self.table)
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

    def masks(self, row: int) -> NDArray[np.uint8]:
        """Masks (N, H, W) of 0 and 1 of an image's objects; one without an outline is its filled box."""
        geometry = self.geometries[row]
        span = self._span(row)
        layers = np.zeros((span.stop - span.start, *geometry.target_hw), np.uint8)
        part = self.table[span.start : span.stop].select("rle", "polygon", "x1", "y1", "x2", "y2")
        for layer, (rle, rings, *corners) in zip(layers, part.iter_rows(), strict=True):
            drawn = from_polygons(rings, geometry.source_hw) if rle is None and rings else rle
            if drawn is not None:
                layer[:] = geometry.mask_to_network(decode(drawn, geometry.source_hw).astype(np.uint8), 0)
                continue
            x1, y1, x2, y2 = np.rint(geometry.boxes_to_network(np.array([corners]))[0]).astype(int).clip(0)
            layer[y1:y2, x1:x2] = 1
        return layers

    def _span(self, row: int) -> slice:
        return slice(int(self._starts[row]), int(self._starts[row + 1]))


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
