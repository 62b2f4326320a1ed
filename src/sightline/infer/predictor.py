"""What a predictor must do; `sightline.testing.check_predictor` tests it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import supervision as sv

from sightline.core.dataset import Task
from sightline.core.frames import SemanticMap
from sightline.core.preprocess import Geometry, Preprocess

__all__ = ["Batch", "Image", "Outputs", "Prediction", "Predictor", "StagedPredictor"]

Image: TypeAlias = npt.NDArray[Any]
"""RGB (H, W, 3) or gray (H, W), uint8 or uint16, upright, any size."""
Prediction: TypeAlias = sv.Detections | SemanticMap
"""Of one image, in its own pixels: detections by descending score with `data["class_name"]`, or a class per pixel."""
Outputs: TypeAlias = dict[str, npt.NDArray[Any]]
"""What a network returns for a batch: `boxes_xyxy` (B, A, 4) in network pixels and `scores` (B, A, C), or
`probabilities` (B, C, H, W)."""


@runtime_checkable
class Predictor(Protocol):
    """Maps images to predictions. Anything that passes `check_predictor` works everywhere in Sightline."""

    @property
    def task(self) -> Task:
        """`detect` gives `sv.Detections`, `semantic` gives `SemanticMap`."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        ...

    @property
    def preprocess(self) -> Preprocess | None:
        """How images become network input; None where the predictor keeps that to itself."""
        ...

    def __call__(self, images: Sequence[Image]) -> list[sv.Detections] | list[SemanticMap]:
        """One prediction for each image, in order; an image's prediction does not depend on its neighbours."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Network input (B, C, H, W) float32 and the way back to each image."""

    pixels: npt.NDArray[np.float32]
    geometries: tuple[Geometry, ...]


@runtime_checkable
class StagedPredictor(Predictor, Protocol):
    """A predictor whose three stages can be called, and so timed and compared, one by one."""

    @property
    def meta(self) -> dict[str, Any]:
        """What made its predictions: task, class_names, preprocess, conf, iou, max_det, model_digest, backend."""
        ...

    def prepare(self, images: Sequence[Image]) -> Batch:
        """Preprocessing; the images must come out at one size."""
        ...

    def run(self, pixels: npt.NDArray[np.float32]) -> Outputs:
        """The network alone."""
        ...

    def finish(self, outputs: Outputs, geometries: Sequence[Geometry]) -> list[Prediction]:
        """Postprocessing, back into the pixels of each image."""
        ...
