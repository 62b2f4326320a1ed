"""Predictors that never look at the image, and the metric they reach: what a model must beat to have learnt anything.

They are fitted on the training split and measured on the validation split (else the test split); where there are no
two such splits, on all images, which flatters them and is said in `fitted_on` and `measured_on`.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import DataError
from sightline.core.findings import Finding
from sightline.core.frames import IGNORE_INDEX
from sightline.data import BACKGROUND_NAMES, finding, read_class_mask

__all__ = ["judge_baselines", "measure_baselines"]

MATCH_IOU = 0.5
STRONG_AP50 = 0.5
STRONG_IOU = 0.7
USELESS_ACCURACY = 0.95
FEWEST_IMAGES = 20  # a metric on fewer says little, and a demonstration of five pictures is no data set
_GRID = 64
_MOST_MASKS = 300

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def measure_baselines(dataset: Dataset) -> dict[str, Any]:
    """The trivial predictors of the data set's task with their metrics, as JSON values; empty without labels.

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
    return {**names, "images": len(measured), **found} if found else {}


def judge_baselines(baselines: dict[str, Any]) -> list[Finding]:
    """`baseline-strong` for each predictor that does suspiciously well on at least 20 images.

    That are AP50 of 0.5 for a fixed box and mean IoU (without background) of 0.7 for a fixed mask. That a mask without
    foreground has a high pixel accuracy is common and the fault of that metric, not of the data: it is said in the
    baselines' `note`.
    """
    if baselines.get("images", 0) < FEWEST_IMAGES:
        return []
    found = []
    for name, what in (("mean_box", "one box per class at its mean place"), ("whole_image", "the frame of the image")):
        ap50 = baselines.get(name, {}).get("AP50")
        if ap50 is not None and ap50 >= STRONG_AP50:
            found.append(finding("baseline-strong", f"{what} in every image reaches AP50 {ap50:.2f}"))
    iou = baselines.get("mean_mask", {}).get("mean_iou")
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
    frames = np.where(np.isnan(means), np.nan, np.array([0.0, 0.0, 1.0, 1.0]))
    common = int(known["class_id"].mode().min())  # type: ignore[arg-type]
    share = float((truth["class_id"].to_numpy()[usable] == common).mean())
    boxes = truth.select("rx1", "ry1", "rx2", "ry2").to_numpy()
    return {
        "most_common_class": {"class": names[common], "share_of_objects": share},
        "mean_box": _one_box(mean_boxes, boxes, truth, usable, len(measured), names),
        "whole_image": _one_box(frames, boxes, truth, usable, len(measured), names),
    }


def _relative(dataset: Dataset) -> pl.DataFrame:
    """All objects with their boxes relative to the image, and the place of their image in the order of the ids."""
    order = dataset.images.sort("image_id").with_row_index("image").select("image_id", "image", "width", "height")
    table = dataset.objects.join(order, on="image_id", maintain_order="left").with_columns(
        pl.col("image").cast(pl.Int64),
        rx1=pl.col("x1") / pl.col("width"),
        rx2=pl.col("x2") / pl.col("width"),
        ry1=pl.col("y1") / pl.col("height"),
        ry2=pl.col("y2") / pl.col("height"),
    )
    return table.with_columns(
        cx=(pl.col("rx1") + pl.col("rx2")) / 2,
        cy=(pl.col("ry1") + pl.col("ry2")) / 2,
        w=pl.col("rx2") - pl.col("rx1"),
        h=pl.col("ry2") - pl.col("ry1"),
    )


