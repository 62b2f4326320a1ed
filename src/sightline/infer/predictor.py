"""What a predictor must do; `sightline.testing.check_predictor` tests it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import supervision as sv
from PIL import Image as Pillow

from sightline.core.dataset import Task
from sightline.core.errors import DataError
from sightline.core.frames import SemanticMap
from sightline.core.preprocess import Geometry, Preprocess
from sightline.media import pillow_pixels, read_image

__all__ = [
    "LEFT_OUT",
    "Batch",
    "Given",
    "Image",
    "Outputs",
    "Prediction",
    "Predictor",
    "StagedPredictor",
    "given_images",
    "meta_of",
]

Image: TypeAlias = npt.NDArray[Any]
"""RGB (H, W, 3) or gray (H, W), uint8 or uint16, upright, any size."""
Given: TypeAlias = Image | Pillow.Image | str | PathLike[str]
"""What a caller may hand over for one image: an array, a Pillow picture, or the path of a file."""
Prediction: TypeAlias = sv.Detections | SemanticMap
"""Of one image, in its own pixels: detections by descending score with `data["class_name"]` and, of the task instance,
`mask`, of pose `data["keypoints"]` (N, K, 3) of x, y and how likely each can be located, and `metadata["skeleton"]`,
the pairs of them that are joined, of obb `data["oriented"]` (N, 5), see `sightline.ops.oriented`, and their corners
(N, 4, 2) as supervision has them, `data["xyxyxyxy"]`; or a class per pixel."""
LEFT_OUT = "candidates_left_out"
"""In the metadata of detections: how many candidates suppression never met, see `CANDIDATE_LIMIT`; only where any."""
Outputs: TypeAlias = dict[str, npt.NDArray[Any]]
"""What a network returns for a batch: `boxes_xyxy` (B, A, 4) in network pixels and `scores` (B, A, C), with masks
`coefficients` (B, A, M) and `prototypes` (B, M, h, w) too, or `box_masks` (B, A, h, w), with poses `keypoints`
(B, A, K, 3), with oriented boxes these (B, A, 5); or `probabilities`
(B, C, H, W)."""


@runtime_checkable
class Predictor(Protocol):
    """Maps images to predictions. Anything that passes `check_predictor` works everywhere in Sightline."""

    @property
    def task(self) -> Task:
        """`detect`, `instance` (with masks), `pose` (with keypoints) and `obb` (with oriented boxes) give
        `sv.Detections`, `semantic` gives `SemanticMap`.
        """
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        ...

    @property
    def preprocess(self) -> Preprocess | None:
        """How images become network input; None where the predictor keeps that to itself."""
        ...

    def __call__(self, images: Given | Sequence[Given]) -> list[sv.Detections] | list[SemanticMap]:
        """One prediction for each image, in order; an image's prediction does not depend on its neighbours.

        A single image is a list of one. See `given_images` for what an image may be.
        """
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


def meta_of(predictor: Predictor) -> dict[str, Any]:
    """What made the predictions, as far as the predictor says it."""
    meta: dict[str, Any] = getattr(predictor, "meta", {"task": predictor.task})
    return meta


def given_images(images: Given | Iterable[Given]) -> list[Image]:
    """One image, or any number of them, as a list of upright RGB (H, W, 3) or gray (H, W) uint8 or uint16 arrays.

    An image is an array (H, W), (H, W, 1), (H, W, 3), or (H, W, 4) whose alpha is left out as in files; a Pillow
    picture; or the path of a file. An array (N, H, W, C) is N images. DataError for arrays of other types (floats have
    no agreed range), other shapes (channels first) and without pixels.
    """
    if isinstance(images, (str, PathLike, Pillow.Image)):
        return [_one(images, "the image")]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [_one(images, "the image")]
    if not isinstance(images, Iterable):
        raise DataError(f"an image must be an array, a Pillow picture or a path, got {type(images).__name__}")
    return [_one(image, f"image {n}") for n, image in enumerate(images)]


def _one(image: Any, which: str) -> Image:
    if isinstance(image, (str, PathLike)):
        return read_image(Path(image))
    if isinstance(image, Pillow.Image):
        pixels: Image = pillow_pixels(image)
        return pixels
    if not isinstance(image, np.ndarray):
        raise DataError(f"{which} must be an array, a Pillow picture or a path, got {type(image).__name__}")
    if image.dtype not in (np.uint8, np.uint16):
        do = "Scale it to 0..255 and convert it with astype('uint8')"
        raise DataError(f"{which} must have pixels of type uint8 or uint16, got {image.dtype}", do=do)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        message = f"{which} must have pixels and the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {image.shape}"
        raise DataError(message, do="Move the channels last" if image.ndim == 3 and image.shape[0] in (1, 3, 4) else "")
    if image.ndim == 3:
        image = image[..., 0] if channels == 1 else image[..., :3]
    return np.ascontiguousarray(image)
