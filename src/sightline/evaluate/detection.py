"""Detection and instance segmentation: COCO's numbers, one declared operating point, and what a report needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError
from sightline.core.predictions import LEFT_OUT, Predictions
from sightline.core.results import Result
from sightline.evaluate.accumulation import accumulate
from sightline.evaluate.coco import (
    AREA_RANGES,
    BoolArray,
    CocoScores,
    DetectionArrays,
    IntArray,
    IouType,
    coco_scores,
    detection_arrays,
)
from sightline.evaluate.detection_matching import MATCH_IOU, Matching, detection_confusion, match_detections
from sightline.evaluate.inputs import describe_inputs, fit_predictions
from sightline.evaluate.intervals import Intervals, detection_measure, intervals_of, metric_frame
from sightline.evaluate.object_errors import detection_errors, stated_errors
from sightline.evaluate.suspicions import suspicions
from sightline.ops.boxes import FloatArray


@dataclass(frozen=True)
class PointCounts:
    """Pooled counts of all classes at one confidence threshold, IoU 0.5. `origin` says how the threshold came about.

    A detection counts when its score is at least `conf`; the `on_crowd` ones lie on crowd or ignored regions and are
    neither true nor false. Precision without detections and recall without objects are NaN; all three are 1 at best.
    """

    conf: float
    origin: str
    precision: float
    recall: float
    f1: float
    true_positives: int
    false_positives: int
    false_negatives: int
    on_crowd: int


@dataclass(frozen=True, eq=False)
class DetectionCurves:
    """Curves at IoU 0.5 by class (C rows) and over classes.

    `precision` (C, 101) is COCO's interpolated precision at `recall` (101,), NaN for a class without objects;
    `mean_precision` leaves those classes out. `f1` (C, 101) is over confidence thresholds `conf` (101,); `pooled_*`
    pool the counts of all classes.
    """

    class_names: tuple[str, ...]
    recall: FloatArray
    precision: FloatArray
    mean_precision: FloatArray
    conf: FloatArray
    f1: FloatArray
    pooled_f1: FloatArray
    pooled_precision: FloatArray
    pooled_recall: FloatArray


@dataclass(frozen=True, eq=False)
class DetectionResult(Result):
    """COCO's 12 numbers, numbers by class, curves, and one operating point with its confusion matrix.

    `metrics`: AP (mean over IoU 0.50:0.95), AP50, AP75, APs, APm, APl (small, medium, large objects), AR1, AR10, AR100
    (recall at so many detections per image), ARs, ARm, ARl, each in 0..1 and 1 at best, NaN without such objects;
    `evaluate_instances` and `evaluate_pose` add box_AP and so on to those of masks and keypoints, of which COCO has
    ten: AP, AP50, AP75, APm, APl, and of at most 20 detections an image AR, AR@50 and AR@75 (at OKS 0.5 and 0.75), ARm
    and ARl; `evaluate_oriented` to AP, AP50, AP75 and AR100 of oriented boxes.
    `per_class` has a row for each class: objects, crowd, detections, AP, AP50, AP75, AR, and tp, fp, fn, precision,
    recall, f1 at the operating point. `confusion` (C + 1, C + 1) has ground truth in rows, detections in columns,
    background last. `warnings` are reasons to doubt the numbers: predictions that seem to be something else than they
    were read as. `intervals` are the 95 % intervals of AP, AP50, AP75, precision, recall and f1, where asked for.
    Of masks `object_errors` counts by class what was missed, merged, split and so on at the operating point, see
    `sightline.evaluate.object_errors`, and `objects_concerned` names each.
    """

    iou_type: IouType
    metrics: dict[str, float]
    per_class: pl.DataFrame
    operating_point: PointCounts
    confusion: IntArray
    curves: DetectionCurves
    conventions: dict[str, Any]
    warnings: tuple[str, ...] = ()
    intervals: Intervals = field(default_factory=dict)
    object_errors: pl.DataFrame | None = None
    objects_concerned: pl.DataFrame | None = None

    def __getitem__(self, metric: str) -> float:
        """One of the 12 numbers, such as `result["AP50"]`."""
        return self.metrics[metric]

    @property
    def title(self) -> str:
        """What was measured and, in capitals, what keeps it from being the number others would give."""
        kind = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints", "obb": "oriented boxes"}[self.iou_type]
        return " · ".join([f"COCO {kind}, {self.conventions['images']} images", *self.conventions.get("limits", ())])

    def to_frame(self) -> pl.DataFrame:
        """The 12 numbers and the operating point by `metric`, `value`, and, where asked for, the ends of intervals."""
        point = self.operating_point
        at_point = {"precision": point.precision, "recall": point.recall, "f1": point.f1, "conf": point.conf}
        return metric_frame({**self.metrics, **at_point}, self.intervals)


DEFAULT_MAX_DETS = (1, 10, 100)
DEFAULT_MAX_POSES = 20
"""COCO's limit of detections with keypoints of an image and class."""
CONF_GRID = np.arange(101) / 100
CUT_CONF = 0.05
"""Detections cut at a higher confidence than this lower AP by enough to be said beside it."""
DEFAULT_CONF = 0.25
"""The operating point where neither caller nor model names one: what detectors of the field are run at by habit."""


