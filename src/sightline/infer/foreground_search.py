"""Which least probability of the foreground serves a segmenter of two classes best."""

from pathlib import Path

import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.operating_point import OperatingPoint
from sightline.core.process import Progress
from sightline.evaluate import ForegroundCounts
from sightline.infer.dataset import predict_dataset
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.threshold_search import ThresholdsResult

__all__ = ["search_foreground"]


def search_foreground(
    predictor: NetworkPredictor, dataset: Dataset, *, progress: Progress | None = None
) -> ThresholdsResult:
    """The threshold with the best Dice of all pixels, of the multiples of 1/4096; the table has those of 1/128.

    The network sees each image once. ConfigError for other models, DataError where nothing is right at any threshold.
    What is chosen on these images must be judged on others.
    """
    counts = ForegroundCounts()
    runs = predictor.with_foreground()
    found = predict_dataset(runs, dataset, progress=progress, observe=counts.observer(dataset))
    best = counts.best()
    if best is None:
        message = "a threshold must be sought where some foreground is right at one, got none in these images"
        raise DataError(message, where=str(dataset.root))
    curves = counts.curves()
    names = {"Dice": "dice", "IoU": "iou", "precision": "precision", "recall": "recall", "specificity": "specificity"}
    columns = {"conf": curves.threshold} | {name: getattr(curves, key) for name, key in names.items()}
    conventions = {
        "model_file": Path(predictor.where).name,
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": found.meta["label_digest"],
        "average_precision": curves.average_precision,
        "roc_auc": curves.roc_auc,
        "chosen": "best Dice on these images, so that these numbers flatter: judge it on others",
    }
    return ThresholdsResult(pl.DataFrame(columns), "Dice", OperatingPoint(conf=best[0]), best[1], conventions)
