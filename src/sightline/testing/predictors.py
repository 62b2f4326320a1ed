"""What every predictor must pass: the suite for ours and for plug-ins."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import supervision as sv

from sightline.core.errors import SightlineError
from sightline.core.frames import SemanticMap
from sightline.infer import Image, Prediction, Predictor

__all__ = ["check_predictor"]


def check_predictor(predictor: Predictor, images: Sequence[Image] | None = None) -> None:
    """Raise SightlineError naming the first rule of `Predictor` broken on the images (random ones by default)."""
    if not isinstance(predictor, Predictor):
        _fail("have task, class_names, preprocess and be callable", type(predictor).__name__)
    if predictor.task not in ("detect", "instance", "obb", "pose", "semantic"):
        _fail("have the task detect, instance, obb, pose or semantic", repr(predictor.task))
    if not isinstance(predictor.class_names, tuple) or not all(isinstance(n, str) for n in predictor.class_names):
        _fail("have class_names as a tuple of names", repr(predictor.class_names))
    given = list(images) if images is not None else _random_images()
    before = [image.copy() for image in given]
    answers: list[Any] = list(predictor(given))
    if len(answers) != len(given):
        _fail("return one prediction for each image", f"{len(answers)} for {len(given)} images")
    if any(not np.array_equal(image, copy) for image, copy in zip(given, before, strict=True)):
        _fail("leave the images it is given as they are", "changed pixels")
    for image, answer in zip(given, answers, strict=True):
        _check_answer(predictor, answer, (image.shape[0], image.shape[1]))
        _check_same(answer, predictor([image])[0])
    if list(predictor([])):
        _fail("answer no images with an empty list", "something else")


def _random_images() -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((120, 160), (97, 61), (120, 160))]


def _check_answer(predictor: Predictor, answer: Prediction, size_hw: tuple[int, int]) -> None:
    if predictor.task == "semantic":
        if not isinstance(answer, SemanticMap) or answer.class_ids.shape != size_hw:
            _fail(f"return a SemanticMap of the image's size {size_hw}", _describe(answer))
        if answer.class_names != predictor.class_names or answer.class_ids.max() >= len(predictor.class_names):
            _fail("use class ids below the number of class_names", str(answer.class_ids.max()))
        return
    if not isinstance(answer, sv.Detections):
        _fail("return supervision.Detections", _describe(answer))
    if answer.confidence is None or answer.class_id is None:
        _fail("set confidence and class_id, also on empty detections", "None")
    scores, class_ids = answer.confidence, answer.class_id
    if len(scores) and (scores.min() < 0 or scores.max() > 1 or (np.diff(scores) > 0).any()):
        _fail("give scores in 0..1 by descending score", f"{scores[:5]}")
    if len(class_ids) and (class_ids.min() < 0 or class_ids.max() >= len(predictor.class_names)):
        _fail("use class ids below the number of class_names", str(class_ids.max()))
    expected = [predictor.class_names[int(c)] for c in class_ids]
    if [str(n) for n in answer.data.get("class_name", [])] != expected:
        _fail('name each class in data["class_name"]', str(answer.data.get("class_name")))
    shape = (len(answer), *size_hw) if predictor.task == "instance" else None
    if shape != (None if answer.mask is None else tuple(answer.mask.shape)):
        _fail(f"give masks {shape}", str(None if answer.mask is None else answer.mask.shape))
    if predictor.task == "pose":
        _check_keypoints(answer, size_hw)
    if predictor.task == "obb" and np.shape(answer.data.get("oriented", ())) != (len(answer), 5):
        _fail('give oriented boxes (N, 5) in data["oriented"]', str(np.shape(answer.data.get("oriented", ()))))
    height, width = size_hw
    boxes = answer.xyxy
    if len(boxes) and (boxes.min() < 0 or boxes[:, 2].max() > width or boxes[:, 3].max() > height):
        _fail("return boxes inside the image", f"{boxes.min(axis=0)}..{boxes.max(axis=0)} in {size_hw}")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        _fail("return boxes with an area", "an empty box")


def _check_keypoints(answer: sv.Detections, size_hw: tuple[int, int]) -> None:
    points = np.asarray(answer.data.get("keypoints", ()))
    if points.ndim != 3 or points.shape[0] != len(answer) or points.shape[2] != 3:
        _fail('give keypoints (N, K, 3) in data["keypoints"]', str(points.shape))
    if len(points) and (points.min() < 0 or (points.max((0, 1)) > (size_hw[1], size_hw[0], 1)).any()):
        found = f"{points.min((0, 1))}..{points.max((0, 1))} in {size_hw}"
        _fail("return keypoints inside the image with scores in 0..1", found)


def _check_same(batched: Prediction, alone: Prediction) -> None:
    # Networks round differently for other batch sizes; a prediction that moves by more depends on its neighbours.
    if isinstance(batched, SemanticMap) and isinstance(alone, SemanticMap):
        if (batched.class_ids != alone.class_ids).mean() > 1e-3:
            _fail("predict an image alike alone and in a batch", "other pixels")
    elif isinstance(batched, sv.Detections) and isinstance(alone, sv.Detections):
        same = len(batched) == len(alone) and np.allclose(batched.xyxy, alone.xyxy, rtol=0, atol=0.1)
        if not same:
            _fail("predict an image alike alone and in a batch", f"{len(batched)} and {len(alone)} detections")


def _describe(answer: object) -> str:
    return f"{type(answer).__name__} {getattr(getattr(answer, 'class_ids', None), 'shape', '')}".strip()


def _fail(rule: str, got: str) -> NoReturn:
    raise SightlineError(f"a predictor must {rule}, got {got}", do="see sightline.infer.Predictor")
