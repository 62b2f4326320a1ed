"""Predictors and trackers over a whole data set: the predictions that evaluation reads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import supervision as sv

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.frames import SemanticMap
from sightline.core.predictions import CLASS_CONFIDENCE, PREDICTIONS_SCHEMA, Predictions, predictions_from_rows
from sightline.core.process import Progress
from sightline.infer.object_masks import mask_codes
from sightline.infer.predictor import LEFT_OUT, Image, Predictor, meta_of
from sightline.media import read_image
from sightline.ops.postprocess import number_lists, semantic_rows
from sightline.track import NO_TRACK, Tracker, sequence_frames, track_predictions

__all__ = ["check_classes", "predict_dataset", "result_rows", "track_dataset", "track_ids"]


def result_rows(image_id: int, prediction: sv.Detections | SemanticMap | None) -> pl.DataFrame:
    """Rows of `PREDICTIONS_SCHEMA`: one per detection, with its mask, keypoints or oriented box, or per class of a map.

    Missing scores become 1, missing class ids 0; `track_id` is null without a tracker.
    """
    if isinstance(prediction, SemanticMap):
        return semantic_rows(image_id, prediction.class_ids, prediction.confidence)
    if prediction is None or len(prediction) == 0:
        return pl.DataFrame(schema=PREDICTIONS_SCHEMA)
    count = len(prediction)
    boxes = np.asarray(prediction.xyxy, np.float64)
    scores = np.ones(count) if prediction.confidence is None else np.asarray(prediction.confidence, np.float64)
    classes = np.zeros(count, np.int32) if prediction.class_id is None else np.asarray(prediction.class_id, np.int32)
    tracks = track_ids(prediction)
    columns: dict[str, Any] = {"image_id": [image_id] * count, "class_id": classes}
    columns |= dict(zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True))
    columns |= {"score": scores, "track_id": tracks, "rle": mask_codes(prediction)}
    for name in ("keypoints", "oriented"):
        if name in prediction.data:
            columns[name] = number_lists(np.asarray(prediction.data[name]))
    return pl.DataFrame({c: columns.get(c, [None] * count) for c in PREDICTIONS_SCHEMA}, schema=PREDICTIONS_SCHEMA)


def track_ids(detections: sv.Detections) -> list[int | None]:
    """The track id of each detection, None for those of no confirmed track and where nothing was tracked."""
    if detections.tracker_id is None:
        return [None] * len(detections)
    return [None if i == NO_TRACK else i for i in np.asarray(detections.tracker_id).tolist()]


def predict_dataset(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch: int = 8,
    workers: int = 2,
    progress: Progress | None = None,
    observe: Callable[[int, Any], None] | None = None,
) -> Predictions:
    """Predictions for every image, in image pixels, `meta` saying what made them and the data's digest.

    `observe` is given the id and the prediction of each image beside it.

    Detections come at the predictor's own thresholds: open it with `conf=0.001` to measure average precision. Label
    maps become one row per class. DataError for an image that cannot be read, ConfigError when class names differ.
    """
    check_classes(predictor, dataset)
    look = observe or (lambda image_id, prediction: None)
    paths = [dataset.image_path(p) for p in dataset.images["path"]]
    image_ids = dataset.images["image_id"].to_list()
    tables, left_out, sure = [pl.DataFrame(schema=PREDICTIONS_SCHEMA)], 0, True
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
                look(image_id, prediction)
            sure = sure and all(isinstance(p, SemanticMap) and p.confidence is not None for p in predictions)
            left_out += sum(p.metadata.get(LEFT_OUT, 0) for p in predictions if isinstance(p, sv.Detections))
            if progress is not None:
                progress(min(following, len(paths)), len(paths), "predicting")
    meta = {**meta_of(predictor), "class_names": list(predictor.class_names), "images": len(paths), LEFT_OUT: left_out}
    meta |= {CLASS_CONFIDENCE: True} if sure else {}
    digests = dataset.file_digests({*dataset.images["path"], *dataset.images["mask_path"].drop_nulls()}, workers)
    meta |= {"data_digest": dataset.digest(known=digests), "label_digest": dataset.label_digest()}
    return predictions_from_rows(pl.concat(tables), meta).of(dataset, digests)


def check_classes(predictor: Predictor, dataset: Dataset) -> None:
    """ConfigError unless the predictor's task and class names, in the same order, are those of the data set."""
    maps = predictor.task == "semantic"
    if maps != (dataset.task == "semantic"):
        model, data = ("label maps", "boxes") if maps else ("boxes", "masks of classes")
        do = "make masks of its labels with 'sightline convert --to masks'" if maps else None
        if maps and not _has_outlines(dataset):
            do = "a segmenter is measured on masks; these labels have none"
        message = f"the model's task must be that of the data set, got a model of {model} for labels of {data}"
        raise ConfigError(message, where=str(dataset.root), do=do or "measure a segmenter on it, or name data of boxes")
    if predictor.class_names != dataset.class_names:
        raise ConfigError(
            f"the model's classes must be those of the data set ({_listed(dataset.class_names)}), "
            f"got {_listed(predictor.class_names)}",
            where=str(dataset.root),
            do="evaluate with the data the model was trained for",
        )


def _has_outlines(dataset: Dataset) -> bool:
    return any(dataset.objects[column].null_count() < dataset.objects.height for column in ("rle", "polygon"))


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return f"{len(names)}: {shown}{', ...' if len(names) > 8 else ''}"


def track_dataset(
    predictor: Predictor,
    create: Callable[[], Tracker],
    dataset: Dataset,
    *,
    batch: int = 8,
    workers: int = 2,
    progress: Progress | None = None,
) -> Predictions:
    """Predictions of confirmed tracks with `track_id`; every sequence (`group`) has a fresh tracker from `create`.

    Detections are taken at the predictor's own thresholds. DataError when the data set has no sequences.
    """
    sequence_frames(dataset)  # refuse before, not after, the network has run over everything
    predictions = predict_dataset(predictor, dataset, batch=batch, workers=workers, progress=progress)
    return track_predictions(predictions, dataset, create)
