"""Detection in tiles: large images with small objects, which the network would see too small in one piece."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pydantic
import supervision as sv
from supervision.config import ORIENTED_BOX_COORDINATES

from sightline.core.config import Config
from sightline.core.errors import ConfigError
from sightline.core.metadata import TYPICAL_OBJECT
from sightline.infer.around import AroundPredictor
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.predictor import LEFT_OUT, Given, Image, given_images
from sightline.ops.oriented import box_corners
from sightline.ops.tiles import keep_at_seams, tile_boxes, touches_inner_edge

__all__ = ["TiledPredictor", "Tiling"]

OBJECT_PX_WANTED = 32
"""Pixels a typical object should have in the network: below, COCO calls it small, and finding it is far harder."""


class Tiling(Config):
    """How images are cut; `tile_hw` None is the size in which objects as learnt have `OBJECT_PX_WANTED` pixels."""

    tile_hw: tuple[int, int] | None = None
    overlap: float = pydantic.Field(default=0.2, ge=0, le=0.9)
    """Least share of a tile that its neighbour sees too; objects up to this size are whole in one of them."""
    whole: bool = True
    """Look at the whole image too, for objects larger than a tile."""
    seam: float = pydantic.Field(default=0.5, gt=0, le=1)
    """Share of the smaller of two boxes of different tiles from which on they are one object."""

    @pydantic.model_validator(mode="after")
    def _sane(self) -> Self:
        if self.tile_hw is not None and min(self.tile_hw) < 32:
            raise ValueError(f"tile must have at least 32 pixels a side, got {self.tile_hw[0]} x {self.tile_hw[1]}")
        return self


class TiledPredictor(AroundPredictor[NetworkPredictor]):
    """A predictor of detections that hands another one the tiles of each image, and merges what it finds in them.

    ConfigError for a model of label maps, and where the size is to be chosen and the model does not say what it learnt.
    """

    def __init__(self, inner: NetworkPredictor, tiling: Tiling, *, batch: int = 8) -> None:
        if inner.task == "semantic":
            raise ConfigError(f"tiles must be given to a model of boxes, got the task {inner.task}", where=inner.where)
        super().__init__(inner)
        self.tiling, self.batch = tiling, batch
        self.tile_hw = tiling.tile_hw or _chosen_tile(inner)
        self._unneeded = 0

    @property
    def meta(self) -> dict[str, Any]:
        """As the model's, and how the images were cut."""
        return {**self.inner.meta, "tiles": self.tiling.model_dump() | {"tile_hw": list(self.tile_hw)}}

    @property
    def notes(self) -> list[str]:
        """That images were no larger than a tile, and so looked at whole."""
        height, width = self.tile_hw
        said = f"{self._unneeded} images are no larger than a tile of {height} x {width}, and were looked at whole"
        return [said] if self._unneeded else []

    def __call__(self, images: Given | Sequence[Given]) -> list[sv.Detections]:
        """Detections in image pixels, one for each image, in order."""
        return [self._one(image) for image in given_images(images)]

    def _one(self, image: Image) -> sv.Detections:
        size_hw = (image.shape[0], image.shape[1])
        tiles = tile_boxes(size_hw, self.tile_hw, self.tiling.overlap)
        if len(tiles) == 1:
            self._unneeded += 1
            found: sv.Detections = self.inner([image])[0]
            return found
        if self.tiling.whole:
            tiles = np.concatenate([tiles, [[0, 0, size_hw[1], size_hw[0]]]])
        parts: list[sv.Detections] = []
        for start in range(0, len(tiles), self.batch):
            crops = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in tiles[start : start + self.batch].tolist()]
            parts += self.inner([np.ascontiguousarray(crop) for crop in crops])
        return self._merged(parts, tiles, size_hw)

    def _merged(self, parts: list[sv.Detections], tiles: Any, size_hw: tuple[int, int]) -> sv.Detections:
        numbers, cut = [], []
        for number, (found, tile) in enumerate(zip(parts, tiles, strict=True)):
            found.xyxy = found.xyxy + np.array([tile[0], tile[1], tile[0], tile[1]], np.float64)
            if "keypoints" in found.data:
                found.data["keypoints"] = found.data["keypoints"] + np.array([tile[0], tile[1], 0.0])
            if "oriented" in found.data:
                found.data["oriented"] = found.data["oriented"] + np.array([tile[0], tile[1], 0.0, 0.0, 0.0])
                found.data[ORIENTED_BOX_COORDINATES] = box_corners(found.data["oriented"])
            if isinstance(found.mask, sv.CompactMask):
                found.mask = found.mask.with_offset(int(tile[0]), int(tile[1]), size_hw)
            numbers += [number] * len(found)
            cut.append(touches_inner_edge(np.asarray(found.xyxy, np.float64), tile, size_hw))
        left_out = sum(found.metadata.pop(LEFT_OUT, 0) for found in parts)
        together = sv.Detections.merge([found for found in parts if len(found)]) if numbers else parts[0]
        if numbers:
            corners = together.data.get(ORIENTED_BOX_COORDINATES)
            kept = keep_at_seams(
                together.xyxy if corners is None else corners,
                np.asarray(together.confidence),
                np.asarray(together.class_id),
                tiles=numbers,
                cut=np.concatenate(cut),
                threshold=self.tiling.seam,
            )
            together = together.select(kept[: self.inner.thresholds.max_det])
        if left_out:
            together.metadata[LEFT_OUT] = left_out
        return together


def _chosen_tile(inner: NetworkPredictor) -> tuple[int, int]:
    """The tile in which an object of the size that was learnt has the wanted pixels, no smaller than the network."""
    typical = inner.metadata.training.get(TYPICAL_OBJECT)
    if not isinstance(typical, (int, float)) or not typical > 0:
        raise ConfigError(
            "the size of the objects that were learnt must be known to choose a tile, got a model that does not say it",
            where=inner.where,
            do="give --tile with a size in pixels",
        )
    height, width = inner.preprocess.size_hw
    growth = max(1.0, typical / OBJECT_PX_WANTED)
    return round(height * growth), round(width * growth)
