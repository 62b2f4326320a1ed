"""Likely label errors, ranked by how firmly a model's predictions speak against the labels.

Labels and predictions are held side by side, image by image: which predictions speak against which labels.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from sightline.audit.labels.mask_errors import TOLERANCE_PX, find_mask_suspicions
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.core.kernels import njit
from sightline.core.predictions import Predictions
from sightline.core.results import Result
from sightline.data import finding
from sightline.evaluate import MATCH_IOU, detection_arrays, fit_predictions, match_detections
from sightline.ops.boxes import iou_matrix

__all__ = ["KINDS", "LabelErrors", "rank_label_errors"]

OVERLOOKED, BADLY_LOCATED, SWAPPED = 0, 1, 2
WELL_IOU = 0.7  # from here on the two agree about the place
NEAR_IOU = 0.1  # below, the prediction is about something else

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Suspicions:
    """Parallel arrays (K,): kind, label (-1: an overlooked object), prediction, IoU, suspicion.

    Labels and predictions are given by their rows in the data set's `objects` and the predictions' `table`.
    """

    kind: Ints
    label: Ints
    prediction: Ints
    iou: Floats
    suspicion: Floats


def find_suspicions(dataset: Dataset, predictions: Predictions) -> Suspicions:
    """Every prediction that speaks against the labels, with a suspicion in 0..1: see `rank_label_errors`.

    A prediction confirms the label it is matched with in evaluation. Others that are half inside a crowd or ignored
    object, or about what a better prediction is about, say nothing.
    """
    arrays = detection_arrays(dataset, predictions, "bbox")
    matching = match_detections(arrays, len(dataset.class_names), len(predictions))
    scores = arrays.detection_scores.clip(0, 1)
    parts = []
    for image in range(len(arrays.sizes_hw)):
        g = slice(arrays.truth_starts[image], arrays.truth_starts[image + 1])
        d = slice(arrays.detection_starts[image], arrays.detection_starts[image + 1])
        if d.start == d.stop:
            continue
        boxes, ignored = arrays.detection_boxes_xyxy[d], arrays.truth_crowd[g]
        overlap = matching.iou[matching.iou_starts[image] : matching.iou_starts[image + 1]].reshape(len(boxes), -1)
        confirmed = np.where(matching.true[d], matching.found[d] - g.start, -1)
        # Against a crowd or ignored object the overlap is the share of the prediction that is inside.
        beside = (confirmed < 0) & (overlap[:, ignored] >= MATCH_IOU).any(axis=1)
        _set_repeats_aside(iou_matrix(boxes, boxes), confirmed, beside)
        sides = (overlap, arrays.truth_classes[g], ignored, arrays.detection_classes[d])
        kind, label, prediction, iou, suspicion = _suspect(*sides, confirmed, beside, scores[d])
        labels = np.where(label < 0, -1, arrays.truth_rows[g.start + label] if len(ignored) else -1)
        parts.append((kind, labels, arrays.detection_rows[d.start + prediction], iou, suspicion))
    if not parts:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return Suspicions(none, none, none, nothing, nothing)
    return Suspicions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@njit(cache=True)
def _set_repeats_aside(iou: Floats, confirmed: Ints, beside: Bools) -> None:
    """Mark in `beside` the unconfirmed predictions that overlap a better one which is not itself set aside."""
    for p in range(len(confirmed)):
        if confirmed[p] >= 0:
            continue
        for q in range(p):
            beside[p] |= not beside[q] and iou[p, q] >= MATCH_IOU


@njit(cache=True)
def _suspect(
    overlap: Floats, label_classes: Ints, ignored: Bools, classes: Ints, confirmed: Ints, beside: Bools, scores: Floats
) -> tuple[Ints, Ints, Ints, Floats, Floats]:
    """Of one image: kind, label (or -1), prediction, IoU and suspicion; `overlap` is (predictions, labels)."""
    size = len(classes) + len(label_classes)
    kind, label, prediction = np.empty(size, np.int64), np.full(size, -1, np.int64), np.empty(size, np.int64)
    ious, suspicion = np.zeros(size), np.empty(size)
    count = 0
    used = beside | (confirmed >= 0)
    for g in range(len(label_classes)):
        if ignored[g]:
            continue
        found, p, iou, doubt = _doubt(overlap[:, g], label_classes[g], g, classes, confirmed, scores)
        if p >= 0:
            used[p] = True
        if doubt > 0:
            kind[count], label[count], prediction[count] = found, g, p
            ious[count], suspicion[count] = iou, doubt
            count += 1
    for p in range(len(classes)):
        if not used[p]:
            ious[count] = overlap[p].max() if len(label_classes) else 0.0
            kind[count], prediction[count], suspicion[count] = OVERLOOKED, p, scores[p] * (1.0 - ious[count])
            count += 1
    return kind[:count], label[:count], prediction[:count], ious[:count], suspicion[:count]


@njit(cache=True)
def _doubt(
    ious: Floats, class_id: int, g: int, classes: Ints, confirmed: Ints, scores: Floats
) -> tuple[int, int, float, float]:
    """What the predictions of its image say against label `g`: kind, prediction (or -1), IoU, suspicion (or 0)."""
    same, same_iou, same_score = -1, NEAR_IOU, 0.0
    other, other_iou, other_score = -1, 0.0, 0.0
    for p in range(len(ious)):
        iou = ious[p]
        if classes[p] == class_id:
            same_score = max(same_score, scores[p]) if iou >= MATCH_IOU else same_score
            if iou >= same_iou and (confirmed[p] < 0 or confirmed[p] == g):
                same, same_iou = p, iou
        elif iou >= MATCH_IOU and confirmed[p] < 0 and scores[p] > other_score:
            other, other_iou, other_score = p, iou, scores[p]
    swapped = other_score * other_iou * (1.0 - same_score)
    misplaced = scores[same] * (1.0 - same_iou) if same >= 0 and same_iou < WELL_IOU else 0.0
    if swapped > misplaced:
        return SWAPPED, other, other_iou, swapped
    return BADLY_LOCATED, same, same_iou, misplaced


KINDS = ("overlooked", "badly_located", "swapped")
LEAST = 0.1  # what is suspected less is not kept
REPORTED = {"overlooked": 0.5, "badly_located": 0.3, "swapped": 0.5}
"""The suspicion from which an error is a finding. An IoU of 0.5 alone keeps that of a bad place at 0.5."""
_TEMPERATURE = 0.1
_PLACE = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class LabelErrors(Result):
    """Suspected label errors, the most suspicious first, by place and by image.

    `errors`: kind (`overlooked`, `badly_located`, `swapped`), suspicion (0..1, 1 being surest), image_id, path,
    object_id (of the label; empty for an overlooked object and for semantic masks), label (its class; empty for an
    overlooked object), predicted (class), score, iou, x1, y1, x2, y2 (what the model sees), label_x1 to label_y2.
    `per_image`: image_id, path, suspicion and the number of errors of each kind.
    """

    errors: pl.DataFrame
    per_image: pl.DataFrame
    conventions: dict[str, Any]

    def to_frame(self) -> pl.DataFrame:
        """The suspected errors, the most suspicious first."""
        return self.errors

    def findings(self, top: int = 50) -> list[Finding]:
        """The `top` most suspicious errors of each kind as findings, where the suspicion reaches `REPORTED`."""
        found = []
        for kind in KINDS:
            rows = self.errors.filter((pl.col("kind") == kind) & (pl.col("suspicion") >= REPORTED[kind])).head(top)
            for row in rows.iter_rows(named=True):
                place = {"path": row["path"], "image_id": row["image_id"]}
                box = (row["x1"], row["y1"], row["x2"], row["y2"])
                found.append(finding(f"label-{kind.replace('_', '-')}", _sentence(row), **place, box_xyxy=box))
        return found


def rank_label_errors(dataset: Dataset, predictions: Predictions) -> LabelErrors:
    """Where confident predictions contradict the labels. The model should not have been trained on these images.

    With boxes (instances are compared by their boxes), s being the score of the prediction p:

    - overlooked: p is near no label that it could stand for. Suspicion s * (1 - largest IoU with any label).
    - badly located: p is the label's own class and overlaps it by 0.1 to 0.7. Suspicion s * (1 - IoU).
    - swapped: p is another class and overlaps the label by 0.5 or more. Suspicion s * IoU * (1 - the best score of a
      prediction of the label's own class there).

    A prediction counts once; those that repeat a better one or lie in a crowd or ignored region do not count. With
    semantic masks, for each class: the share of pixels that only the prediction gives it (overlooked; swapped where
    another foreground class is labelled) or only the label (badly located), without a border of 3 pixels. An image's
    suspicion is the soft maximum over its errors. Below 0.1 nothing is kept.

    DataError when the predictions are for other classes or images, or lack the masks of a semantic data set.

    Source: the three kinds, and pooling them by a soft maximum, are those of ObjectLab (Tkachenko, Thyagarajan and
    Mueller 2023, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection Data").
    """
    predictions = fit_predictions(dataset, predictions)
    if dataset.task == "semantic":
        rows, rule = find_mask_suspicions(dataset, predictions), f"pixels, {TOLERANCE_PX} at borders left out"
    else:
        rows, rule = _object_rows(dataset, predictions), f"boxes; IoU {NEAR_IOU}, {MATCH_IOU}, {WELL_IOU}"
    paths = dataset.images.select("image_id", "path")
    errors = (
        rows.filter(pl.col("suspicion") >= LEAST)
        .join(paths, on="image_id", maintain_order="left")
        .sort("suspicion", "path", "kind", "x1", "y1", descending=[True, False, False, False, False])
    )
    front = ["kind", "suspicion", "image_id", "path", "object_id", "label", "predicted", "score", "iou", *_PLACE]
    conventions = {
        "compared": rule,
        "least_suspicion": LEAST,
        "reported_from": REPORTED,
        "images": int(predictions.table["image_id"].n_unique()),
        "predictions": len(predictions),
        **predictions.left_out(),
        "prediction_digest": predictions.digest(),
        "source": "after ObjectLab (Tkachenko et al. 2023)",
    }
    return LabelErrors(errors.select(*front, *(f"label_{c}" for c in _PLACE)), _by_image(errors, paths), conventions)


def _object_rows(dataset: Dataset, predictions: Predictions) -> pl.DataFrame:
    found = find_suspicions(dataset, predictions)
    names = pl.Series(dataset.class_names, dtype=pl.String)
    of_prediction = predictions.table[found.prediction].select("image_id", "class_id", "score", *_PLACE)
    # Row -1, no label, is taken from an appended row of nulls.
    objects = dataset.objects
    empty = pl.DataFrame({c: [None] for c in objects.columns}, schema=objects.schema)
    labels = pl.concat([objects, empty])[np.where(found.label < 0, objects.height, found.label)]
    return of_prediction.select(
        "image_id",
        "score",
        *_PLACE,
        kind=pl.Series([KINDS[k] for k in found.kind.tolist()], dtype=pl.String),
        suspicion=pl.Series(found.suspicion),
        object_id=labels["object_id"],
        label=names.gather(labels["class_id"]),
        predicted=names.gather(of_prediction["class_id"]),
        iou=pl.Series(found.iou),
        **{f"label_{c}": labels[c] for c in _PLACE},
    )


def _by_image(errors: pl.DataFrame, paths: pl.DataFrame) -> pl.DataFrame:
    weight = (pl.col("suspicion") / _TEMPERATURE).exp()
    images = errors.group_by("image_id").agg(
        suspicion=(pl.col("suspicion") * weight).sum() / weight.sum(),
        **{kind: (pl.col("kind") == kind).sum() for kind in KINDS},
    )
    images = images.join(paths, on="image_id").select("image_id", "path", "suspicion", *KINDS)
    return images.sort("suspicion", "path", descending=[True, False])


def _sentence(row: dict[str, Any]) -> str:
    where = ", ".join(f"{c}={row[c]:.6g}" for c in _PLACE)
    said = f"suspicion {row['suspicion']:.2f}, score {row['score']:.2f}"
    if row["kind"] == "overlooked":
        return f"the model sees {row['predicted']} at {where}, and no label is there ({said})"
    if row["label"] != row["predicted"]:
        return f"labelled {row['label']}, the model sees {row['predicted']} at {where} ({said})"
    return f"the model sees {row['label']} at {where}, the label has IoU {row['iou']:.2f} with it ({said})"
