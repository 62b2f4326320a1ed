"""A predictor of label maps whose maps are cleaned: the thresholds of that are part of what is evaluated and run."""

from collections.abc import Sequence
from typing import Any

from sightline.core.errors import ConfigError
from sightline.core.frames import SemanticMap
from sightline.infer.around import AroundPredictor
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.predictor import Given
from sightline.infer.tiled_maps import TiledSegmenter
from sightline.ops.map_cleaning import MapCleaning, clean_map

__all__ = ["CleanedSegmenter"]


class CleanedSegmenter(AroundPredictor[NetworkPredictor | TiledSegmenter]):
    """Hands images to another predictor and cleans its maps, see `MapCleaning`; ConfigError for a model of boxes."""

    def __init__(self, inner: NetworkPredictor | TiledSegmenter, cleaning: MapCleaning) -> None:
        if inner.task != "semantic":
            raise ConfigError(f"what is cleaned must be label maps, got a model of the task {inner.task}")
        super().__init__(inner)
        self.cleaning = cleaning

    @property
    def meta(self) -> dict[str, Any]:
        """As the model's, and how its maps are cleaned."""
        return {**self.inner.meta, "cleaning": self.cleaning.model_dump()}

    def __call__(self, images: Given | Sequence[Given]) -> list[SemanticMap]:
        """Cleaned label maps at image size, one for each image, in order."""
        return [SemanticMap(clean_map(m.class_ids, self.cleaning), m.class_names) for m in self.inner(images)]
