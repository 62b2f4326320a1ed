"""What a source delivers and what a segmentation model returns for one image."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORE_INDEX", "Frame", "SemanticMap"]

IGNORE_INDEX = 255
"""The class id of pixels that never count, in every map of class ids: so there are at most 255 classes, 0..254."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source: `image` is RGB uint8 (H, W, 3), upright; `time_s` counts from the source's start.

    `pts` and `time_base` are the container's own timestamp (seconds = pts * time_base), kept so that a video written
    from these frames has the very same timing; None where the source has no clock.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float | None
    source: str
    pts: int | None = None
    time_base: Fraction | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class SemanticMap:
    """A class for each pixel: `class_ids` is (H, W) integer at image resolution, indexing `class_names`."""

    class_ids: NDArray[np.integer]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.class_ids.ndim != 2 or not np.issubdtype(self.class_ids.dtype, np.integer):
            raise ValueError(
                f"class_ids must be an integer (H, W) array, got {self.class_ids.dtype} {self.class_ids.shape}"
            )
