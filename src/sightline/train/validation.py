"""Measuring a model during training: predictions at image resolution, judged by the evaluator everything else uses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from sightline.core.dataset import Dataset
from sightline.core.frames import SemanticMap
from sightline.core.metadata import OperatingPoint
from sightline.core.predictions import Predictions, predictions_from_rows
from sightline.evaluate import (
    DetectionResult,
    ForegroundCounts,
    ForegroundPoint,
    PointCounts,
    SemanticResult,
    evaluate_semantic,
    measure_of,
)
from sightline.models import Model, own_point
from sightline.ops.instance_masks import crop_counts, object_masks
from sightline.ops.postprocess import (
    detection_rows,
    evaluation_point,
    label_map,
    likeliest,
    map_probabilities,
    place_keypoints,
    select_detections,
    semantic_rows,
)
from sightline.train.data.images import Batch, NetworkImages, SeededBatches, Wanted, build_loader, normalise_batch
from sightline.train.data.store import Keeping
from sightline.train.distributed import ALONE, Processes
from sightline.train.machine import Arithmetic
from sightline.train.rules import OutputMeter

__all__ = ["Evaluation", "LossObserver", "Validator", "by_class", "chosen_conf", "headline", "watched"]

Evaluation = DetectionResult | SemanticResult


class Validator:
    """The validation images of a run, ready to be predicted by any state of the model."""

    def __init__(
        self,
        dataset: Dataset,
        model: Model,
        batch: int,
        keeping: Keeping,
        workers: int,
        processes: Processes = ALONE,
    ) -> None:
        self.dataset, self.task = dataset, model.task
        self.images = NetworkImages(dataset, model.preprocess, keeping=keeping, wanted=Wanted.of(model))
        self.batch, self.processes = batch, processes
        batches = SeededBatches(len(self.images), batch, 0, shuffle=False, share=processes.share)
        self.loader = build_loader(self.images, batches, workers)

    def predict(
        self,
        model: Model,
        arithmetic: Arithmetic,
        progress: Callable[[int], None] = lambda done: None,
        thresholds: OperatingPoint | None = None,
        observe: Callable[[Any, Any, Batch], None] = lambda raw, decoded, batch: None,
        foreground_conf: float | None = None,
    ) -> Predictions:
        """Predictions of every validation image, in image pixels. `model` must be in evaluation mode.

        `thresholds` are those of `evaluation_point` unless given, and of maps of two classes `foreground_conf` is the
        least probability of the second, else the likelier class wins; `observe` is given the raw and decoded outputs of
        each batch beside it. Of several processes each predicts its share of the images, every image once, and gets the
        predictions of all.
        """
        thresholds = thresholds or evaluation_point(own_point(model))
        image_ids = self.dataset.images["image_id"].to_list()
        tables: dict[int, pl.DataFrame] = {}
        for index, loaded in enumerate(self.loader, start=1):
            batch = loaded.to(torch.device(arithmetic.device))
            images = normalise_batch(batch.images, model.preprocess)
            with torch.inference_mode(), arithmetic.autocast():
                raw = model(images)
                decoded = model.decode(raw)
                observe(raw, decoded, batch)
            for i, row in enumerate(batch.rows):
                if self.task == "semantic":
                    found = label_map(_array(decoded[i]), self.images.geometries[row], foreground_conf)
                    tables[row] = semantic_rows(image_ids[row], found)
                else:
                    tables[row] = self._rows(image_ids[row], row, decoded, i, thresholds)
            progress(min(index * self.batch, len(self.images)))
        tables = self.processes.gather_tables(tables, len(self.images))
        meta: dict[str, Any] = {
            "task": model.task,
            "class_names": model.class_names,
            "preprocess": model.preprocess.model_dump(mode="json"),
            "backend": f"torch {arithmetic.precision}",
            "label_digest": self.dataset.label_digest(),
            **thresholds.model_dump(),
            **({} if foreground_conf is None else {"foreground_conf": foreground_conf}),
        }
        return predictions_from_rows(pl.concat(tables.values()), meta).of(self.dataset)

    def predict_best(
        self, model: Model, arithmetic: Arithmetic, progress: Callable[[int], None]
    ) -> tuple[Predictions, ForegroundCounts | None]:
        """The predictions of a model that is done: maps of two classes at the threshold with the best Dice, and what
        every threshold gives.
        """
        if self.task != "semantic" or len(model.class_names) != 2:
            return self.predict(model, arithmetic, progress), None
        counts = ForegroundCounts()
        beside_masks = counts.observer(self.dataset)
        image_ids = self.dataset.images["image_id"].to_list()

        def observe(raw: Any, decoded: Any, batch: Batch) -> None:
            for i, row in enumerate(batch.rows):
                at_image = map_probabilities(_array(decoded[i]), self.images.geometries[row])
                beside_masks(image_ids[row], SemanticMap(likeliest(at_image), model.class_names, at_image[1]))

        self.predict(model, arithmetic, progress, observe=observe)
        whole = ForegroundCounts()
        for share in self.processes.gather(counts):
            whole.merge(share)
        best = whole.best()
        conf = None if best is None else best[0]
        return self.predict(model, arithmetic, progress, foreground_conf=conf), whole

    def evaluate(
        self, predictions: Predictions, resamples: int = 0, foreground: ForegroundCounts | None = None
    ) -> Evaluation:
        """The task's result for predictions of this split, made in the first process and given to all.

        With `resamples` its intervals too, see `evaluate_detection`; with `foreground` curves and the threshold chosen.
        """
        if self.task == "semantic":
            return self.processes.once(lambda: self._of_maps(predictions, resamples, foreground))
        measure = measure_of(self.task)
        # The operating point is chosen here, on the validation images, and goes with the weights from then on.
        return self.processes.once(lambda: measure(self.dataset, predictions, conf="best", resamples=resamples))

    def _of_maps(self, predictions: Predictions, resamples: int, foreground: ForegroundCounts | None) -> SemanticResult:
        result = evaluate_semantic(self.dataset, predictions, resamples=resamples, foreground=foreground)
        conf = predictions.meta.get("foreground_conf")
        if conf is None:
            return result
        point = ForegroundPoint(conf, "best Dice on these very images, and so flattering")
        return replace(result, operating_point=point)

    def _rows(self, image_id: int, row: int, decoded: Any, i: int, thresholds: OperatingPoint) -> pl.DataFrame:
        geometry = self.images.geometries[row]
        boxes, scores, *others = (_array(values[i]) for values in decoded)
        kept = select_detections(boxes, scores, thresholds, geometry, others[0] if self.task == "obb" else None)
        if self.task == "pose":
            return detection_rows(image_id, kept, keypoints=place_keypoints(others[0][kept.anchors], geometry))
        if self.task != "instance":
            return detection_rows(image_id, kept)
        others[0] = others[0][kept.anchors]
        crops = object_masks(others, boxes[kept.anchors], kept.boxes_xyxy, geometry)
        return detection_rows(image_id, kept, [crop_counts(crop, geometry.source_hw) for crop in crops])


def _array(values: Tensor) -> Any:
    return values.float().cpu().numpy()


class LossObserver:
    """Collects the loss and the range of the outputs over the validation images."""

    def __init__(self, model: Model, processes: Processes) -> None:
        self._model, self._processes = model, processes
        self._meter = OutputMeter(model.task)
        self._sums: dict[str, float] = {}
        self._images = 0

    def __call__(self, raw: Any, decoded: Any, batch: Batch) -> None:
        """Take in a batch, as `Validator.predict` gives it."""
        count = int(self._processes.total(torch.tensor(len(batch.rows))))
        for name, value in self._model.loss(raw, batch.targets, self._processes.total).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * count
        self._images += count
        self._meter.update(decoded)

    def take(self) -> dict[str, float]:
        """The mean of each loss term over the images, and what the meter saw."""
        means = {f"valloss/{name}": total / max(1, self._images) for name, total in self._sums.items()}
        meter = OutputMeter(self._model.task)
        for share in self._processes.gather(self._meter):
            meter.add(share)
        return means | {f"watch/{name}": value for name, value in meter.take().items()}


def chosen_conf(evaluation: Evaluation) -> float | None:
    """The threshold chosen on the validation images; None where nothing was right at any, or nothing is to choose."""
    point = evaluation.operating_point
    if point is None or (isinstance(point, PointCounts) and not point.true_positives):
        return None  # the model then runs at the usual one
    return point.conf


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The few numbers of a result that are logged each epoch; the first one decides which weights are best.

    Of models with masks or keypoints that is the AP of these: boxes come with it, and precision and recall are as the
    AP is.
    """
    if isinstance(evaluation, SemanticResult):
        scope = "foreground" if "foreground_dice" in evaluation.metrics else "mean"
        first = ("dice", "iou") if scope == "foreground" else ("iou", "dice")
        return {n: evaluation.metrics[f"{scope}_{n}"] for n in (*first, "sensitivity", "specificity", "precision")}
    point = evaluation.operating_point
    numbers = {"mAP50-95": evaluation["AP"], "mAP50": evaluation["AP50"]}
    if "box_AP" in evaluation.metrics:
        of_boxes = {"box_mAP50-95": evaluation["box_AP"], "box_mAP50": evaluation["box_AP50"]}
        kind = {"segm": "mask", "keypoints": "pose", "obb": "obb"}[evaluation.iou_type]
        numbers = {f"{kind}_{name}": value for name, value in numbers.items()} | of_boxes
    return numbers | {"precision": point.precision, "recall": point.recall}


def by_class(evaluation: Evaluation) -> dict[str, float]:
    """AP, or IoU, of each class, as `name/AP`; NaN where the split has no such object or pixel."""
    metric = "iou" if isinstance(evaluation, SemanticResult) else "AP"
    rows = evaluation.per_class.select("class", metric).iter_rows()
    return {f"{name}/{metric}": float("nan") if value is None else value for name, value in rows}


def watched(evaluation: Evaluation) -> dict[str, float]:
    """What the rules look at beside the headline: accuracy and the mean IoU of every class but the background."""
    if not isinstance(evaluation, SemanticResult):
        return {}
    ious = evaluation.per_class["iou"][1:].drop_nulls().drop_nans()
    mean = float(ious.mean()) if len(ious) else float("nan")  # type: ignore[arg-type]
    return {"accuracy": evaluation.metrics["pixel_accuracy"], "foreground_iou": mean}
