"""Networks that choose their candidates: another order is no difference, other candidates are within bounds."""

from typing import Any

import numpy as np
import pytest

from sightline.core.errors import ParityError
from sightline.core.metadata import ModelMetadata, OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.deploy import ParityTolerance, check_parity
from sightline.deploy.candidates import pair_candidates
from sightline.infer import NetworkPredictor, Outputs

ROWS = 40
META = ModelMetadata.load(
    {
        "sightline_version": "0",
        "architecture": "constant",
        "arguments": {},
        "task": "instance",
        "class_names": ("car", "bus"),
        "preprocess": Preprocess(size_hw=(64, 96)),
        "operating_point": OperatingPoint(conf=0.3, suppression="none"),
        "model_digest": "sha256:0",
    }
)
IMAGE = np.zeros((64, 96, 3), np.uint8)


def candidates(seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    corner = rng.random((1, ROWS, 2)) * (60, 30)
    scores = np.zeros((1, ROWS, 2))
    scores[0, np.arange(ROWS), rng.integers(0, 2, ROWS)] = np.sort(rng.random(ROWS))[::-1]
    boxes = np.concatenate((corner, corner + 4 + rng.random((1, ROWS, 2)) * 24), 2)
    named = {"boxes_xyxy": boxes, "scores": scores, "box_masks": rng.random((1, ROWS, 6, 6))}
    return {name: array.astype(np.float32) for name, array in named.items()}


class Constant:
    backend = "test"

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def __call__(self, pixels: np.ndarray) -> tuple[Any, ...]:
        return tuple(np.repeat(array, len(pixels), 0) for array in self.outputs.values())


def predictor(outputs: Outputs) -> NetworkPredictor:
    return NetworkPredictor(Constant(outputs), META, OperatingPoint(conf=0.3, suppression="none"), where="test")


def in_order(outputs: Outputs, rows: np.ndarray) -> Outputs:
    return {name: array[:, rows] for name, array in outputs.items()}


def test_another_order_is_no_difference() -> None:
    first = candidates()
    rows = np.arange(ROWS)
    rows[5:9] = [8, 5, 7, 6]
    paired = pair_candidates(first, in_order(first, rows), 0.05, 1e-3)
    assert paired[2] == 0
    assert all(np.array_equal(paired[0][name], paired[1][name]) for name in first)
    report = check_parity(predictor(first), predictor(in_order(first, rows)), [IMAGE], chosen=True)
    assert report.max_abs_error == {"boxes_xyxy": 0.0, "scores": 0.0, "box_masks": 0.0}
    assert report.detections > 10
    assert report.least_mask_iou == 1.0
    with pytest.raises(ParityError, match=r"output 'boxes_xyxy' must be within 0\.05"):
        check_parity(predictor(first), predictor(in_order(first, rows)), [IMAGE])


def test_outputs_in_order_are_compared_as_they_are() -> None:
    first = candidates()
    near = {name: array + np.float32(1e-5) for name, array in first.items()}
    assert pair_candidates(first, near, 0.05, 1e-3) == (first, near, 0)


def test_a_few_other_candidates_are_rounding_and_many_are_not() -> None:
    first, other = candidates(), candidates(1)
    few, many = ({name: array.copy() for name, array in first.items()} for _ in range(2))
    for name, array in other.items():
        few[name][:, 10] = array[:, 10]
        many[name][:, 10:20] = array[:, 10:20]
    report = check_parity(predictor(first), predictor(few), [IMAGE], chosen=True)
    assert (report.borderline, report.max_abs_error["boxes_xyxy"]) == (2, 0.0)
    lenient = ParityTolerance(borderline_share=0.1)
    for limits, share in ((None, "1.0%"), (lenient, "10.0%")):
        message = rf"at most {share} of the candidates may hang on rounding, got 10 of 40"
        with pytest.raises(ParityError, match=message):
            check_parity(predictor(first), predictor(many), [IMAGE], limits, chosen=True)


def test_a_mask_within_a_box_that_differs_is_refused() -> None:
    first = candidates()
    other = {**first, "box_masks": 1 - first["box_masks"]}
    with pytest.raises(ParityError, match=r"output 'box_masks' must be within 0\.001, got"):
        check_parity(predictor(first), predictor(other), [IMAGE], chosen=True)
    with pytest.raises(ParityError, match=r"a mask may differ in 1\.0% of its \d+ pixels"):
        check_parity(predictor(first), Inverted(predictor(first)), [IMAGE], chosen=True)


class Inverted:
    """The same raw outputs, and other masks behind them."""

    def __init__(self, inner: NetworkPredictor) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def finish(self, outputs: Outputs, geometries: Any) -> list[Any]:
        return self.inner.finish({**outputs, "box_masks": 1 - outputs["box_masks"]}, geometries)
