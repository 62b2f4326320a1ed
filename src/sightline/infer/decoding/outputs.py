"""The outputs of a graph made elsewhere as boxes and scores, or probabilities, of our own contract."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.core.decoding import Decoding

__all__ = ["decode_outputs", "pairs_of"]

Array: TypeAlias = npt.NDArray[np.float32]
_NOTHING = np.float32(-1)
"""The score of a class that a box was not given: below every threshold, 0 included."""


def decode_outputs(
    decoding: Decoding, outputs: Sequence[npt.NDArray[Any]], size_hw: tuple[int, int], class_count: int
) -> tuple[Array, ...]:
    """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C), with masks coefficients (B, A, M) and prototypes
    (B, M, h, w) too; of maps probabilities (B, C, H, W) at network size.

    ValueError where the arrays are not of the shapes the decoding says for so many classes.
    """
    if decoding.reading == "map":
        return (_map(decoding, _floats(outputs[0]), size_hw, class_count),)
    if decoding.reading == "ids":
        return (_of_ids(outputs[0], size_hw, class_count),)
    beside: tuple[Array, ...] = ()
    if decoding.masks:
        outputs, beside = _without_masks(decoding, outputs)
    boxes, scores = pairs_of(decoding, outputs, class_count)
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or scores.shape != (*boxes.shape[:2], class_count):
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape} of {class_count} classes")
    return _corners(boxes, decoding, size_hw), scores, *beside


def _without_masks(decoding: Decoding, outputs: Sequence[npt.NDArray[Any]]) -> tuple[list[Array], tuple[Array, Array]]:
    """The first output without the coefficients of masks; those (B, A, M), and the prototypes (B, M, h, w)."""
    values, prototypes = (_floats(array) for array in outputs)
    along = 1 if decoding.reading == "yolo8" else 2
    if values.ndim != 3 or prototypes.ndim != 4 or values.shape[along] <= prototypes.shape[1]:
        raise ValueError(f"boxes {values.shape} and prototypes {prototypes.shape}")
    rest, coefficients = np.split(values, [values.shape[along] - prototypes.shape[1]], along)
    return [rest], (coefficients.transpose(0, 2, 1) if along == 1 else coefficients, prototypes)


def pairs_of(decoding: Decoding, outputs: Sequence[npt.NDArray[Any]], class_count: int) -> tuple[Array, Array]:
    """Boxes (B, A, 4) as the graph writes them and scores (B, A, C) in 0..1, the class that is no object left out."""
    first = _floats(outputs[0])
    match decoding.reading:
        case "yolo8":
            rows = first.transpose(0, 2, 1)
            return rows[..., :4], _activate(rows[..., 4:], decoding)
        case "yolo8-rows":
            return first[..., :4], _activate(first[..., 4:], decoding)
        case "yolo5":
            values = _activate(first[..., 4:], decoding)
            return first[..., :4], values[..., :1] * values[..., 1:]
        case "one-to-one":
            return first[..., :4], _one_hot(first[..., 5], first[..., 4], class_count)
        case "labelled":
            boxes = first.reshape(1, -1, 4)
            # Labels may come as numbers of any type; a class that is no object shifts them.
            ids = _floats(outputs[1]).reshape(1, -1) - (decoding.background == "first")
            return boxes, _one_hot(ids, _floats(outputs[2]).reshape(1, -1), class_count)
    scores = _activate(first, decoding)
    if decoding.background != "none":
        scores = scores[..., 1:] if decoding.background == "first" else scores[..., :-1]
    return _floats(outputs[1]), scores


def _floats(array: npt.NDArray[Any]) -> Array:
    return np.asarray(array, np.float32)


def _activate(values: Array, decoding: Decoding) -> Array:
    if decoding.scores == "sigmoid":
        return sigmoid(values)
    return softmax(values, -1) if decoding.scores == "softmax" else values


def sigmoid(values: Array) -> Array:
    """1 / (1 + e^-x) without overflow."""
    return np.asarray(0.5 * (np.tanh(0.5 * values) + 1), np.float32)


def softmax(values: Array, axis: int) -> Array:
    """Shares that sum to 1 along an axis."""
    grown = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(grown / grown.sum(axis=axis, keepdims=True), np.float32)


def _one_hot(class_ids: Array, scores: Array, class_count: int) -> Array:
    """(B, K) ids and scores -> (B, K, C); ids of no class give no score."""
    return np.where(class_ids[..., None] == np.arange(class_count), scores[..., None], _NOTHING)


def _corners(boxes: Array, decoding: Decoding, size_hw: tuple[int, int]) -> Array:
    if decoding.boxes == "cxcywh":
        half = boxes[..., 2:] / 2
        boxes = np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), -1)
    elif decoding.boxes == "yxyx":
        boxes = boxes[..., [1, 0, 3, 2]]
    if decoding.units == "share":
        boxes = boxes * np.array([size_hw[1], size_hw[0]] * 2, np.float32)
    return np.ascontiguousarray(boxes)


def _map(decoding: Decoding, values: Array, size_hw: tuple[int, int], class_count: int) -> Array:
    if values.ndim != 4 or ((values.shape[1], class_count) != (1, 2) and values.shape[1] != class_count):
        raise ValueError(f"a map {values.shape} of {class_count} classes")
    if decoding.scores == "softmax":
        values = softmax(values, 1)
    elif decoding.scores == "sigmoid":
        values = sigmoid(values)
    if values.shape[1] == 1:
        values = np.concatenate((1 - values, values), 1)
    return np.stack([_resized(planes, size_hw) for planes in values])


def _of_ids(ids: npt.NDArray[Any], size_hw: tuple[int, int], class_count: int) -> Array:
    maps = ids[:, 0] if ids.ndim == 4 and ids.shape[1] == 1 else ids
    if maps.ndim != 3:
        raise ValueError(f"a map of ids {ids.shape}")
    shares = (maps[:, None] == np.arange(class_count)[:, None, None]).astype(np.float32)
    return np.stack([_resized(planes, size_hw) for planes in shares])


def _resized(planes: Array, size_hw: tuple[int, int]) -> Array:
    if planes.shape[1:] == size_hw:
        return planes
    return np.stack([cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in planes])
