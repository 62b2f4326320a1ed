"""Prediction pictures: the same validation images every time, ground truth beside prediction."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sightline.core.dataset import Dataset
from sightline.core.files import atomic_path
from sightline.core.frames import SemanticMap
from sightline.core.predictions import Predictions
from sightline.data.contact_sheet import draw_caption, tile
from sightline.data.decode import as_rgb8, read_image
from sightline.data.draw import Drawer, detections_of_rows
from sightline.data.labels import MASK_IGNORE, read_class_mask
from sightline.ops.rle import decode

__all__ = ["draw_predictions"]

_SHOWN = 6


def draw_predictions(dataset: Dataset, predictions: Predictions, path: Path, conf: float) -> None:
    """Write a JPEG of up to six images spread over the split: labels left, predictions of at least `conf` right."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, _SHOWN).round().astype(int))
    pairs: list[NDArray[np.uint8]] = []
    for row in rows.tolist():
        image = dataset.images.row(row, named=True)
        pixels = as_rgb8(read_image(dataset.root / image["path"]))
        found = predictions.table.filter(pl.col("image_id") == image["image_id"])
        draw = _semantic_pair if dataset.task == "semantic" else _detection_pair
        truth, predicted = draw(dataset, image, pixels, found, conf)
        name = Path(image["path"]).name
        pairs += [draw_caption(truth, f"{name}: labels"), draw_caption(predicted, f"{name}: predicted")]
    with atomic_path(path) as temporary:
        PillowImage.fromarray(tile(pairs, columns=4, cell_hw=(300, 360))).save(temporary, quality=88)


def _detection_pair(
    dataset: Dataset, image: dict[str, object], pixels: NDArray[np.uint8], found: pl.DataFrame, conf: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    objects = dataset.objects.filter(pl.col("image_id") == image["image_id"]).drop("track_id")
    sure = found.filter(pl.col("score") >= conf).drop("track_id")
    drawer = Drawer((pixels.shape[0], pixels.shape[1]), dataset.class_names)
    return drawer.draw(pixels, detections_of_rows(objects)), drawer.draw(pixels, detections_of_rows(sure))


def _semantic_pair(
    dataset: Dataset, image: dict[str, object], pixels: NDArray[np.uint8], found: pl.DataFrame, conf: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    size_hw = (pixels.shape[0], pixels.shape[1])
    predicted = np.zeros(size_hw, np.uint8)
    for class_id, rle in found.select("class_id", "rle").iter_rows():
        predicted[decode(rle, size_hw)] = class_id
    truth = read_class_mask(dataset.root / str(image["mask_path"]), dataset)
    # Pixels that never count are shown as what was predicted there: the difference is then only what is judged.
    truth = np.where(truth == MASK_IGNORE, predicted, truth)
    drawer = Drawer(size_hw, dataset.class_names)
    both = (SemanticMap(ids, dataset.class_names) for ids in (truth, predicted))
    first, second = (drawer.draw(pixels, semantic=ids) for ids in both)
    return first, second
