"""Detector and tracker over a data set of sequences."""

from collections.abc import Callable

from sightline.core.dataset import Dataset
from sightline.core.predictions import Predictions
from sightline.infer.dataset import Progress, predict_dataset
from sightline.infer.predictor import Predictor
from sightline.track import Tracker, sequence_frames, track_predictions

__all__ = ["track_dataset"]


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