def evaluate_detection(
    dataset: Dataset,
    predictions: Predictions,
    *,
    iou_type: IouType = "bbox",
    max_dets: tuple[int, ...] = DEFAULT_MAX_DETS,
    conf: float | Literal["best"] | None = None,
    resamples: int = 0,
    sigmas: Sequence[float] | None = None,
) -> DetectionResult:
    """COCO's 12 numbers (equal to pycocotools'), numbers by class, curves, confusion and an operating point.

    Crowd and ignored objects are COCO's `iscrowd`. `max_dets` limits the detections of an image and class, ascending;
    the last one serves AP, and is the only one of oriented boxes and of keypoints (20 where the usual ones are left;
    `sigmas` see `evaluate_pose`); operating point, confusion and curves take all detections. `conf` is the operating
    point; left out, it is the one the model brings, chosen on its validation images (`operating_point` in the
    predictions' `meta`), else `DEFAULT_CONF`. "best" is the threshold with the best pooled F1 on these very images: for
    choosing one, not for judging. The result says which it was.
    `resamples` draws of the images (1000 are usual) give 95 % intervals.
    Predictions find their images by name, see `fit_predictions`. Raises DataError where they belong to other images or
    classes, or masks are missing for `segm`.

    Source: Lin et al. 2014, "Microsoft COCO", and its reference implementation.
    """
    _check_options(iou_type, max_dets, conf)
    limits = max_dets[-1:] if iou_type in ("keypoints", "obb") else max_dets
    if iou_type == "keypoints" and max_dets == DEFAULT_MAX_DETS:
        limits = (DEFAULT_MAX_POSES,)
    predictions = fit_predictions(dataset, predictions)
    names = dataset.class_names
    arrays = detection_arrays(dataset, predictions, iou_type, sigmas)
    matching = match_detections(arrays, len(names))
    if iou_type == "obb":
        scores = accumulate(arrays, matching, len(names), limits[-1])
    else:
        scores = coco_scores(arrays, names, iou_type, limits)
    objects = np.bincount(arrays.truth_classes[~arrays.truth_crowd], minlength=len(names)).astype(np.int64)
    point = _operating_point(arrays, matching, int(objects.sum()), _declared(conf, predictions))
    confusion = detection_confusion(arrays, matching, len(names), point.conf)
    errors = None
    if iou_type == "segm":
        errors = detection_errors(arrays, matching, names, dataset.images["image_id"].sort().to_list(), point.conf)
    intervals, drawn = intervals_of(
        dataset, resamples, lambda: detection_measure(arrays, matching, len(names), max_dets[-1], point.conf)
    )
    return DetectionResult(
        iou_type=iou_type,
        metrics=dict(zip(_metric_names(iou_type, limits), scores.stats.tolist(), strict=True)),
        per_class=_per_class(names, arrays, scores, objects, confusion),
        operating_point=point,
        confusion=confusion,
        curves=_curves(names, arrays, matching, scores, objects),
        conventions=describe_inputs(dataset, predictions)
        | _stated(arrays, iou_type, limits)
        | {"limits": _limits(dataset, predictions)}
        | ({} if errors is None else stated_errors())
        | drawn,
        warnings=tuple(suspicions(arrays, names, max_dets[-1])),
        intervals=intervals,
        object_errors=None if errors is None else errors.counts(),
        objects_concerned=None if errors is None else errors.concerned(),
    )


def _check_options(iou_type: str, max_dets: tuple[int, ...], conf: float | str | None) -> None:
    if iou_type not in get_args(IouType):
        raise ConfigError(f"iou_type must be one of {', '.join(get_args(IouType))}, got '{iou_type}'")
    if (
        len(max_dets) not in ((1, 3) if iou_type == "keypoints" else (3,))
        or list(max_dets) != sorted(set(max_dets))
        or max_dets[0] < 1
    ):
        raise ConfigError(f"max_dets must be three ascending numbers from 1 on, got {max_dets}")
    if conf not in (None, "best") and not (isinstance(conf, (int, float)) and 0.0 <= conf <= 1.0):
        raise ConfigError(f"conf must be in 0..1 or 'best', got {conf}")


