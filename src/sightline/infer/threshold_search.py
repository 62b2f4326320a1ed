"""Which thresholds serve a detector best: every combination of a grid, measured on labelled images.

The network sees each image once; suppression and evaluation are then repeated for each point of the grid.
"""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self, get_args

import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.operating_point import OperatingPoint, Suppression
from sightline.core.predictions import PREDICTIONS_SCHEMA, Predictions, predictions_from_rows
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.evaluate import SIZES, DetectionResult, best_conf_by_size, evaluate_detection
from sightline.infer.dataset import check_classes
from sightline.infer.network_predictor import NetworkPredictor
from sightline.media import read_image
from sightline.ops.postprocess import detection_rows, select_detections

__all__ = ["Criterion", "ThresholdGrid", "ThresholdsResult", "search_thresholds"]

Criterion = Literal["F1", "AP", "AP50"]


class ThresholdGrid(Config):
    """The values that are combined. Each `suppression` is tried with each `iou`, `conf` and `max_det`."""

    conf: tuple[float, ...] = (0.001, 0.01, 0.05, 0.1, 0.25)
    iou: tuple[float, ...] = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    max_det: tuple[int, ...] = (300, 3000)
    suppression: tuple[Suppression, ...] = ("nms",)

    @pydantic.model_validator(mode="after")
    def _valid(self) -> Self:
        for name in type(self).model_fields:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must have at least one value and none twice, got {list(values)}")
        for conf, iou, most in product(self.conf, self.iou, self.max_det):
            OperatingPoint(conf=conf, iou=iou, max_det=most)
        return self


@dataclass(frozen=True)
class ThresholdsResult(Result):
    """Every point of the grid with its numbers, and the best one.

    `table` has suppression, iou, max_det, conf, AP, AP50 (of the detections that are left, up to `max_det` of an image)
    and precision, recall and F1. `best` is the point with the best `criterion`; by F1 its `conf` is the best of all
    scores, not of the grid's alone, and `F1` is what that gives.
    """

    table: pl.DataFrame
    criterion: Criterion
    best: OperatingPoint
    value: float
    conventions: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pl.DataFrame:
        """The table, best points first."""
        return self.table.sort(self.criterion, descending=True, nulls_last=True, maintain_order=True)


def search_thresholds(
    predictor: NetworkPredictor,
    dataset: Dataset,
    grid: ThresholdGrid | None = None,
    *,
    criterion: Criterion = "F1",
    by_size: bool = False,
    progress: Progress | None = None,
) -> ThresholdsResult:
    """Measure a detector at every point of `grid`; `by_size` then chooses least scores by the size of the boxes too.

    ConfigError for another task or classes, DataError for unreadable images and for data without objects. What is
    chosen on these images must be judged on others.
    """
    grid = grid or ThresholdGrid()
    if predictor.task != "detect":
        raise ConfigError(f"thresholds must be sought for a model of boxes, got the task {predictor.task}")
    if criterion not in get_args(Criterion):
        raise ConfigError(f"criterion must be one of {', '.join(get_args(Criterion))}, got '{criterion}'")
    check_classes(predictor, dataset)
    if dataset.usable_objects.is_empty():
        raise DataError("thresholds must be sought on images with objects, got none", where=str(dataset.root))
    found = _found(predictor, dataset, grid, progress)
    rows: list[dict[str, Any]] = []
    points = list(product(found, grid.max_det, grid.conf))
    for (suppression, iou), most, conf in points:
        point = OperatingPoint(conf=conf, iou=iou, max_det=most, suppression=suppression)
        result = _measured(found[suppression, iou], point, dataset, conf)
        rows.append(_row(point, result))
        if progress is not None:
            progress(len(rows), len(points), "measuring points")
    table = pl.DataFrame(rows)
    best = OperatingPoint.load(_best_row(table, criterion))
    value = float(table[criterion].fill_nan(None).max() or 0.0)  # type: ignore[arg-type]
    kept = found[best.suppression, best.iou]
    if criterion == "F1":
        chosen = _measured(kept, best.model_copy(update={"conf": min(grid.conf)}), dataset, "best").operating_point
        best, value = best.model_copy(update={"conf": chosen.conf}), chosen.f1
    if by_size:
        best = _by_size(best, best_conf_by_size(dataset, _cut(kept, best, 0.0)))
    conventions = {
        "model_file": Path(predictor.where).name,
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "label_digest": dataset.label_digest(),
        "grid": grid.model_dump(mode="json"),
        "chosen": f"best {criterion} on these images, so that these numbers flatter: judge it on others",
    }
    return ThresholdsResult(table, criterion, best, value, conventions)


