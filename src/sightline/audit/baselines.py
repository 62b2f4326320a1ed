"""Predictors that never look at the image, and the metric they reach: what a model must beat to have learnt anything.

They are fitted on the training split and measured on the validation split (else the test split); where there are no
two such splits, on all images, which flatters them and is said in `fitted_on` and `measured_on`.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.result import Baseline, Baselines
from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.data import BACKGROUND_NAMES, finding, read_class_mask
from sightline.evaluate import (
    MATCH_IOU,
    DetectionResult,
    SemanticAccumulator,
    SemanticResult,
    average_precision,
    class_ratios,
    summary,
)
from sightline.ops.boxes import paired_iou

__all__ = ["beside_baseline", "judge_baselines", "measure_baselines"]

STRONG_AP50 = 0.5  # half of what a perfect detector has, without a look: objects lie where they always lie
STRONG_IOU = 0.7  # published networks on varied scenes often have less
USELESS_ACCURACY = 0.95  # leaves a model less than five percent to show what it can
FEWEST_IMAGES = 20  # a metric on fewer says little, and a demonstration of five pictures is no data set
FEW_IMAGES = 200  # detectors of the field are shown to learn from some hundreds of images on, seldom from fewer
FEW_STEPS = 3000  # published recipes take tens of thousands; warm-up and averaging alone take hundreds
SMALL_PX = 16.0  # two cells of the finest grid a detector looks at, which is 8 pixels wide
_GRID = 64
_MOST_MASKS = 300

Floats: TypeAlias = npt.NDArray[np.float64]
Measured: TypeAlias = DetectionResult | SemanticResult


def measure_baselines(dataset: Dataset) -> Baselines:
    """The trivial predictors of the data set's task with their metrics; nothing without labels.

    Boxes: `most_common_class` (its share of the objects), `mean_box` (for each class one box of the mean centre and
    size, relative to the image, in every image) and `whole_image` (for each class the image's frame), both with
    COCO's AP50 and recall, all scores equal. Tracks: `previous_box` and `first_box`, the share of boxes that the box
    of the same track one frame before, and in its first frame, meets with IoU of at least 0.5. Semantic:
    `most_common_class` everywhere and `mean_mask` (at each place the class that is commonest there), with pixel
    accuracy, mean IoU and mean Dice over the classes present, the background left out; from at most 300 masks of a
    split, spread evenly and sampled at 64 x 64 points.
    """
    fitted, measured, names = _parts(dataset)
    if dataset.task == "semantic":
        found = _semantic(fitted, measured)
    else:
        found = _boxes(fitted, measured)
        if dataset.task == "track":
            found |= _tracks(dataset)
    return Baselines(**names, images=len(measured), **found) if found else Baselines()


def beside_baseline(
    result: Measured, fitted: Dataset, measured: Dataset, *, size_hw: tuple[int, int] | None = None, steps: int | None
) -> Measured:
    """The result with the best trivial predictor's number beside its own, and a warning where the model is not better.

    The predictor is fitted on `fitted`, the training part, and measured on `measured`, the images of the result: by
    AP50 where objects are detected, by mean IoU without background in masks. `size_hw` is the network's and `steps`
    how many the model was trained for, where known: the warning names which of these is likely too small.
    """
    if isinstance(result, DetectionResult):
        found = _boxes(fitted, measured)
        named = (("one box per class at its mean place", "mean_box"), ("the frame of the image", "whole_image"))
        rivals = [(found[key].AP50, what) for what, key in named if key in found]
        metric = "box_AP50" if "box_AP50" in result.metrics else "AP50"  # a box that is always there is no mask or pose
        own = result[metric]
    else:
        found = _semantic(fitted, measured)
        rivals = [(found["mean_mask"].mean_iou, "one and the same mask for every image")] if found else []
        shown = result.per_class["iou"].to_numpy()
        metric = "mean IoU"
        if _has_background(measured):
            shown, metric = shown[1:], "mean IoU without the background"
        own = float(np.nanmean(shown)) if np.isfinite(shown).any() else float("nan")
    known = [(value, what) for value, what in rivals if value is not None]
    if not known:
        return result
    value, what = max(known)
    conventions = {**result.conventions, "baseline": {"metric": metric, "model": own, "value": value, "what": what}}
    warnings = result.warnings
    if value >= own and len(measured) >= FEWEST_IMAGES:
        reasons = _reasons(fitted, size_hw, steps)
        warnings += (f"{what.upper()} REACHES {metric.upper()} {value:.3f}, THE MODEL {own:.3f}. {reasons}",)
    return replace(result, conventions=conventions, warnings=warnings)


def _reasons(fitted: Dataset, size_hw: tuple[int, int] | None, steps: int | None) -> str:
    """What of the training is likely too small, measured, and what to change; else that none of it is."""
    said = []
    if len(fitted) < FEW_IMAGES:
        said.append(f"{len(fitted)} images to learn from are few: label more, or start from pretrained weights")
    if size_hw is not None and not (objects := fitted.usable_objects).is_empty():
        sized = objects.join(fitted.images.select("image_id", "width", "height"), on="image_id")
        scale = pl.min_horizontal(size_hw[1] / pl.col("width"), size_hw[0] / pl.col("height"))
        side = ((pl.col("x2") - pl.col("x1")) * (pl.col("y2") - pl.col("y1"))).sqrt() * scale
        median = float(sized.select(side.median()).item())
        if median < SMALL_PX:
            said.append(f"half of the objects are below {median:.0f} px at the network's size {size_hw}: raise it")
    if steps is not None and steps < FEW_STEPS:
        said.append(f"{steps} steps are few: train longer")
    return "; ".join(said).capitalize() or "Neither images, sizes nor steps are few: check the labels and the settings"


def _has_background(dataset: Dataset) -> bool:
    """Whether the first class stands for pixels that show no object."""
    return len(dataset.class_names) > 1 and dataset.class_names[0].lower() in BACKGROUND_NAMES


def judge_baselines(baselines: Baselines) -> list[Finding]:
    """`baseline-strong` for each predictor that does suspiciously well on at least 20 images.

    That are AP50 of 0.5 for a fixed box and mean IoU (without background) of 0.7 for a fixed mask. That a mask without
    foreground has a high pixel accuracy is common and the fault of that metric, not of the data: it is said in the
    baselines' `note`.
    """
    if (baselines.images or 0) < FEWEST_IMAGES:
        return []
    found = []
    for baseline, what in (
        (baselines.mean_box, "one box per class at its mean place"),
        (baselines.whole_image, "the frame of the image"),
    ):
        if baseline is not None and baseline.AP50 is not None and baseline.AP50 >= STRONG_AP50:
            found.append(finding("baseline-strong", f"{what} in every image reaches AP50 {baseline.AP50:.2f}"))
    iou = None if baselines.mean_mask is None else baselines.mean_mask.mean_iou
    if iou is not None and iou >= STRONG_IOU:
        found.append(
            finding("baseline-strong", f"one and the same mask for every image reaches a mean IoU of {iou:.2f}")
        )
    return found


def _parts(dataset: Dataset) -> tuple[Dataset, Dataset, dict[str, Any]]:
    splits = dataset.splits
    other = next((s for s in ("val", "test") if s in splits), None)
    if "train" in splits and other is not None:
        return dataset.split("train"), dataset.split(other), {"fitted_on": "train", "measured_on": other}
    return dataset, dataset, {"fitted_on": "all images", "measured_on": "the same images"}


def _boxes(fitted: Dataset, measured: Dataset) -> dict[str, Any]:
    known, truth = _relative(fitted), _relative(measured)
    usable = ~(truth["crowd"] | truth["ignore"]).to_numpy()
    known = known.filter(~pl.col("crowd") & ~pl.col("ignore"))
    if known.is_empty() or not usable.any():
        return {}
    names = measured.class_names
    means = np.full((len(names), 4), np.nan)
    for class_id, *values in known.group_by("class_id").agg(pl.col("cx", "cy", "w", "h").mean()).iter_rows():
        means[class_id] = values
    mean_boxes = np.concatenate([means[:, :2] - means[:, 2:] / 2, means[:, :2] + means[:, 2:] / 2], axis=1)
    whole_images = np.where(np.isnan(means), np.nan, [0.0, 0.0, 1.0, 1.0])
    common = int(known["class_id"].mode().min())  # type: ignore[arg-type]
    share = float((truth["class_id"].to_numpy()[usable] == common).mean())
    return {
        "most_common_class": Baseline(class_name=names[common], share_of_objects=share),
        "mean_box": _one_box(mean_boxes, truth, measured),
        "whole_image": _one_box(whole_images, truth, measured),
    }


def _relative(dataset: Dataset) -> pl.DataFrame:
    """All objects with the centre and size of their boxes relative to the image."""
    sizes = dataset.images.select("image_id", "width", "height")
    table = dataset.objects.join(sizes, on="image_id", maintain_order="left")
    x1, x2 = (pl.col(c) / pl.col("width") for c in ("x1", "x2"))
    y1, y2 = (pl.col(c) / pl.col("height") for c in ("y1", "y2"))
    return table.with_columns(cx=(x1 + x2) / 2, cy=(y1 + y2) / 2, w=x2 - x1, h=y2 - y1)


def _one_box(of_class: Floats, truth: pl.DataFrame, measured: Dataset) -> Baseline:
    """AP50 and recall of one box per class, (C, 4) relative, in every image; NaN for classes without one.

    All scores are equal, so the detections of a class go in the order of the images, and each meets objects of its
    class only: the boxes of the other images need not be made.
    """
    classes, left_out = truth["class_id"].to_numpy(), (truth["crowd"] | truth["ignore"]).to_numpy()
    found_xyxy = of_class[classes] * np.tile(truth.select("width", "height").to_numpy(), 2)
    boxes = truth.select("x1", "y1", "x2", "y2").to_numpy(writable=True)
    # Against a region that does not count COCO asks for the share of the detection that lies in it.
    boxes[left_out, :2] = np.maximum(boxes, found_xyxy)[left_out, :2]
    boxes[left_out, 2:] = np.minimum(boxes, found_xyxy)[left_out, 2:]
    hit = paired_iou(found_xyxy, boxes) >= MATCH_IOU
    place = np.searchsorted(measured.images["image_id"].sort().to_numpy(), truth["image_id"].to_numpy())
    right, beside = np.zeros((2, len(of_class), len(measured)), dtype=np.bool_)
    right[classes[hit & ~left_out], place[hit & ~left_out]] = True
    beside[classes[hit & left_out], place[hit & left_out]] = True
    counted = (right | ~beside) & ~np.isnan(of_class).any(axis=1, keepdims=True)
    objects = np.bincount(classes[~left_out], minlength=len(of_class))
    present = np.flatnonzero(objects).tolist()
    ap50 = [average_precision(right[c][counted[c]], int(objects[c])) for c in present]
    return Baseline(
        AP50=float(np.mean(ap50)),
        recall=float(right.sum() / objects.sum()),
        AP50_by_class={measured.class_names[c]: value for c, value in zip(present, ap50, strict=True)},
    )


def _tracks(dataset: Dataset) -> dict[str, Any]:
    """How far one gets by not moving; of all images, since tracks are not divided."""
    frames = dataset.images.select("image_id", "group", "frame")
    rows = dataset.usable_objects.drop_nulls("track_id").join(frames, on="image_id").sort("group", "track_id", "frame")
    keys = [pl.col("group"), pl.col("track_id")]
    corners = ["x1", "y1", "x2", "y2"]
    rows = rows.with_columns(
        *(pl.col(c).shift().over(keys).alias(f"previous_{c}") for c in corners),
        *(pl.col(c).first().over(keys).alias(f"first_{c}") for c in corners),
        step=pl.col("frame").diff().over(keys),
    )
    later = rows.filter(pl.col("step").is_not_null())
    found = {}
    for name, part in (("previous", later.filter(pl.col("step") == 1)), ("first", later)):
        if part.is_empty():
            continue
        old, now = part.select([f"{name}_{c}" for c in corners]).to_numpy(), part.select(corners).to_numpy()
        hit = paired_iou(old, now) >= MATCH_IOU
        found[f"{name}_box"] = Baseline(share_met=float(hit.mean()))
    return found


def _semantic(fitted: Dataset, measured: Dataset) -> dict[str, Any]:
    kinds = len(fitted.class_names)
    known = _mask_grids(fitted)
    truth = known if measured is fitted else _mask_grids(measured)
    if not len(known) or not len(truth):
        return {}
    counts = np.stack([(known == c).sum(axis=0) for c in range(kinds)])
    common = int(np.argmax(counts.sum(axis=(1, 2))))
    background = _has_background(fitted)
    everywhere = _scores(np.full(counts.shape[1:], common), truth, kinds, background)
    found: dict[str, Any] = {
        "masks": len(truth),
        "most_common_class": replace(everywhere, class_name=fitted.class_names[common]),
        "mean_mask": _scores(np.argmax(counts, axis=0), truth, kinds, background),
    }
    accuracy = everywhere.pixel_accuracy
    if accuracy is not None and accuracy >= USELESS_ACCURACY:
        found["note"] = (
            f"A map of nothing but {fitted.class_names[common]} has a pixel accuracy of {accuracy:.1%}: report IoU or "
            "Dice of the classes instead."
        )
    return found


def _mask_grids(dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Class ids (N, 64, 64) at evenly spaced points of the masks; the scan reports unreadable ones."""
    paths = dataset.images.sort("path")["mask_path"].drop_nulls().to_list()
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _MOST_MASKS)).round().astype(int))
    grids = []
    for place in chosen.tolist() if paths else []:
        try:
            ids = read_class_mask(dataset.image_path(paths[place]), dataset)
        except DataError:
            continue
        rows, columns = (((np.arange(_GRID) + 0.5) * side / _GRID).astype(int) for side in ids.shape)
        grids.append(ids[np.ix_(rows, columns)])
    return np.stack(grids) if grids else np.zeros((0, _GRID, _GRID), dtype=np.uint8)


def _scores(predicted: npt.NDArray[Any], truth: npt.NDArray[np.uint8], classes: int, background: bool) -> Baseline:
    """Pooled scores of one map (64, 64) for all masks (N, 64, 64); ignored points never count."""
    confusion = SemanticAccumulator(classes).update(truth, np.broadcast_to(predicted, truth.shape))
    ratios = class_ratios(confusion)
    present = confusion.sum(axis=1) > 0
    if background:
        present[0] = False
    return Baseline(
        pixel_accuracy=summary(confusion)["pixel_accuracy"],
        mean_iou=float(ratios["iou"][present].mean()) if present.any() else None,
        mean_dice=float(ratios["dice"][present].mean()) if present.any() else None,
    )