def _metric_names(iou_type: IouType, max_dets: tuple[int, ...]) -> list[str]:
    if iou_type == "obb":
        return ["AP", "AP50", "AP75", f"AR{max_dets[-1]}"]
    if iou_type == "keypoints":
        return ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR@50", "AR@75", "ARm", "ARl"]
    return ["AP", "AP50", "AP75", "APs", "APm", "APl", *(f"AR{m}" for m in max_dets), "ARs", "ARm", "ARl"]


def _declared(conf: float | Literal["best"] | None, predictions: Predictions) -> tuple[float | None, str]:
    """The operating point and where it comes from; None where it is to be chosen on these images."""
    if conf == "best":
        return None, ""
    if conf is not None:
        return conf, "given"
    own = predictions.meta.get("operating_point")
    if isinstance(own, dict) and isinstance(own.get("conf"), (int, float)):
        return float(own["conf"]), "the model's own, chosen on its validation images"
    return DEFAULT_CONF, "for want of the model's own"


def _operating_point(
    arrays: DetectionArrays, matching: Matching, object_count: int, declared: tuple[float | None, str]
) -> PointCounts:
    conf, origin = declared
    if conf is None:
        conf, origin = _best_conf(arrays.detection_scores, matching, object_count)
    chosen = arrays.detection_scores >= conf
    tp, fp = int((matching.true & chosen).sum()), int((matching.false & chosen).sum())
    return PointCounts(
        conf=float(conf),
        origin=origin,
        precision=_ratio(tp, tp + fp),
        recall=_ratio(tp, object_count),
        f1=_ratio(2 * tp, tp + fp + object_count),
        true_positives=tp,
        false_positives=fp,
        false_negatives=object_count - tp,
        on_crowd=int((matching.on_crowd & chosen).sum()),
    )


def _best_conf(scores: FloatArray, matching: Matching, object_count: int) -> tuple[float, str]:
    """The score at which pooled F1 is best, the highest such score; 0 where no threshold gives a true positive."""
    if not matching.true.any():
        return 0.0, "no detection is a true positive, all are taken"
    thresholds, tp, fp = _counts_at_scores(scores, matching)
    f1 = 2 * tp / (tp + fp + object_count)
    return float(
        thresholds[len(f1) - 1 - int(np.argmax(f1[::-1]))]
    ), "best pooled F1 on these very images, and so flattering"


def _counts_at_scores(scores: FloatArray, matching: Matching) -> tuple[FloatArray, IntArray, IntArray]:
    """True and false positives with a score of at least each distinct score, ascending."""
    counted = matching.true | matching.false
    thresholds, place = np.unique(scores[counted], return_inverse=True)
    tp = np.bincount(place, weights=matching.true[counted], minlength=len(thresholds))[::-1].cumsum()[::-1]
    both = np.bincount(place, minlength=len(thresholds))[::-1].cumsum()[::-1]
    return thresholds, tp.astype(np.int64), both - tp.astype(np.int64)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _per_class(
    names: tuple[str, ...], arrays: DetectionArrays, scores: CocoScores, objects: IntArray, confusion: IntArray
) -> pl.DataFrame:
    """A row for each class. Precision, recall and F1 follow from the confusion matrix, so the two cannot disagree."""
    count = len(names)
    tp = np.diag(confusion)[:count]
    fp, fn = confusion[:, :count].sum(axis=0) - tp, confusion[:count].sum(axis=1) - tp
    precision = scores.precision[:, :, :, 0, -1]
    return pl.DataFrame(
        {
            "class_id": np.arange(count),
            "class": list(names),
            "objects": objects,
            "crowd": np.bincount(arrays.truth_classes[arrays.truth_crowd], minlength=count),
            "detections": np.bincount(arrays.detection_classes, minlength=count),
            "AP": precision.mean(axis=(0, 1)),
            "AP50": precision[0].mean(axis=0),
            "AP75": precision[5].mean(axis=0),
            "AR": scores.recall[:, :, 0, -1].mean(axis=0),
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "precision": _ratios(tp, tp + fp),
            "recall": _ratios(tp, tp + fn),
            "f1": _ratios(2 * tp, 2 * tp + fp + fn),
        }
    )


def _ratios(part: IntArray, whole: IntArray) -> FloatArray:
    """`part / whole`, NaN where the whole is 0."""
    ratios: FloatArray = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratios


def _curves(
    names: tuple[str, ...], arrays: DetectionArrays, matching: Matching, scores: CocoScores, objects: IntArray
) -> DetectionCurves:
    precision = scores.precision[0, :, :, 0, -1].T
    with_objects = ~np.isnan(precision).any(axis=1)
    tp = np.array([_counts_on_grid(arrays, matching.true, c) for c in range(len(names))]).reshape(len(names), -1)
    fp = np.array([_counts_on_grid(arrays, matching.false, c) for c in range(len(names))]).reshape(len(names), -1)
    all_tp, all_fp = tp.sum(axis=0), fp.sum(axis=0)
    return DetectionCurves(
        class_names=names,
        recall=np.linspace(0.0, 1.0, 101),
        precision=precision,
        mean_precision=precision[with_objects].mean(axis=0) if with_objects.any() else np.full(101, np.nan),
        conf=CONF_GRID,
        f1=_ratios(2 * tp, tp + fp + objects[:, None]),
        pooled_f1=_ratios(2 * all_tp, all_tp + all_fp + objects.sum()),
        pooled_precision=_ratios(all_tp, all_tp + all_fp),
        pooled_recall=_ratios(all_tp, np.full(len(CONF_GRID), objects.sum())),
    )


