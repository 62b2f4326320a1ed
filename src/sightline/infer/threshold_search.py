"""Which thresholds serve a detector best: every combination of a grid, measured on labelled images.

The network sees each image once; suppression and evaluation are then repeated for each point of the grid.
"""

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import polars as pl
import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, DataError
from sightline.core.operating_point import OperatingPoint, Suppression
from sightline.core.predictions import PREDICTIONS_SCHEMA, Predictions, predictions_from_rows
from sightline.core.preprocess import Geometry
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.evaluate import SIZES, DetectionResult, best_conf_by_size, evaluate_detection
from sightline.infer.dataset import check_classes
from sightline.infer.network_predictor import NetworkPredictor, least_score, masks_of
from sightline.infer.predictor import Outputs
from sightline.media import read_image
from sightline.ops.instance_masks import crop_counts
from sightline.ops.postprocess import KeptDetections, detection_rows, select_detections

__all__ = ["Criterion", "ThresholdGrid", "ThresholdsResult", "search_thresholds"]

Criterion = Literal["F1", "AP", "AP50"]
"""Of detectors; of label maps of two classes it is Dice."""


class ThresholdGrid(Config):
    """The values that are combined. Each `suppression` is tried with each `iou`, `conf` and `max_det`, but
    `soft-gaussian`, which knows no IoU, with each `sigma` in its place, and `none` with neither.
    """

    conf: tuple[float, ...] = (0.001, 0.01, 0.05, 0.1, 0.25)
    iou: tuple[float, ...] = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    max_det: tuple[int, ...] = (300, 3000)
    suppression: tuple[Suppression, ...] = ("nms",)
    sigma: tuple[float, ...] = (0.5,)

    @pydantic.model_validator(mode="after")
    def _valid(self) -> Self:
        for name in type(self).model_fields:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must have at least one value and none twice, got {list(values)}")
        for conf, iou, most, sigma in product(self.conf, self.iou, self.max_det, self.sigma):
            OperatingPoint(conf=conf, iou=iou, max_det=most, sigma=sigma)
        if "sigma" in self.model_fields_set and "soft-gaussian" not in self.suppression:
            raise ValueError("sigma must be given with soft-gaussian among the suppressions")
        return self

    def ways(self) -> list["Way"]:
        """Every suppression with what it knows."""
        made = []
        for suppression in self.suppression:
            ious = self.iou if suppression not in ("soft-gaussian", "none") else self.iou[:1]
            sigmas = self.sigma if suppression == "soft-gaussian" else self.sigma[:1]
            made += [Way(suppression, iou, sigma) for iou, sigma in product(ious, sigmas)]
        return made


class Way(NamedTuple):
    """How one object is kept once."""

    suppression: Suppression
    iou: float
    sigma: float


