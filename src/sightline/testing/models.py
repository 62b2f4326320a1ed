"""What every model must pass before it is trusted: the one suite for ours and for plug-ins."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from sightline.core.errors import ModelError
from sightline.core.keypoints import Keypoints
from sightline.core.preprocess import Preprocess
from sightline.models import MASK_STRIDE, Decoded, Model, Targets, not_exportable

__all__ = ["check_model"]

_TASKS = ("detect", "instance", "obb", "pose", "semantic")
_TOLERANCE = 1e-3


def check_model(model: Model, *, size_hw: tuple[int, int] | None = None) -> None:
    """Check a model against the contract; ModelError names the first thing that does not hold.

    Checked at `size_hw` (its own input size where None) with random images: attributes; shapes, ranges and finiteness
    of decoded outputs; images of a batch do not influence each other in evaluation; named finite losses whose sum gives
    every trainable parameter a finite gradient, with and without objects; export with a free batch size, unless the
    model states why it has none.
    The model and the global random generator are left as they were.
    """
    _check_attributes(model)
    subject = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        height, width = size_hw or model.preprocess.size_hw
        images = torch.rand(3, model.preprocess.channel_count, height, width)
        _check_decoded(subject, images)
        _check_losses(subject, images)
        if not_exportable(subject) is None:
            _check_export(subject, images)


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise ModelError(f"model '{name}': {what}")


def _check_attributes(model: Model) -> None:
    name = getattr(model, "name", type(model).__name__)
    _require(isinstance(model, nn.Module), name, f"must be a torch.nn.Module, got {type(model).__name__}")
    for attribute in ("name", "task", "class_names", "preprocess", "arguments", "class_tensors", "loss", "decode"):
        _require(hasattr(model, attribute), name, f"must have '{attribute}'")
    _require(model.task in _TASKS, name, f"task must be one of {_TASKS}, got {model.task!r}")
    names = model.class_names
    sound = isinstance(names, tuple) and len(names) > 0 and all(isinstance(n, str) for n in names)
    _require(sound, name, f"class_names must be a tuple of names, got {names!r}")
    _require(isinstance(model.preprocess, Preprocess), name, "preprocess must be a Preprocess")


def _outputs(decoded: Any) -> list[Tensor]:
    return list(decoded) if isinstance(decoded, (tuple, list)) else [decoded]


def _check_decoded(model: Model, images: Tensor) -> None:
    whole_model = Decoded(model)
    with torch.no_grad():
        outputs = _outputs(whole_model(images))
        alone = _outputs(whole_model(images[1:2]))
    for tensor in outputs:
        plain = isinstance(tensor, Tensor) and tensor.dtype == torch.float32
        _require(plain, model.name, "decode must give float32 tensors")
        _require(bool(torch.isfinite(tensor).all()), model.name, "decode must give finite values")
    if model.task == "detect":
        _check_detections(model, outputs, len(images))
    elif model.task == "instance":
        _check_detections(model, outputs[:2], len(images))
        _check_masks(model, outputs, images)
    elif model.task == "obb":
        _check_detections(model, outputs[:2], len(images))
        shapes = [tuple(t.shape) for t in outputs[2:]]
        what = f"decode must give oriented boxes (B, A, 5) beside boxes and scores, got {shapes}"
        _require(shapes == [(*outputs[0].shape[:2], 5)], model.name, what)
    elif model.task == "pose":
        _check_detections(model, outputs[:2], len(images))
        _check_keypoints(model, outputs)
    else:
        _check_probabilities(model, outputs, images)
    for tensor, single in zip(outputs, alone, strict=True):
        same = torch.allclose(tensor[1:2], single, rtol=_TOLERANCE, atol=_TOLERANCE)
        _require(same, model.name, "an image's outputs must not depend on the others of its batch in evaluation")


def _check_detections(model: Model, outputs: list[Tensor], batch: int) -> None:
    shapes = [tuple(t.shape) for t in outputs]
    sound = len(outputs) == 2 and outputs[0].ndim == 3
    expected = [(batch, shapes[0][1], 4), (batch, shapes[0][1], len(model.class_names))] if sound else None
    _require(shapes == expected, model.name, f"decode must give (B, A, 4) and (B, A, C), got {shapes}")
    boxes, scores = outputs
    _require(bool((boxes[..., 2:] >= boxes[..., :2]).all()), model.name, "decoded boxes must have x2 >= x1, y2 >= y1")
    _require(float(scores.min()) >= 0 and float(scores.max()) <= 1, model.name, "decoded scores must lie in 0..1")


def _check_masks(model: Model, outputs: list[Tensor], images: Tensor) -> None:
    shapes = [tuple(t.shape) for t in outputs[2:]]
    if len(shapes) == 1:
        sound = len(shapes[0]) == 4 and shapes[0][:2] == tuple(outputs[0].shape[:2])
        _require(sound, model.name, f"decode must give box_masks (B, A, h, w) beside boxes and scores, got {shapes}")
        in_range = float(outputs[2].min()) >= 0 and float(outputs[2].max()) <= 1
        _require(in_range, model.name, "decoded masks within boxes must lie in 0..1")
        return
    batch, anchors, (height, width) = len(images), outputs[0].shape[1], images.shape[2:]
    count = shapes[0][-1] if shapes else None
    expected = [(batch, anchors, count), (batch, count, height // MASK_STRIDE, width // MASK_STRIDE)]
    what = "decode must give coefficients (B, A, M) and prototypes (B, M, H / 4, W / 4) beside boxes and scores"
    _require(shapes == expected, model.name, f"{what}, got {shapes}")


def _check_keypoints(model: Model, outputs: list[Tensor]) -> None:
    shapes, count = [tuple(t.shape) for t in outputs[2:]], _keypoint_count(model)
    expected = [(*outputs[0].shape[:2], count, 3)]
    what = f"decode must give {count} keypoints (B, A, K, 3) beside boxes and scores"
    _require(shapes == expected, model.name, f"{what}, got {shapes}")
    located = outputs[2][..., 2]
    _require(float(located.min()) >= 0 and float(located.max()) <= 1, model.name, "keypoints' scores must lie in 0..1")


def _keypoint_count(model: Model) -> int:
    """How many the model says it gives."""
    _require("keypoints" in model.arguments, model.name, "a model of task pose must say arguments['keypoints']")
    return len(Keypoints.load(dict(model.arguments["keypoints"])))


def _check_probabilities(model: Model, outputs: list[Tensor], images: Tensor) -> None:
    shapes = [tuple(t.shape) for t in outputs]
    expected = [(len(images), len(model.class_names), *images.shape[2:])]
    _require(shapes == expected, model.name, f"decode must give {expected}, got {shapes}")
    totals = outputs[0].sum(1)
    in_range = float(outputs[0].min()) >= 0 and torch.allclose(totals, torch.ones_like(totals), atol=1e-4)
    _require(in_range, model.name, "decoded probabilities must be at least 0 and sum to 1 over the classes")


def sample_targets(model: Model, images: Tensor, *, empty: bool) -> Targets:
    """Random ground truth for a batch; `empty`: no objects, or a mask whose pixels are all ignored."""
    batch, _, height, width = images.shape
    classes = len(model.class_names)
    if model.task == "semantic":
        mask = torch.randint(0, classes, (batch, height, width))
        return {"mask": torch.full_like(mask, 255) if empty else mask}
    count = 0 if empty else 4 * batch
    corner = torch.rand(count, 2) * 0.5
    boxes = torch.cat((corner, corner + 0.2 + torch.rand(count, 2) * 0.3), 1) * torch.tensor([width, height] * 2)
    targets = {
        "boxes": boxes,
        "labels": torch.randint(0, classes, (count,)),
        "batch_index": torch.arange(count) % batch,
    }
    if model.task == "instance":
        cells = boxes / MASK_STRIDE
        targets["cells"] = torch.cat((cells[:, :2].floor(), cells[:, 2:].ceil()), 1).long()
        areas = (targets["cells"][:, 2:] - targets["cells"][:, :2]).prod(1)
        targets["masks"] = torch.randint(0, 256, (int(areas.sum()),), dtype=torch.uint8)
    if model.task == "obb":
        middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * 0.7
        targets["oriented"] = torch.cat((middle, sides, torch.rand(count, 1) * 1.5), 1)
    if model.task == "pose":
        shares = torch.rand(count, _keypoint_count(model), 2)
        places = boxes[:, None, :2] + shares * (boxes[:, 2:] - boxes[:, :2])[:, None]
        targets["keypoints"] = torch.cat((places, torch.randint(0, 3, (*places.shape[:2], 1)).float()), -1)
    return targets


def _check_losses(model: Model, images: Tensor) -> None:
    takes = list(inspect.signature(model.loss).parameters)
    _require(takes == ["raw", "targets", "total"], model.name, f"loss must take raw, targets and total, got {takes}")
    model.train()
    for empty in (True, False):
        for parameter in model.parameters():
            parameter.grad = None
        summed: list[Tensor] = []

        def total(values: Tensor, summed: list[Tensor] = summed) -> Tensor:
            summed.append(values)
            return values

        terms = model.loss(model(images), sample_targets(model, images, empty=empty), total)
        _require(isinstance(terms, dict) and len(terms) > 0, model.name, "loss must give a dictionary of named terms")
        for key, term in terms.items():
            scalar = term.ndim == 0 and term.dtype == torch.float32 and bool(torch.isfinite(term))
            state = "without objects" if empty else "with objects"
            _require(scalar, model.name, f"loss term '{key}' must be a finite float32 scalar {state}, got {term}")
        whole = torch.stack(list(terms.values())).sum()
        _require(whole.requires_grad, model.name, "the loss must carry a gradient")
        _require(bool(summed), model.name, "loss must add up over the batch through 'total', which it never called")
        torch.autograd.backward(whole)
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                finite = bool(torch.isfinite(parameter.grad).all())
                _require(finite, model.name, f"the gradient of '{key}' must be finite")
            elif parameter.requires_grad and not empty:
                _require(False, model.name, f"trainable parameter '{key}' must get a gradient, got none")


def _check_export(model: Model, images: Tensor) -> None:
    whole_model = Decoded(model)
    dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    try:
        program = torch.export.export(whole_model, (images[:2],), dynamic_shapes=dynamic)
    except Exception as error:  # noqa: BLE001 - whatever tracing raises, the contract is broken
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model '{model.name}': must be exportable with a free batch size, got: {first_line}"
        ) from None
    with torch.no_grad():
        pairs = zip(_outputs(whole_model(images)), _outputs(program.module()(images)), strict=True)
        same = all(torch.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE) for a, b in pairs)
    _require(same, model.name, "the exported program must give the model's outputs")