def _one_box(
    of_class: Floats, boxes: Floats, truth: pl.DataFrame, usable: Bools, images: int, names: tuple[str, ...]
) -> dict[str, Any]:
    """AP50 and recall of one box per class and image, (C, 4) relative; a NaN box is not predicted.

    What COCO's evaluation gives for detections of equal scores, images in the order of their ids. IoU does not change
    when both axes are scaled, so relative boxes serve. A box on a crowd or ignored region counts as neither.
    """
    class_id, image = truth["class_id"].cast(pl.Int64).to_numpy(), truth["image"].to_numpy()
    overlap = _overlap(of_class[class_id], boxes, ~usable)
    ap50, found, total = {}, 0, int(usable.sum())
    for c, name in enumerate(names):
        mine = class_id == c
        objects = int((mine & usable).sum())
        if not objects:
            continue
        hit = np.zeros(images, dtype=np.bool_)
        hit[image[mine & usable & (overlap >= MATCH_IOU)]] = True
        beside = np.zeros(images, dtype=np.bool_)
        beside[image[mine & ~usable & (overlap >= MATCH_IOU)]] = True
        ap50[name] = _average_precision(hit[hit | ~beside], objects)
        found += int(hit.sum())
    return {"AP50": float(np.mean(list(ap50.values()))), "recall": found / total, "AP50_by_class": ap50}


def _overlap(predicted: Floats, boxes: Floats, crowd: Bools) -> Floats:
    """IoU (N,) of boxes row by row; against a crowd the denominator is the prediction's area. 0 for NaN."""
    low, high = np.maximum(predicted[:, :2], boxes[:, :2]), np.minimum(predicted[:, 2:], boxes[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(predicted[:, 2:] - predicted[:, :2], axis=1)
    union = np.where(crowd, area, area + np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) - common)
    return np.asarray(np.nan_to_num(np.divide(common, union, out=np.zeros(len(boxes)), where=union > 0)))


def _average_precision(hits: Bools, objects: int) -> float:
    """COCO's 101-point AP of detections in this order, true where `hits`."""
    if not hits.any():
        return 0.0
    true = np.cumsum(hits)
    precision = np.maximum.accumulate((true / np.arange(1, len(hits) + 1))[::-1])[::-1]
    place = np.searchsorted(true / objects, np.linspace(0.0, 1.0, 101), side="left")
    reached = place < len(hits)
    return float(np.where(reached, precision[np.minimum(place, len(hits) - 1)], 0.0).mean())


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
        hit = _overlap(old, now, np.zeros(len(part), dtype=np.bool_)) >= MATCH_IOU
        found[f"{name}_box"] = {"share_met": float(hit.mean())}
    return found


def _semantic(fitted: Dataset, measured: Dataset) -> dict[str, Any]:
    kinds = len(fitted.class_names)
    known = _mask_grids(fitted)
    truth = known if measured is fitted else _mask_grids(measured)
    if not len(known) or not len(truth):
        return {}
    counts = np.stack([(known == c).sum(axis=0) for c in range(kinds)])
    common = int(np.argmax(counts.sum(axis=(1, 2))))
    found: dict[str, Any] = {
        "masks": len(truth),
        "most_common_class": {"class": fitted.class_names[common]}
        | _scores(np.full(counts.shape[1:], common), truth, fitted.class_names),
        "mean_mask": _scores(np.argmax(counts, axis=0), truth, fitted.class_names),
    }
    accuracy = found["most_common_class"]["pixel_accuracy"]
    if accuracy >= USELESS_ACCURACY:
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


def _scores(predicted: npt.NDArray[Any], truth: npt.NDArray[np.uint8], names: tuple[str, ...]) -> dict[str, Any]:
    """Pooled scores of one map (64, 64) for all masks (N, 64, 64); ignored points never count."""
    kinds = len(names)
    counted = truth != IGNORE_INDEX
    pairs = truth.astype(np.int64) * kinds + predicted
    confusion = np.bincount(pairs[counted], minlength=kinds * kinds)[: kinds * kinds].reshape(kinds, kinds)
    true, of_truth, of_map = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    foreground = [i for i in range(kinds) if kinds == 1 or i > 0 or names[0].lower() not in BACKGROUND_NAMES]
    present = [i for i in foreground if of_truth[i] > 0]
    iou = true / np.maximum(of_truth + of_map - true, 1)
    dice = 2 * true / np.maximum(of_truth + of_map, 1)
    return {
        "pixel_accuracy": float(true.sum() / max(int(confusion.sum()), 1)),
        "mean_iou": float(iou[present].mean()) if present else None,
        "mean_dice": float(dice[present].mean()) if present else None,
    }