@dataclass(frozen=True)
class ThresholdsResult(Result):
    """Every point of the grid with its numbers, and the best one.

    `table` has suppression, iou, sigma, max_det, conf, AP, AP50 (of the detections that are left, up to `max_det` of an
    image) and precision, recall and F1: of masks for a model that gives them, else of boxes; of label maps of two
    classes conf, Dice, IoU, precision, recall and specificity. `best` is the point with the best `criterion`; by F1 and
    Dice its `conf` is the best of all scores, not of the table's alone, and `value` is what that gives.
    """

    table: pl.DataFrame
    criterion: Criterion | Literal["Dice"]
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

    Of a model with masks the masks are judged. ConfigError for label maps and for other classes, DataError for
    unreadable images and for data without objects. What is chosen on these images must be judged on others.
    """
    grid = grid or ThresholdGrid()
    if predictor.task not in ("detect", "instance"):
        raise ConfigError(f"thresholds must be sought for a model of boxes or objects, got the task {predictor.task}")
    if criterion not in get_args(Criterion):
        raise ConfigError(f"criterion must be one of {', '.join(get_args(Criterion))}, got '{criterion}'")
    if least_score(predictor.metadata) > 0:
        message = "thresholds must be sought for a network whose candidates are all given, got one that suppresses them"
        raise ConfigError(message, where=predictor.where, do="search with the weights, then export --nms again")
    check_classes(predictor, dataset)
    if dataset.usable_objects.is_empty():
        raise DataError("thresholds must be sought on images with objects, got none", where=str(dataset.root))
    found = _found(predictor, dataset, grid, progress)
    rows: list[dict[str, Any]] = []
    points = list(product(found, grid.max_det, grid.conf))
    for way, most, conf in points:
        point = OperatingPoint(conf=conf, max_det=most, **way._asdict())
        result = _measured(found[way], point, dataset, conf)
        rows.append(_row(point, result))
        if progress is not None:
            progress(len(rows), len(points), "measuring points")
    table = pl.DataFrame(rows)
    best = OperatingPoint.load(_best_row(table, criterion))
    value = float(table[criterion].fill_nan(None).max() or 0.0)  # type: ignore[arg-type]
    kept = found[Way(best.suppression, best.iou, best.sigma)]
    if criterion == "F1" and value > 0:  # where nothing is right, no confidence is better than another
        chosen = _measured(kept, best.model_copy(update={"conf": min(grid.conf)}), dataset, "best").operating_point
        best, value = best.model_copy(update={"conf": chosen.conf}), chosen.f1
    if by_size:
        best = _by_size(best, best_conf_by_size(dataset, _cut(kept, best, 0.0), _judged(kept)))
    conventions = {
        "model_file": Path(predictor.where).name,
        "data": dataset.name,
        "split": ", ".join(dataset.splits) or "all",
        "images": len(dataset),
        "iou_type": _judged(kept),
        "label_digest": dataset.label_digest(),
        "grid": grid.model_dump(mode="json"),
        "chosen": f"best {criterion} on these images, so that these numbers flatter: judge it on others",
    }
    return ThresholdsResult(table, criterion, best, value, conventions)


def _found(
    predictor: NetworkPredictor, dataset: Dataset, grid: ThresholdGrid, progress: Progress | None
) -> dict[Way, Predictions]:
    """What each suppression leaves of every image's detections, at the grid's least score and most boxes."""
    paths = [dataset.image_path(path) for path in dataset.images["path"]]
    image_ids = dataset.images["image_id"].to_list()
    tables: dict[Way, list[pl.DataFrame]] = {way: [pl.DataFrame(schema=PREDICTIONS_SCHEMA)] for way in grid.ways()}
    least, most = min(grid.conf), max(grid.max_det)
    for done, (image_id, path) in enumerate(zip(image_ids, paths, strict=True), start=1):
        prepared = predictor.prepare([read_image(path)])
        raw = {name: array[0] for name, array in predictor.run(prepared.pixels).items()}
        (geometry,) = prepared.geometries
        masks: dict[int, bytes] = {}  # of an anchor: the same whatever suppressed the others
        for way, parts in tables.items():
            point = OperatingPoint(conf=least, max_det=most, **way._asdict())
            kept = select_detections(raw["boxes_xyxy"], raw["scores"], point, geometry)
            codes = _codes(kept, raw, geometry, masks) if predictor.task == "instance" else None
            parts.append(detection_rows(image_id, kept, codes))
        if progress is not None:
            progress(done, len(paths), "predicting")
    meta = {**predictor.meta, "class_names": list(predictor.class_names)}
    return {way: predictions_from_rows(pl.concat(parts), meta) for way, parts in tables.items()}


def _codes(kept: KeptDetections, raw: Outputs, geometry: Geometry, known: dict[int, bytes]) -> list[bytes]:
    """The run-length code of each detection's mask; those made for the first time join the `known` ones, by anchor."""
    _, rows = np.unique(kept.anchors, return_index=True)
    rows = rows[[anchor not in known for anchor in kept.anchors[rows].tolist()]]
    new = replace(kept, boxes_xyxy=kept.boxes_xyxy[rows], anchors=kept.anchors[rows])
    crops = masks_of(new, raw, geometry)
    known |= {a: crop_counts(c, geometry.source_hw) for a, c in zip(new.anchors.tolist(), crops, strict=True)}
    return [known[anchor] for anchor in kept.anchors.tolist()]


def _judged(found: Predictions) -> Literal["bbox", "segm"]:
    return "segm" if found.meta["task"] == "instance" else "bbox"


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
    cut, judged = _cut(predictions, point, point.conf), _judged(predictions)
    return evaluate_detection(dataset, cut, iou_type=judged, conf=conf, max_dets=(1, 10, most))


def _row(point: OperatingPoint, result: DetectionResult) -> dict[str, Any]:
    own = result.operating_point
    numbers = {"AP": result["AP"], "AP50": result["AP50"]}
    numbers |= {"precision": own.precision, "recall": own.recall, "F1": own.f1}
    return {key: getattr(point, key) for key in ("suppression", "iou", "sigma", "max_det", "conf")} | numbers


def _best_row(table: pl.DataFrame, criterion: Criterion) -> dict[str, Any]:
    """The point with the best number; of equals the one with the highest confidence and fewest boxes."""
    order = table.with_columns(pl.col(criterion).fill_nan(-1.0)).sort(
        [criterion, "conf", "max_det"], descending=[True, True, False], maintain_order=True
    )
    return order.select("suppression", "iou", "sigma", "max_det", "conf").row(0, named=True)


def _by_size(point: OperatingPoint, chosen: dict[str, float | None]) -> OperatingPoint:
    """The point with a least score for each size; sizes of which nothing is right keep the common one."""
    by_size = tuple(point.conf if chosen[size] is None else chosen[size] for size in SIZES)
    return OperatingPoint.load(
        point.model_dump() | {"conf": min(conf for conf in by_size if conf is not None), "conf_by_size": by_size}
    )