def _counts_on_grid(arrays: DetectionArrays, chosen: BoolArray, class_id: int) -> IntArray:
    """How many chosen detections of a class have at least the score of each point of `CONF_GRID`."""
    scores = np.sort(arrays.detection_scores[chosen & (arrays.detection_classes == class_id)])
    return len(scores) - np.searchsorted(scores, CONF_GRID, side="left").astype(np.int64)


def _stated(arrays: DetectionArrays, iou_type: IouType, max_dets: tuple[int, ...]) -> dict[str, Any]:
    images = np.repeat(np.arange(len(arrays.sizes_hw)), np.diff(arrays.detection_starts))
    classes = arrays.detection_classes
    _, counts = np.unique(images * (classes.max(initial=0) + 1) + classes, return_counts=True)
    return {
        "iou_type": iou_type,
        "iou_thresholds": "0.50 to 0.95 by 0.05",
        "recall_points": 101,
        "max_dets": list(max_dets),
        "area_ranges_px2": {name: list(bounds) for name, bounds in AREA_RANGES.items()},
        "detection_area": _sized_by(arrays, iou_type),
        "crowd": f"{int(arrays.truth_crowd.sum())} crowd or ignored objects, neither found nor missed",
        "detections_beyond_max_dets": int(np.maximum(counts - max_dets[-1], 0).sum()),
        "operating_point_iou": MATCH_IOU,
        "confusion": "rows ground truth, columns detections, last background; within classes first, then across",
        "reference": "pycocotools, computed by hotcoco"
        if iou_type != "obb"
        else "COCO's definition with the exact IoU of rotated rectangles",
    } | ({} if arrays.sigmas is None else _stated_of_keypoints(arrays, arrays.sigmas))


def _stated_of_keypoints(arrays: DetectionArrays, sigmas: FloatArray) -> dict[str, Any]:
    return {
        "overlap": "object keypoint similarity (OKS) in place of IoU, by the labels' areas",
        "oks_sigmas": sigmas.tolist(),
        "crowd": f"{int((arrays.truth_crowd & ~arrays.truth_once).sum())} crowd or ignored objects, and "
        f"{int(arrays.truth_once.sum())} without a labelled keypoint, neither found nor missed",
    }


def _sized_by(arrays: DetectionArrays, iou_type: IouType) -> str:
    own = "of the mask" if iou_type == "segm" else "of the box"  # poses have boxes too
    return own if np.isnan(arrays.detection_areas).all() else f"as pycocotools takes it from the file, else {own}"


def _limits(dataset: Dataset, predictions: Predictions) -> list[str]:
    """What keeps AP from being the number of the whole curve over all images; for the title of the result."""
    limits = []
    cut = predictions.meta.get("conf")
    if isinstance(cut, (int, float)) and cut > CUT_CONF:
        limits.append(f"CUT AT CONFIDENCE {cut}: AP AND AR ARE LOWER BOUNDS")
    elif cut is None and len(predictions) and (least := float(predictions.table["score"].min())) > CUT_CONF:  # type: ignore[arg-type]
        limits.append(f"NO SCORE BELOW {least:.3g}: IF THEY WERE CUT THERE, AP AND AR ARE LOWER BOUNDS")
    looked_at = predictions.images
    if looked_at is not None and "images" in predictions.meta:
        missing = dataset.images.join(looked_at, on="image_id", how="anti").height
        if missing:
            limits.append(f"{missing} OF {len(dataset)} IMAGES WERE NOT PREDICTED AND COUNT AS EMPTY")
    if any(finding.code == "label-federated" for finding in dataset.findings):
        limits.append(
            "FEDERATED LABELS (LVIS) MEASURED AS COCO: DETECTIONS OF CLASSES NOBODY LOOKED FOR COUNT AS FALSE"
        )
    if candidates := predictions.meta.get("candidates_left_out"):
        limits.append(f"{candidates} CANDIDATES OF THE LOWEST SCORES NEVER MET SUPPRESSION")
    if predictions.meta.get(LEFT_OUT):
        limits.append(f"PREDICTIONS FOR {predictions.meta[LEFT_OUT]} OTHER IMAGES LEFT OUT")
    return limits
