"""The worst and the best evaluated pictures, with ground truth and prediction drawn in distinct styles."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.dataset import Dataset
from sightline.core.errors import InputError
from sightline.core.predictions import Predictions
from sightline.data import read_class_mask
from sightline.draw import (
    DETECTION_KEY,
    PIXEL_KEY,
    View,
    class_colours,
    draw_class_map,
    draw_judged,
    error_parts,
    judge,
    show_tones,
    tint_found,
    tint_judged,
    view_whole,
)
from sightline.evaluate import DetectionImage, best_and_worst, score_detection_images
from sightline.media import read_image
from sightline.ops import rle
from sightline.report.blocks import Block, Cell, Note, Picture, Pictures, Section, jpeg_uri
from sightline.report.numbers import Number
from sightline.report.records import DataNow, RunRecord, evaluated_part

__all__ = ["pictures_section"]

PER_SIDE = 6
LEAST_SIDE, MOST_SIDE = 480, 560
_TITLE = "Worst and best pictures"
_ANCHOR = "pictures"


def pictures_section(record: RunRecord, now: DataNow) -> Section:
    """Up to six best and six worst images by their own score, at the operating point of the evaluation."""
    reason = _why_not(record, now)
    if reason:
        return Section(_ANCHOR, _TITLE, missing=reason)
    assert now.dataset is not None
    assert record.predictions is not None
    part = evaluated_part(now.dataset, record)
    try:
        if part.task == "semantic":
            return _semantic_section(record, part, record.predictions)
        return _detection_section(record, part, record.predictions)
    except InputError as error:
        return Section(_ANCHOR, _TITLE, missing=f"The pictures could not be drawn: {error}")


def _why_not(record: RunRecord, now: DataNow) -> str:
    if record.predictions is None:
        return "The run saved no predictions (predictions.parquet)."
    if record.evaluation is None:
        return "Accuracy was not measured in this run, so there is no operating point to draw."
    if "PQ" in (record.evaluation.get("metrics") or {}):
        return "Panoptic segments are not drawn: their numbers stand in the accuracy section."
    if now.dataset is None:
        return f"The data could not be read: {now.problem}"
    if now.unchanged is False:
        return "The data has changed since the run: its predictions belong to other images or labels."
    return ""


def _detection_section(record: RunRecord, dataset: Dataset, predictions: Predictions) -> Section:
    evaluation = record.evaluation or {}
    conf = float(evaluation["operating_point"]["conf"])
    images = score_detection_images(
        dataset,
        predictions,
        conf=conf,
        iou_type=evaluation.get("iou_type", "bbox"),
    )
    scores = [image.f1 for image in images]
    overlap = "OKS" if evaluation.get("iou_type") == "keypoints" else "IoU"
    best, worst = best_and_worst(scores, [sum(image.counts) for image in images], PER_SIDE)
    caption = (
        f"Ranked by the F1 of the image alone at confidence {conf:.3f}, {overlap} 0.5; among equals the fuller image "
        f"first. {sum(s is None for s in scores)} of {len(scores)} images have neither objects nor detections and no "
        "rank."
    )

    def drawn(indices: Sequence[int]) -> list[Picture]:
        return [_detection_picture(images[i], dataset) for i in indices]

    return _section(drawn, best, worst, caption, _key(DETECTION_KEY))


def _section(drawn: Any, best: list[int], worst: list[int], caption: str, key: Any) -> Section:
    if not best:
        return Section(_ANCHOR, _TITLE, missing="No evaluated image has objects or predictions to show.")
    blocks: list[Block] = [Pictures("Best", drawn(best), "" if worst else caption, () if worst else key)]
    blocks.insert(0, Pictures("Worst", drawn(worst), caption, key) if worst else Note("Only one image has a score."))
    return Section(_ANCHOR, _TITLE, "Pictures show what a mean hides.", blocks)


def _detection_picture(image: DetectionImage, dataset: Dataset) -> Picture:
    pixels = show_tones(read_image(dataset.image_path(image.path)))
    view = _view(pixels)
    truth, found = judge(image, dataset.class_names)
    tint_found(pixels, image, found)
    tp, fp, fn = image.counts
    place = f"predictions.parquet, image {image.path}:"
    facts: list[tuple[str, Cell]] = [
        ("F1", Number(image.f1, f"{place} F1", "plain" if image.f1 is None else "score")),
        ("found", Number(tp, f"{place} true positives", "count")),
        ("false", Number(fp, f"{place} false positives", "count")),
        ("missed", Number(fn, f"{place} false negatives", "count")),
    ]
    alt = f"{image.path}: {tp} found, {fp} false, {fn} missed"
    return _picture(draw_judged(pixels, view, [*truth, *found]), image.path, alt, facts)


def _picture(pixels: NDArray[np.uint8], path: str, alt: str, facts: list[tuple[str, Cell]]) -> Picture:
    return Picture(jpeg_uri(pixels), pixels.shape[1], pixels.shape[0], path, alt, facts)


def _semantic_section(record: RunRecord, dataset: Dataset, predictions: Predictions) -> Section:
    rows = (record.evaluation or {})["per_image"]
    best, worst = best_and_worst([row["image_dice"] for row in rows], [row["counted_pixels"] for row in rows], PER_SIDE)
    binary = len(dataset.class_names) == 2
    caption = "Ranked by the Dice of the image alone" + (
        f" ({dataset.class_names[1]}); images without foreground in truth and prediction have no rank. "
        "First the picture, then what was found."
        if binary
        else ", mean over the classes that occur in it. First the ground truth, then the prediction."
    )
    key = _key(PIXEL_KEY) if binary else _key(zip(class_colours(dataset.class_names), dataset.class_names, strict=True))

    def drawn(indices: Sequence[int]) -> list[Picture]:
        return [_semantic_picture(rows[i], i, dataset, predictions) for i in indices]

    return _section(drawn, best, worst, caption, key)


def _semantic_picture(row: dict[str, Any], index: int, dataset: Dataset, predictions: Predictions) -> Picture:
    image = dataset.images.filter(pl.col("image_id") == row["image_id"]).row(0, named=True)
    size_hw = (image["height"], image["width"])
    pixels = show_tones(read_image(dataset.image_path(image["path"])))
    predicted = np.zeros(size_hw, np.int32)
    mine = predictions.table.filter(pl.col("image_id") == row["image_id"])
    for class_id, counts in mine.select("class_id", "rle").iter_rows():
        predicted[rle.decode(counts, size_hw)] = class_id
    truth = read_class_mask(dataset.image_path(image["mask_path"]), dataset, size_hw)
    view = _view(pixels)
    if len(dataset.class_names) == 2:
        panels = [view.show(pixels), tint_judged(pixels, view, error_parts(truth, predicted))]
    else:
        panels = [draw_class_map(pixels, view, ids, dataset.class_names) for ids in (truth, predicted)]
    # Side by side along the shorter side, so that both stay large.
    scene = np.concatenate(panels, axis=0 if pixels.shape[1] > pixels.shape[0] else 1)
    dice = Number(row["image_dice"], f"evaluation.json per_image.{index}.image_dice")
    return _picture(scene, image["path"], f"{image['path']}: Dice {dice}", [("Dice", dice)])


def _key(entries: Iterable[tuple[Sequence[int], str]]) -> tuple[tuple[str, str], ...]:
    return tuple(("#" + bytes(colour).hex(), name) for colour, name in entries)


def _view(pixels: NDArray[np.uint8]) -> View:
    """The whole picture, its longer side 480 to 560 pixels: small ones are enlarged, or lines would cover them."""
    longer = max(pixels.shape[:2])
    side = min(max(longer, LEAST_SIDE), MOST_SIDE)
    return view_whole((pixels.shape[0], pixels.shape[1]), (side, side))
