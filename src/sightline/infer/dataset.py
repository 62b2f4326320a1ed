"""A predictor over a whole data set: the predictions that evaluation reads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.predictions import PREDICTIONS_SCHEMA, Predictions, predictions_from_rows
from sightline.infer.predictor import Image, Predictor, StagedPredictor
from sightline.infer.rows import result_rows
from sightline.media import read_image

__all__ = ["Progress", "check_classes", "predict_dataset"]

Progress = Callable[[int, int | None], None]


def predict_dataset(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch: int = 8,
    workers: int = 2,
    progress: Progress | None = None,
) -> Predictions:
    """Predictions for every image, in image pixels, `meta` saying what made them and the data's digest.

    Detections come at the predictor's own thresholds: open it with `conf=0.001` to measure average precision. Label
    maps become one row per class. DataError for an image that cannot be read, ConfigError when class names differ.
    """
    check_classes(predictor, dataset)
    paths = [dataset.image_path(p) for p in dataset.images["path"]]
    image_ids = dataset.images["image_id"].to_list()
    tables = [pl.DataFrame(schema=PREDICTIONS_SCHEMA)]
    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(paths), batch)
        upcoming = [pool.submit(read_image, path) for path in paths[:batch]]
        for start in starts:
            images: list[Image] = [future.result() for future in upcoming]
            following = start + batch
            upcoming = [pool.submit(read_image, path) for path in paths[following : following + batch]]
            predictions: list[Any] = list(predictor(images))
            for image_id, prediction in zip(image_ids[start:following], predictions, strict=True):
                tables.append(result_rows(image_id, prediction))
            if progress is not None:
                progress(min(following, len(paths)), len(paths))
    meta = predictor.meta if isinstance(predictor, StagedPredictor) else {"task": predictor.task}
    meta = {**meta, "class_names": list(predictor.class_names), "images": len(paths)}
    return predictions_from_rows(pl.concat(tables), {**meta, "data_digest": dataset.digest(workers)})


def check_classes(predictor: Predictor, dataset: Dataset) -> None:
    """ConfigError unless the predictor's class names are those of the data set, in the same order."""
    if predictor.class_names != dataset.class_names:
        raise ConfigError(
            f"the model's classes must be those of the data set ({_listed(dataset.class_names)}), "
            f"got {_listed(predictor.class_names)}",
            where=str(dataset.root),
            do="evaluate with the data the model was trained for",
        )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return f"{len(names)}: {shown}{', ...' if len(names) > 8 else ''}"
