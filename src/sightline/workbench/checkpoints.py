"""Adopting weights: what needs torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, ModelError, ParityError
from sightline.deploy import ParityTolerance
from sightline.infer import (
    AdoptHints,
    Image,
    NetworkPredictor,
    Outputs,
    open_predictor,
    predictor_from_model,
    read_onnx,
)
from sightline.media import read_image
from sightline.models import adopt_checkpoint, save_weights
from sightline.workbench.adoption import spread_images

__all__ = ["adopt_weights"]

_HEADS = ("yolo8", "yolo8-rows", "yolo5")
_COMPARED = 8
_ONE_TO_ONE = ", by the head that finds each object once (of Ultralytics: end2end=True)"


def adopt_weights(
    path: Path,
    target: Path,
    *,
    class_names: Sequence[str] | None,
    dataset: Dataset | None,
    onnx: str | Path | None,
    hints: AdoptHints,
) -> tuple[NetworkPredictor, Mapping[str, str]]:
    """Write the weights of a checkpoint as ours, after they gave the outputs of `onnx` where that is given.

    Returns the predictor of the file and what was checked. ParityError where the outputs differ.
    """
    found = adopt_checkpoint(path, class_names=class_names, imgsz=hints.imgsz, licence=hints.licence)
    checks = dict(found.evidence)
    if onnx is None:
        checks["outputs"] = "NOT MEASURED: no ONNX export by the same tool was given (--onnx)"
    else:
        checks["outputs"] = _compare(predictor_from_model(found.model, device="cpu"), onnx, dataset)
    save_weights(target, found.model, found.meta)
    return open_predictor(target, device="cpu"), checks


def _compare(own: NetworkPredictor, onnx: str | Path, dataset: Dataset | None) -> str:
    """How far the raw outputs of both lie apart on images of the data set, on noise without one."""
    try:
        hints = AdoptHints(channels="rgb", scale="0..1", fit="letterbox")
        other = read_onnx(onnx, class_names=own.class_names, hints=hints).predictor
    except ConfigError as error:
        message = f"the export must give raw outputs of the same classes: {error.what}"
        raise ModelError(message, where=str(onnx), do="export the same checkpoint with its own tool") from None
    decoding = other.metadata.decoding
    point = own.metadata.operating_point
    finds_once = point is not None and point.suppression == "none"  # what its export keeps is chosen by score alone
    if decoding is None or decoding.reading not in (*_HEADS, *(["one-to-one"] if finds_once else [])):
        got = "another graph" if decoding is None else f"the reading '{decoding.name}'"
        do = "export it again with its suppression left out"
        raise ModelError(f"the export must end in the head's own outputs, got {got}", where=str(onnx), do=do)
    rival = finds_once and not decoding.suppressed
    own = own.resized(other.preprocess.size_hw)
    limits, apart = ParityTolerance(), []
    for image in (pictures := _pictures(dataset, other.preprocess.size_hw)):
        batch = own.prepare([image])
        expected, mine = other.run(batch.pixels), own.run(batch.pixels)
        if decoding.suppressed:
            mine = _chosen(mine, expected)
        shapes = [{name: array.shape for name, array in given.items()} for given in (mine, expected)]
        if shapes[0] != shapes[1]:
            raise ParityError(f"outputs must be those of the export, {shapes[1]}, got {shapes[0]}", where=str(onnx))
        apart.append([np.abs(array - mine[name]).max() for name, array in expected.items()])
    # Boxes; then scores, and of masks what is multiplied and added to their logits. No number stays none.
    worst = np.max(apart, 0)
    worst_box, worst_rest = float(worst[0]), float(worst[1:].max())
    if not (worst_box <= limits.box_px and worst_rest <= limits.score):
        raise ParityError(
            f"outputs must be those of the export within {limits.box_px:g} px and {limits.score:g}, "
            f"got differences of {worst_box:.3g} px and {worst_rest:.3g}",
            where=str(onnx),
            do="nothing was written; give the export of this very checkpoint" + (_ONE_TO_ONE if rival else ""),
        )
    kind = "images" if dataset is not None else "pictures of noise"
    return f"those of {Path(onnx).name} on {len(pictures)} {kind}: within {worst_box:.1e} px and {worst_rest:.1e}"


def _chosen(mine: Outputs, expected: Outputs) -> Outputs:
    """Of the own candidates of one picture those that the export chose: of its class the nearest in box and score."""
    scores, boxes = expected["scores"][0], expected["boxes_xyxy"][0]
    classes = scores.argmax(1)
    own = mine["scores"][0][:, classes].T
    apart = np.abs(mine["boxes_xyxy"][0] - boxes[:, None]).max(2) + np.abs(own - scores.max(1)[:, None])
    rows = apart.argmin(1)
    taken = {name: array if name == "prototypes" else array[:, rows] for name, array in mine.items()}
    return taken | {"scores": np.where(scores < 0, scores, taken["scores"])}


def _pictures(dataset: Dataset | None, size_hw: tuple[int, int]) -> list[Image]:
    if dataset is not None:
        return [read_image(path) for path in spread_images(dataset, _COMPARED)]
    values = np.random.default_rng(0).integers(0, 256, (_COMPARED, *size_hw, 3), np.uint8)
    return list(values)