def _found(
    predictor: NetworkPredictor, dataset: Dataset, grid: ThresholdGrid, progress: Progress | None
) -> dict[tuple[Suppression, float], Predictions]:
    """What each suppression and IoU leaves of every image's detections, at the grid's least score and most boxes."""
    paths = [dataset.image_path(path) for path in dataset.images["path"]]
    image_ids = dataset.images["image_id"].to_list()
    # `none` knows no overlap: once is enough.
    ways = [(s, i) for s in grid.suppression for i in (grid.iou if s != "none" else grid.iou[:1])]
    tables: dict[tuple[Suppression, float], list[pl.DataFrame]] = {
        way: [pl.DataFrame(schema=PREDICTIONS_SCHEMA)] for way in ways
    }
    least, most = min(grid.conf), max(grid.max_det)
    for done, (image_id, path) in enumerate(zip(image_ids, paths, strict=True), start=1):
        prepared = predictor.prepare([read_image(path)])
        raw = predictor.run(prepared.pixels)
        for suppression, iou in ways:
            point = OperatingPoint(conf=least, iou=iou, max_det=most, suppression=suppression)
            kept = select_detections(raw["boxes_xyxy"][0], raw["scores"][0], point, prepared.geometries[0])
            tables[suppression, iou].append(detection_rows(image_id, kept))
        if progress is not None:
            progress(done, len(paths), "predicting")
    meta = {**predictor.meta, "class_names": list(predictor.class_names)}
    return {way: predictions_from_rows(pl.concat(parts), meta) for way, parts in tables.items()}


def _cut(predictions: Predictions, point: OperatingPoint, conf: float) -> Predictions:
    """The best `max_det` of each image with a score of at least `conf`; rows come by descending score."""
    table = predictions.table.filter(
        (pl.col("score") >= conf) & (pl.int_range(pl.len()).over("image_id") < point.max_det)
    )
    meta = predictions.meta | point.model_dump(mode="json") | {"operating_point": None}
    return Predictions(table, meta)


def _measured(
    predictions: Predictions, point: OperatingPoint, dataset: Dataset, conf: float | Literal["best"]
) -> DetectionResult:
    most = max(11, point.max_det)
    return evaluate_detection(dataset, _cut(predictions, point, point.conf), conf=conf, max_dets=(1, 10, most))


def _row(point: OperatingPoint, result: DetectionResult) -> dict[str, Any]:
    own = result.operating_point
    numbers = {"AP": result["AP"], "AP50": result["AP50"]}
    numbers |= {"precision": own.precision, "recall": own.recall, "F1": own.f1}
    return {key: getattr(point, key) for key in ("suppression", "iou", "max_det", "conf")} | numbers


def _best_row(table: pl.DataFrame, criterion: Criterion) -> dict[str, Any]:
    """The point with the best number; of equals the one with the highest confidence and fewest boxes."""
    order = table.with_columns(pl.col(criterion).fill_nan(-1.0)).sort(
        [criterion, "conf", "max_det"], descending=[True, True, False], maintain_order=True
    )
    return order.select("suppression", "iou", "max_det", "conf").row(0, named=True)


def _by_size(point: OperatingPoint, chosen: dict[str, float | None]) -> OperatingPoint:
    """The point with a least score for each size; sizes of which nothing is right keep the common one."""
    by_size = tuple(point.conf if chosen[size] is None else chosen[size] for size in SIZES)
    return OperatingPoint.load(
        point.model_dump() | {"conf": min(conf for conf in by_size if conf is not None), "conf_by_size": by_size}
    )
