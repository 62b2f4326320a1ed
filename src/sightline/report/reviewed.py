"""What a review finds in one image, for label maps and for detections: its numbers, its objects, and its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from sightline.core.dataset import Dataset
from sightline.data import BACKGROUND_NAMES, read_class_mask
from sightline.draw import (
    View,
    class_colours,
    draw_class_map,
    draw_judged,
    draw_objects,
    id_picture,
    judge,
    map_errors,
    show_tones,
    tint_found,
    tint_judged,
    view_whole,
)
from sightline.evaluate import DetectionImage, class_ratios
from sightline.media import read_image
from sightline.ops import rle
from sightline.ops.confusion import confusion_matrix

__all__ = ["Findings", "review_detections", "review_map"]

LEAST_SIDE = 480
"""Pixels that pictures are enlarged to, or lines would cover what they are about."""
LISTED_OBJECTS = 1000
"""Of a class in an image; the number of all stands beside."""
_COLOURS = 256
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Findings:
    """Of one image: `score` 1 at best (None: nothing to score), `facts` for its file, `errors` by kind (pixels of a
    map, else objects), the classes concerned, and the pictures by name.
    """

    path: str
    score: float | None
    facts: dict[str, Any]
    errors: dict[str, int]
    class_ids: tuple[int, ...]
    pictures: Mapping[str, Image.Image]


def review_map(
    dataset: Dataset, row: Mapping[str, Any], predicted_rows: pl.DataFrame, *, dice: float | None, is_sure: bool
) -> Findings:
    """A label map beside the labels; `row` is the image's, `predicted_rows` have one run-length code a class.

    `dice` is the image's own as it was measured; with `is_sure` the rows' scores are the classes' confidence.
    """
    size_hw = (row["height"], row["width"])
    names = dataset.class_names
    predicted = np.zeros(size_hw, np.uint8)
    for class_id, code in predicted_rows.select("class_id", "rle").iter_rows():
        predicted[rle.decode(code, size_hw)] = class_id
    truth = read_class_mask(dataset.image_path(row["mask_path"]), dataset, size_hw)
    confusion = confusion_matrix(truth, predicted, len(names), ignore_values=(255,))
    parts = map_errors(truth, predicted, len(names))
    pixels = show_tones(read_image(dataset.image_path(row["path"])))
    view = _view(pixels)
    sure = dict(predicted_rows.select("class_id", "score").iter_rows()) if is_sure else {}
    errors = {kind: int(mask.sum()) for kind, mask in parts.items() if kind != "right"}
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * np.diag(confusion)
    facts = {
        "classes": _class_facts(names, confusion, sure),
        "objects": _components(predicted, names),
        "error_pixels": errors,
        "counted_pixels": int(confusion.sum()),
    }
    return Findings(
        path=row["path"],
        score=dice,
        facts=facts,
        errors=errors,
        class_ids=tuple(np.flatnonzero(wrong).tolist()),
        pictures={
            "mask.png": id_picture(predicted, [tuple(c) for c in class_colours(names).tolist()]),
            "overlay.png": Image.fromarray(draw_class_map(pixels, view, predicted, names, key=True)),
            "errors.png": Image.fromarray(tint_judged(pixels, view, parts)),
        },
    )


def _class_facts(
    names: Sequence[str], confusion: npt.NDArray[np.int64], sure: Mapping[int, float]
) -> list[dict[str, Any]]:
    ratios = class_ratios(confusion)
    return [
        {
            "class": name,
            "true_pixels": int(confusion[i].sum()),
            "predicted_pixels": int(confusion[:, i].sum()),
            "right_pixels": int(confusion[i, i]),
            **{ratio: float(values[i]) for ratio, values in ratios.items()},
            "confidence": sure.get(i),
        }
        for i, name in enumerate(names)
    ]


def _components(ids: npt.NDArray[np.uint8], names: Sequence[str]) -> list[dict[str, Any]]:
    """The connected parts of each class but the background, the largest first."""
    found = []
    for class_id in np.unique(ids).tolist():
        if names[class_id].lower() in BACKGROUND_NAMES or (len(names) == 2 and class_id == 0):
            continue
        count, _, stats, _ = cv2.connectedComponentsWithStats((ids == class_id).astype(np.uint8), connectivity=8)
        rows = stats[1:][np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")][:LISTED_OBJECTS].tolist()
        parts = [{"box_xyxy": [x, y, x + w, y + h], "pixels": area} for x, y, w, h, area in rows]
        found.append({"class": names[class_id], "count": count - 1, "listed": parts})
    return found


def review_detections(dataset: Dataset, size_hw: tuple[int, int], image: DetectionImage) -> Findings:
    """Detections of one image at the operating point beside its labels."""
    names = dataset.class_names
    pixels = show_tones(read_image(dataset.image_path(image.path)))
    view = _view(pixels)
    truth, found = judge(image, names)
    pictures: dict[str, Image.Image] = {}
    if image.masks_rle is not None:
        masks = {n: rle.decode(code, size_hw) for n, code in enumerate(image.masks_rle, start=1)}
        ids = np.zeros(size_hw, np.uint16)
        for number in sorted(masks, key=lambda n: image.scores[n - 1]):  # the surest on top
            ids[masks[number]] = number
        few = len(masks) < _COLOURS
        colours = [(0, 0, 0), *(tuple(c) for c in class_colours([""] * (_COLOURS - 1)).tolist())]
        pictures["mask.png"] = id_picture(ids, colours if few else colours * 2)
        pictures["overlay.png"] = Image.fromarray(draw_objects(pixels, view, masks))
    tint_found(pixels, image, found)
    pictures["errors.png"] = Image.fromarray(draw_judged(pixels, view, [*truth, *found]))
    tp, fp, fn = image.counts
    objects = [
        {"class": names[c], "score": float(s), "box_xyxy": box.tolist(), "is_right": bool(right)}
        for c, s, box, right in zip(image.class_ids, image.scores, image.boxes_xyxy, image.right, strict=True)
    ]
    missed = [
        {"class": names[c], "box_xyxy": box.tolist()}
        for c, box, is_missed in zip(image.truth_class_ids, image.truth_xyxy, image.missed, strict=True)
        if is_missed
    ]
    wrong = {*image.class_ids[~image.right].tolist(), *image.truth_class_ids[image.missed].tolist()}
    return Findings(
        path=image.path,
        score=image.f1,
        facts={"objects": objects, "missed": missed, "right": tp},
        errors={"wrong": fp, "missed": fn},
        class_ids=tuple(sorted(wrong)),
        pictures=pictures,
    )


def _view(pixels: Picture) -> View:
    side = max(*pixels.shape[:2], LEAST_SIDE)
    return view_whole((pixels.shape[0], pixels.shape[1]), (side, side))
