"""Do these predictions belong to this data set, and which prediction to which image? Asked before anything is measured.

Ids alone say nothing across files: two data sets number their images from 0, and so does every run over a folder.
So predictions that come from a file are matched by the names of their images, and by the digests of the files where
names leave a doubt.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.predictions import LEFT_OUT, Predictions
from sightline.core.runs import code_version
from sightline.data import ImageNames

__all__ = ["describe_inputs", "fit_predictions"]

_OF_BOXES = ("conf", "iou", "max_det", "suppression", "candidates_left_out")
_SETTINGS = ("model_digest", "backend", *_OF_BOXES, "foreground_conf", "tiles", "cleaning")
_MATCHED = "matched_label_digest"
"""In `meta`: the labels of the data set whose ids the predictions have been given."""


def fit_predictions(dataset: Dataset, predictions: Predictions) -> Predictions:
    """The predictions with the image ids of the data set; rows of images it does not have are left out and counted.

    DataError for predictions for other classes, for none of the images, and where it cannot be said for which:
    pictures of one name with another content, two images that fit one name.
    """
    _check_classes(dataset, predictions)
    if predictions.images is None:
        _refuse_strangers(dataset, predictions)
        return predictions
    labels = dataset.label_digest()
    if labels in (predictions.meta.get("label_digest"), predictions.meta.get(_MATCHED)) and _same(dataset, predictions):
        return predictions
    ids = _matched_ids(dataset, predictions)
    known = [(old, new) for old, new in zip(predictions.images["image_id"], ids, strict=True) if new is not None]
    schema = {"image_id": pl.Int64, "new": pl.Int64}
    renumbered = pl.DataFrame(known, schema=schema, orient="row")

    def moved(table: pl.DataFrame) -> pl.DataFrame:
        joined = table.join(renumbered, on="image_id", maintain_order="left")
        return joined.with_columns(image_id=pl.col("new")).drop("new")

    meta = {**predictions.meta, _MATCHED: labels}
    if len(known) < len(ids):
        meta[LEFT_OUT] = len(ids) - len(known)
    return replace(predictions, table=moved(predictions.table), images=moved(predictions.images), meta=meta)


def _same(dataset: Dataset, predictions: Predictions) -> bool:
    """Whether ids and names are the data set's already."""
    assert predictions.images is not None
    return predictions.images.join(dataset.images, on=["image_id", "path"], how="anti").is_empty()


def _check_classes(dataset: Dataset, predictions: Predictions) -> None:
    names = predictions.meta.get("class_names")
    if names is not None and tuple(names) != dataset.class_names:
        raise DataError(
            f"the predictions must have the {len(dataset.class_names)} classes of data set '{dataset.name}' "
            f"({_shorten(dataset.class_names)}), got {len(names)} ({_shorten(names)})",
            do="Evaluate on the data set the model was trained for, or map its classes first.",
        )
    table, count = predictions.table, len(dataset.class_names)
    wrong = table.filter((pl.col("class_id") < 0) | (pl.col("class_id") >= count))["class_id"]
    if len(wrong):
        raise DataError(f"predicted class ids must be in 0..{count - 1}, got {wrong[0]} in {len(wrong)} rows")


def _refuse_strangers(dataset: Dataset, predictions: Predictions) -> None:
    known = dataset.images.select("image_id")
    strangers = predictions.table.join(known, on="image_id", how="anti")["image_id"].unique().sort()
    if len(strangers):
        raise DataError(
            f"predictions must be for images of data set '{dataset.name}', got {len(strangers)} other images "
            f"(first image_id {strangers[0]})",
            do="Check that the predictions were made on this split.",
        )


def _matched_ids(dataset: Dataset, predictions: Predictions) -> list[int | None]:
    """The data set's image id of each predicted image, None for those it does not have."""
    assert predictions.images is not None
    rows = list(predictions.images.select("path", "sha256").iter_rows())
    names = ImageNames(dataset)
    found = [names.path_of(name, digest) for name, digest in rows]
    if rows and not any(found):
        found = _by_content(dataset, [digest for _, digest in rows])
    if rows and not any(found):
        raise DataError(
            f"predictions must be for images of data set '{dataset.name}' ({_shorten(list(names.id_of), 2)}), "
            f"got none of them, neither by name nor by content ({_shorten([name for name, _ in rows], 2)})",
            do="Check that the predictions were made on this split.",
        )
    taken: dict[str, str] = {}
    for (name, _), path in zip(rows, found, strict=True):
        if path is not None and taken.setdefault(path, name) != name:
            message = f"each image must be predicted once, got '{taken[path]}' and '{name}' for '{path}'"
            raise DataError(message, do="Keep the folders in the names of the images.")
    _check_content(dataset, found, [digest for _, digest in rows])
    return [None if path is None else names.id_of[path] for path in found]


def _by_content(dataset: Dataset, digests: list[str | None]) -> list[str | None]:
    """For each digest the path of that content: pictures that were renamed on the way. Frames of videos have none."""
    if not any(digests):
        return [None] * len(digests)
    paths: dict[str, list[str]] = defaultdict(list)
    for path, digest in dataset.file_digests(dataset.images["path"].to_list()).items():
        paths[digest].append(path)
    return [paths[d][0] if d is not None and len(paths.get(d, ())) == 1 else None for d in digests]


def _check_content(dataset: Dataset, found: list[str | None], digests: list[str | None]) -> None:
    """DataError where a picture is not the one that was looked at, though it has its name."""
    wanted = {path: digest for path, digest in zip(found, digests, strict=True) if path is not None and digest}
    others = [path for path, digest in dataset.file_digests(wanted).items() if digest != wanted[path]]
    if others:
        raise DataError(
            f"predictions must be for the pictures of data set '{dataset.name}', got other pictures of the same name "
            f"({len(others)} of {len(wanted)}, first '{others[0]}')",
            do="Predict this data set's own pictures.",
        )


def describe_inputs(dataset: Dataset, predictions: Predictions) -> dict[str, Any]:
    """What was compared with what: data set, splits, counts, digests of the labels and of the predictions."""
    of_maps = predictions.meta.get("task") == "semantic"  # a model of maps has an unused rest of the settings of boxes
    settings = [key for key in _SETTINGS if not (of_maps and key in _OF_BOXES)]
    return {
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "images_with_predictions": predictions.table["image_id"].n_unique(),
        "label_digest": dataset.label_digest(),
        "predictions": len(predictions),
        "prediction_digest": predictions.digest(),
        **predictions.left_out(),
        "predicted_with": {key: predictions.meta[key] for key in settings if key in predictions.meta},
        "code": code_version(),
    }


def _shorten(names: tuple[str, ...] | list[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
