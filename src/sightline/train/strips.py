"""Prediction strips: for a few validation images, the truth and then what the model made of it as training went on."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sightline.core.dataset import Dataset
from sightline.core.files import write_bytes_atomic
from sightline.core.frames import IGNORE_INDEX
from sightline.core.keypoints import with_names
from sightline.core.predictions import Predictions
from sightline.data import read_class_mask
from sightline.draw import (
    CAPTION_PX,
    GROUND,
    JUDGED,
    View,
    class_key,
    draw_caption,
    draw_class_map,
    draw_judged,
    error_parts,
    judge,
    lay_out,
    show_tones,
    text_width,
    tint_found,
    tint_judged,
)
from sightline.evaluate import (
    IouType,
    SemanticAccumulator,
    class_ratios,
    mean_defined,
    score_detection_images,
)
from sightline.media import read_image
from sightline.ops import rle

__all__ = ["draw_strips", "strip_columns"]

Picture = NDArray[np.uint8]
Panel = tuple[Picture, str]
"""A picture and what it says in a line."""

MAX_COLUMNS = 12
MAX_IMAGES = 6
PANEL_HW = (320, 480)
_LOOKED_AT = 24  # masks read to find images with foreground
_STEM_LETTERS = 40
_BOX_KEY = (
    (JUDGED["right"], "solid blue: right"),
    (JUDGED["wrong"], "solid red: false"),
    (JUDGED["missed"], "dashed yellow: missed"),
    (JUDGED["truth"], "dashed white: ground truth"),
)
_PIXEL_KEY = (
    (JUDGED["right"], "blue: right"),
    (JUDGED["wrong"], "red: false"),
    (JUDGED["missed"], "yellow: missed"),
    (JUDGED["truth"], "white: ground truth"),
)


def strip_columns(epoch: int, every: int) -> list[int]:
    """The epochs that a strip shows once `epoch` has ended; none if it is not one to be drawn, or `every` is 0.

    Drawn are the first epoch and every `every`-th. When they and the truth no longer fit in `MAX_COLUMNS`, every
    second, fourth, eighth, ... of them stays, and the newest. What has been dropped never comes back.

    >>> strip_columns(30, 10)
    [1, 10, 20, 30]
    >>> strip_columns(12, 1)
    [1, 3, 5, 7, 9, 11, 12]
    """
    if not every or (epoch > 1 and epoch % every):
        return []
    drawn = list(dict.fromkeys([1, *range(every, epoch + 1, every)]))
    step = 1
    while len(kept := list(dict.fromkeys([*drawn[::step], drawn[-1]]))) > MAX_COLUMNS - 1:
        step *= 2
    return kept


def draw_strips(dataset: Dataset, predictions: Predictions, folder: Path, columns: Sequence[int], conf: float) -> None:
    """Draw the last of `columns` and put each image's strip together: `folder/strip-<n>-<image>.jpg`.

    The columns are epochs, see `strip_columns`; the earlier ones are taken from `folder/panels/`, where each is kept as
    a picture of its own, so that a resumed run goes on with the same strips. Detections count from `conf` on.
    """
    dataset = with_names(dataset)
    for number, row in enumerate(_shown_rows(dataset), start=1):
        image = dataset.images.row(row, named=True)
        one = dataset.select([image["image_id"]])
        found = replace(predictions, table=predictions.table.filter(pl.col("image_id") == image["image_id"]))
        pixels = show_tones(read_image(dataset.image_path(image["path"])))
        draw = _semantic_panels if dataset.task == "semantic" else _detection_panels
        truth, predicted = draw(one, found, pixels, conf)
        panels = folder / "panels"
        _save(panels / f"{number}-{columns[-1]:06d}.jpg", _captioned(predicted, f"epoch {columns[-1]}"), quality=95)
        paths = {epoch: panels / f"{number}-{epoch:06d}.jpg" for epoch in columns}
        kept = [read_image(path) for path in paths.values() if path.exists()]
        strip = lay_out(
            [(panel, ()) for panel in (_captioned(truth, "ground truth"), *kept)],
            title=image["path"],
            note=_note(dataset, conf, "OKS" if _overlap_of(found) == "keypoints" else "IoU"),
            key=_key(one),
            columns=MAX_COLUMNS,
        )
        _save(folder / f"strip-{number}-{Path(image['path']).stem[:_STEM_LETTERS]}.jpg", strip, quality=88)
        for path in set(panels.glob(f"{number}-*.jpg")) - set(paths.values()):
            path.unlink()


def _shown_rows(dataset: Dataset) -> list[int]:
    """Up to `MAX_IMAGES` rows spread over the data set, those with something to find first; always the same ones."""
    if dataset.task == "semantic":
        looked = _spread(list(range(len(dataset))), _LOOKED_AT)
        paths = dataset.images["mask_path"].to_list()
        masks = {row: read_class_mask(dataset.image_path(paths[row]), dataset) for row in looked}
        filled = [row for row, ids in masks.items() if ((ids > 0) & (ids != IGNORE_INDEX)).any()]
    else:
        filled = dataset.images["image_id"].is_in(dataset.usable_objects["image_id"].implode()).arg_true().to_list()
    shown = _spread(filled, MAX_IMAGES)
    others = sorted(set(range(len(dataset))) - set(filled))
    return sorted(shown + _spread(others, MAX_IMAGES - len(shown)))


def _spread(rows: Sequence[int], count: int) -> list[int]:
    if not rows or not count:
        return []
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places.tolist()]


def _detection_panels(one: Dataset, found: Predictions, pixels: Picture, conf: float) -> tuple[Panel, Panel]:
    (image,) = score_detection_images(one, found, conf=conf, iou_type=_overlap_of(found))
    names = one.class_names if len(one.class_names) > 1 else ("",)
    view = _view(pixels)
    truth, detected = judge(image, names)
    named = [box._replace(kind="truth", label=names[c]) for box, c in zip(truth, image.truth_class_ids, strict=True)]
    missed = [box._replace(label="") for box in truth if box.kind == "missed"]
    tp, fp, fn = image.counts
    count, tinted = len(truth), pixels.copy()
    tint_found(tinted, image, detected)
    return (
        (draw_judged(pixels, view, named), f"{count} object{'s' if count != 1 else ''}"),
        (draw_judged(tinted, view, [*detected, *missed]), f"{tp} right, {fp} false, {fn} missed"),
    )


def _overlap_of(found: Predictions) -> IouType:
    """What decides whether these predictions are right."""
    overlaps: dict[Any, IouType] = {"instance": "segm", "obb": "obb", "pose": "keypoints"}
    return overlaps.get(found.meta.get("task"), "bbox")


def _semantic_panels(one: Dataset, found: Predictions, pixels: Picture, conf: float) -> tuple[Panel, Panel]:
    truth = read_class_mask(one.image_path(one.images["mask_path"][0]), one)
    predicted = np.zeros_like(truth)
    for class_id, counts in found.table.select("class_id", "rle").iter_rows():
        predicted[rle.decode(counts, (truth.shape[0], truth.shape[1]))] = class_id
    ignored = truth == IGNORE_INDEX
    said = _overlap_text(truth, predicted, len(one.class_names))
    view = _view(pixels)
    if len(one.class_names) > 2:
        predicted[ignored] = IGNORE_INDEX  # hatched on both sides: the difference is then only what is judged
        first, second = (draw_class_map(pixels, view, ids, one.class_names) for ids in (truth, predicted))
        return (first, f"{len(np.unique(truth[~ignored]))} classes"), (second, said)
    positive = truth == 1
    first = tint_judged(pixels, view, {"truth": positive})
    parts = error_parts(truth, predicted)
    share = positive.sum() / max(1, int((~ignored).sum()))
    # Without the image's own colours, or a red tint would not be seen on red tissue.
    gray = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)
    return (first, f"{one.class_names[1]} {share:.1%}"), (tint_judged(gray, view, parts), said)


def _overlap_text(truth: NDArray[np.uint8], predicted: NDArray[Any], class_count: int) -> str:
    """IoU and Dice of this image: the foreground's with two classes, else the mean over the classes that occur."""
    ratios = class_ratios(SemanticAccumulator(class_count).update(truth, predicted))
    iou, dice = (float(v[1]) if class_count == 2 else mean_defined(v) for v in (ratios["iou"], ratios["dice"]))
    if np.isnan(iou):
        return "no foreground, none reported"
    return f"IoU {iou:.2f}, Dice {dice:.2f}"


