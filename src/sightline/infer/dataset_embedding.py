"""The way to `embed_images` for who may have no torch: it is imported when first asked for."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset

__all__ = ["embed_dataset"]


def embed_dataset(
    dataset: Dataset, weights: str | Path, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.float32]:
    """(N, D) vectors of the rows of `dataset.images`, see `sightline.infer.embedding.embed_images`. Needs torch."""
    module: Any = importlib.import_module("sightline.infer.embedding")
    paths = [dataset.image_path(path) for path in dataset.images["path"]]
    return cast("npt.NDArray[np.float32]", module.embed_images(weights, paths, workers=workers, progress=progress))
