"""What went wrong with each object: missed, merged, split, of the wrong class, and predictions that are of none.

Every true object is of one kind, and so is every prediction. Overlaps are of masks, classes count where it is said:

- `found`: a prediction of its class meets it with an IoU of at least 0.5, each with one other at most;
- `wrong_class`: of what is left, a prediction of another class does;
- `merged`: an object, else missed, of which a prediction covers at least half, and at least half of another object too;
- `split`: an object, else missed, of which at least two predictions without a match, each with half of itself in it,
  together cover half;
- `missed`: any other object.

Predictions are `found`, `wrong_class`, `merging` (without a match, and covering at least half of several objects),
`fragment` (with half of itself in an object that is split or met by another prediction) or `spurious`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.core.frames import IGNORE_INDEX
from sightline.data import BACKGROUND_NAMES
from sightline.evaluate.coco import DetectionArrays
from sightline.evaluate.detection_matching import MATCH_IOU, Matching
from sightline.ops import rle
from sightline.ops.overlaps import overlaps_of

__all__ = [
    "OBJECT_KINDS",
    "PREDICTION_KINDS",
    "ObjectErrors",
    "component_errors",
    "detection_errors",
    "errors_of_parts",
    "stated_errors",
]

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

OBJECT_KINDS = ("found", "wrong_class", "merged", "split", "missed")
PREDICTION_KINDS = ("found", "wrong_class", "merging", "fragment", "spurious")
_FOUND, _WRONG, _MERGED, _SPLIT, _NOTHING, _ASIDE = range(6)
_HALF = 0.5  # so that an object is covered by one prediction, and a prediction lies in one object, where none overlap
_SCHEMA: dict[str, Any] = {
    "image_id": pl.Int64,
    "side": pl.String,
    "id": pl.Int64,
    "class_id": pl.Int64,
    "kind": pl.String,
    **dict.fromkeys(("x1", "y1", "x2", "y2"), pl.Float64),
}


class Side(NamedTuple):
    """The objects of an image, or its predictions: ids, classes, areas (N,), boxes (N, 4), and what does not count."""

    ids: IntArray
    classes: IntArray
    areas: FloatArray
    boxes_xyxy: FloatArray
    aside: BoolArray


class Shared(NamedTuple):
    """Pairs (P,) of a prediction and an object that share pixels."""

    found: IntArray
    true: IntArray
    pixels: FloatArray


class ObjectErrors:
    """Counts of the kinds by class, and the objects and predictions concerned, of as many images as are given.

    `judged` are the class ids that have objects, all unless given.
    """

    def __init__(self, class_names: Sequence[str], judged: Sequence[int] | None = None) -> None:
        self.class_names = tuple(class_names)
        self.judged = list(range(len(class_names)) if judged is None else judged)
        self.true = np.zeros((len(class_names), len(OBJECT_KINDS)), dtype=np.int64)
        self.found = np.zeros((len(class_names), len(PREDICTION_KINDS)), dtype=np.int64)
        self.rows: list[pl.DataFrame] = []

    def update(self, image_id: int, true: Side, found: Side, shared: Shared, matches: IntArray) -> None:
        """Add an image; `matches` (predictions) is the object of its class that each met, -1 of none."""
        kinds = _judge(true, found, shared, matches)
        sides = (("object", true, kinds[0], self.true), ("prediction", found, kinds[1], self.found))
        for (name, side, kind, counts), words in zip(sides, (OBJECT_KINDS, PREDICTION_KINDS), strict=True):
            counted = kind != _ASIDE
            np.add.at(counts, (side.classes[counted], kind[counted]), 1)
            wrong = np.flatnonzero(counted & (kind != _FOUND))
            columns = {"image_id": image_id, "side": name, "id": side.ids[wrong], "class_id": side.classes[wrong]}
            corners = dict(zip(("x1", "y1", "x2", "y2"), side.boxes_xyxy[wrong].T, strict=True))
            text = [words[k] for k in kind[wrong].tolist()]
            if len(wrong):
                self.rows.append(pl.DataFrame(columns | {"kind": text} | corners).select(list(_SCHEMA)).cast(_SCHEMA))  # type: ignore[arg-type]

    def merge(self, other: "ObjectErrors") -> None:
        """Add the images of another one of the same classes."""
        if (other.class_names, other.judged) != (self.class_names, self.judged):
            raise ValueError("errors must be of the same classes")
        self.true, self.found, self.rows = self.true + other.true, self.found + other.found, self.rows + other.rows

    def counts(self) -> pl.DataFrame:
        """A row for each class judged, and one of `all`: objects and their kinds, predictions and theirs."""
        true, found = (np.vstack([part[self.judged], part.sum(axis=0)]) for part in (self.true, self.found))
        names = [self.class_names[i] for i in self.judged]
        columns: dict[str, Any] = {"class": [*names, "all"], "objects": true.sum(axis=1)}
        columns |= dict(zip(OBJECT_KINDS, true.T, strict=True))
        columns |= {"predictions": found.sum(axis=1)} | dict(zip(PREDICTION_KINDS[2:], found.T[2:], strict=True))
        return pl.DataFrame(columns)

    def concerned(self) -> pl.DataFrame:
        """What was not found, and predictions that found nothing: image_id, side (object or prediction), id, class_id,
        kind, and the box in pixels. The id of a prediction is its row, that of a part of a map its number in the image.
        """
        return pl.concat(self.rows) if self.rows else pl.DataFrame(schema=_SCHEMA)


def _judge(true: Side, found: Side, shared: Shared, matches: IntArray) -> tuple[IntArray, IntArray]:
    """The kind of each object and of each prediction."""
    kinds, guesses = np.full(len(true.ids), _NOTHING), np.full(len(found.ids), _NOTHING)
    kinds[true.aside], guesses[found.aside] = _ASIDE, _ASIDE
    hit = np.flatnonzero((matches >= 0) & ~found.aside)
    guesses[hit], kinds[matches[hit]] = _FOUND, _FOUND
    counted = ~true.aside[shared.true] & ~found.aside[shared.found]
    d, g, pixels = shared.found[counted], shared.true[counted], shared.pixels[counted]
    _pair_across_classes(d, g, pixels / (found.areas[d] + true.areas[g] - pixels), kinds, guesses)
    covers = pixels >= _HALF * true.areas[g]
    several = np.bincount(d[covers], minlength=len(guesses)) >= 2
    merged = np.zeros(len(kinds), dtype=np.bool_)
    merged[g[covers & several[d]]] = True
    kinds[merged & (kinds == _NOTHING)] = _MERGED
    guesses[several & (guesses == _NOTHING)] = _MERGED
    within = (pixels >= _HALF * found.areas[d]) & (guesses[d] == _NOTHING)
    parts = np.bincount(g[within], minlength=len(kinds))
    together = np.bincount(g[within], weights=pixels[within], minlength=len(kinds))
    split = (parts >= 2) & (together >= _HALF * true.areas) & (kinds == _NOTHING)
    kinds[split] = _SPLIT
    guesses[d[within & np.isin(kinds[g], (_FOUND, _WRONG, _SPLIT))]] = _SPLIT
    return kinds, guesses


def _pair_across_classes(d: IntArray, g: IntArray, iou: FloatArray, kinds: IntArray, guesses: IntArray) -> None:
    """What is left of both sides, as beside the confusion matrix: each prediction in turn its best free object."""
    near: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for k in np.flatnonzero((iou >= MATCH_IOU) & (guesses[d] == _NOTHING)).tolist():
        near[int(d[k])].append((float(iou[k]), int(g[k])))
    for guess in sorted(near):
        free = [pair for pair in near[guess] if kinds[pair[1]] == _NOTHING]
        if free:
            guesses[guess] = kinds[max(free)[1]] = _WRONG


def detection_errors(
    arrays: DetectionArrays, matching: Matching, class_names: Sequence[str], image_ids: Sequence[int], conf: float
) -> ObjectErrors:
    """The errors of masks of objects at a confidence threshold; `matching` is of all detections of these arrays."""
    assert arrays.truth_rles is not None
    assert arrays.detection_rles is not None
    errors = ObjectErrors(class_names)
    for image, image_id in enumerate(image_ids):
        d, g = (slice(s[image], s[image + 1]) for s in (arrays.detection_starts, arrays.truth_starts))
        chosen = np.flatnonzero(arrays.detection_scores[d] >= conf)
        rows = d.start + chosen
        true_areas, areas = (
            np.array([rle.area(codes[i]) for i in places], np.float64)
            for codes, places in ((arrays.truth_rles, range(g.start, g.stop)), (arrays.detection_rles, rows.tolist()))
        )
        first = matching.iou_starts[image]
        shape = (d.stop - d.start, g.stop - g.start)
        iou = matching.iou[first : first + shape[0] * shape[1]].reshape(shape)[chosen]
        pairs = np.nonzero(iou)[0], np.nonzero(iou)[1]
        # The IoU is what both share over what they have together: areas a and b share iou (a + b) / (1 + iou).
        pixels = np.rint(iou[pairs] * (areas[pairs[0]] + true_areas[pairs[1]]) / (1 + iou[pairs]))
        crowd = arrays.truth_crowd[g]
        true = Side(arrays.truth_rows[g], arrays.truth_classes[g], true_areas, arrays.truth_boxes_xyxy[g], crowd)
        own = arrays.detection_rows[rows], arrays.detection_classes[rows]
        found = Side(*own, areas, arrays.detection_boxes_xyxy[rows], matching.on_crowd[rows])
        matches = np.where(matching.true[rows], matching.found[rows] - g.start, -1)
        errors.update(image_id, true, found, Shared(pairs[0], pairs[1], pixels), matches)
    return errors


def errors_of_parts(class_names: Sequence[str]) -> ObjectErrors:
    """For connected parts of maps: of two classes the second has objects, of more all but those named as background."""
    named = [i for i, name in enumerate(class_names) if name.lower() not in BACKGROUND_NAMES]
    return ObjectErrors(class_names, [1] if len(class_names) == 2 else named)


def component_errors(
    errors: ObjectErrors, image_id: int, truth: npt.NDArray[Any], prediction: npt.NDArray[Any]
) -> None:
    """Add an image of class ids (H, W), whose objects are the connected parts of a judged class (8 neighbours).

    Predicted pixels on ignored ones count for nothing, and a part of which more than half lies there is left aside.
    """
    true_ids, true = _parts(truth, errors.judged)
    found_ids, found = _parts(prediction, errors.judged)
    nowhere = len(true.ids) + 1
    true_ids[truth == IGNORE_INDEX] = nowhere
    pairs = overlaps_of(true_ids, found_ids, np.arange(1, nowhere + 1), np.arange(1, len(found.ids) + 1))
    real = pairs.columns < len(found.ids)
    ignored = np.zeros(len(found.ids))
    on = real & (pairs.rows == nowhere - 1)
    ignored[pairs.columns[on]] = pairs.pixels[on]
    found = found._replace(aside=ignored > _HALF * found.areas, areas=np.maximum(found.areas - ignored, 1))
    real &= pairs.rows < nowhere - 1
    shared = Shared(pairs.columns[real], pairs.rows[real], pairs.pixels[real].astype(np.float64))
    matches = np.full(len(found.ids), -1)
    iou = shared.pixels / (found.areas[shared.found] + true.areas[shared.true] - shared.pixels)
    met = (iou >= MATCH_IOU) & (found.classes[shared.found] == true.classes[shared.true])
    taken: set[int] = set()
    for k in np.flatnonzero(met)[np.argsort(-iou[met], kind="stable")].tolist():  # several only at exactly one half
        if matches[shared.found[k]] < 0 and int(shared.true[k]) not in taken:
            matches[shared.found[k]] = shared.true[k]
            taken.add(int(shared.true[k]))
    errors.update(image_id, true, found, shared, matches)


def _parts(class_ids: npt.NDArray[Any], judged: Sequence[int]) -> tuple[npt.NDArray[np.int32], Side]:
    """The connected parts of each judged class, numbered from 1 on over all."""
    ids, tables = np.zeros(class_ids.shape, np.int32), [np.zeros((0, 5), np.int32)]
    classes: list[int] = []
    for class_id in judged:
        mask = (class_ids == class_id).astype(np.uint8)
        if not mask.any():
            continue
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        ids[parts > 0] = parts[parts > 0] + len(classes)
        tables.append(stats[1:])
        classes += [class_id] * (count - 1)
    table = np.vstack(tables).astype(np.float64)
    corners = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]])
    numbers = np.arange(1, len(table) + 1)
    return ids, Side(numbers, np.array(classes, np.int64), table[:, 4], corners, np.zeros(len(table), np.bool_))


def stated_errors() -> dict[str, str]:
    """What the conventions say."""
    return {
        "object_errors": "found and wrong_class from an IoU of 0.5 on; merged: a prediction covers half of it and of "
        "another object; split: predictions that lie by half in it cover half of it together; else missed"
    }