def _view(pixels: Picture) -> View:
    """The whole image within a panel: large images shrunk, small ones enlarged by a whole factor."""
    height, width = pixels.shape[:2]
    scale = min(PANEL_HW[0] / height, PANEL_HW[1] / width)
    scale = scale if scale < 1 else int(scale)
    return View((0, 0, width, height), (max(1, round(height * scale)), max(1, round(width * scale))))


def _captioned(panel: Panel, title: str) -> Picture:
    """The panel under its title and its line, on a ground wide enough for both."""
    picture, line = panel
    lines = (line, title)
    missing = max(0, *(text_width(text, CAPTION_PX) + 14 - picture.shape[1] for text in lines))
    sides = ((0, 0), (missing // 2, missing - missing // 2))
    padded = np.stack([np.pad(picture[..., c], sides, constant_values=GROUND[c]) for c in range(3)], axis=2)
    for text in lines:
        padded = draw_caption(padded, text)
    return padded


def _note(dataset: Dataset, conf: float, overlap: str) -> str:
    if dataset.task != "semantic":
        return f"Detections of confidence {conf:g} or more; right at {overlap} 0.5 with an object of the class."
    if len(dataset.class_names) == 2:
        return f"IoU and Dice of '{dataset.class_names[1]}' in this image."
    return "IoU and Dice in this image, mean over the classes that occur."


def _key(one: Dataset) -> Sequence[tuple[tuple[int, int, int], str]]:
    if one.task != "semantic":
        return _BOX_KEY
    return _PIXEL_KEY if len(one.class_names) == 2 else class_key(one, one.images["image_id"].to_list())


def _save(path: Path, picture: Picture, quality: int) -> None:
    # Not by Pillow itself, which leaves a cut file without a word where the disk takes no more.
    encoded = io.BytesIO()
    PillowImage.fromarray(picture).save(encoded, "JPEG", quality=quality, subsampling=0)
    write_bytes_atomic(path, encoded.getvalue())
