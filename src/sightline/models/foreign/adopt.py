"""A checkpoint of another tool becomes a model of this one: which network it is, and what shows that it is that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.core.errors import InputError, ModelError
from sightline.core.files import plain
from sightline.models.blocks import YOLO_BN_EPS, fuse
from sightline.models.contract import Decoded, Model
from sightline.models.foreign.checkpoint import read_checkpoint
from sightline.models.foreign.mapping import Fit, Rows, fit_tensors, foreign_rows
from sightline.models.foreign.source import ForeignModel, find_model
from sightline.models.registry import build_shapes, create
from sightline.models.weights_file import load_tensors
from sightline.models.yolo.anchor_head import AnchorHead
from sightline.models.yolo.builders import YOLOS, rows_of
from sightline.models.yolo.detector import YoloDetector
from sightline.models.yolo.head import STRIDES

__all__ = ["AdoptedModel", "adopt_checkpoint"]

_DEFAULT_IMGSZ = 640
_PROBE_SIDE = 128
_ULTRALYTICS_POSITION = 7  # cells a side of the positional convolution in its form of YOLO12
_TASKS = {"detect": "detect", "segment": "instance"}
"""Tasks by the names they have there, and here."""
_FUSED_TOLERANCE = 1e-3  # relative to the greatest output; folding rounds every layer once more


@dataclass(frozen=True)
class AdoptedModel:
    """The network with the tensors of the file, in evaluation mode; what its metadata is to say; and the evidence."""

    model: Model
    meta: dict[str, Any]
    evidence: dict[str, str]


def adopt_checkpoint(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    imgsz: int | tuple[int, int] | None = None,
    licence: str | None = None,
) -> AdoptedModel:
    """The model in another tool's checkpoint as one of the networks registered here, equal in every tensor's shape.

    Class names, size and licence come from the file where not given. Raises ModelError for a file that is no checkpoint
    and for a network that is none of those here, saying which is nearest and where it first differs.
    """
    where = str(path)
    found = find_model(read_checkpoint(path))
    _check_source(found, where)
    rows = foreign_rows(found.tensors)
    if rows is None or len(rows) < 2:
        raise ModelError("the tensors must be those of a YOLO's numbered blocks, got others", where=where)
    names = _names(found, rows, class_names, where)
    name, fit = _search(rows, names, found, where)
    size = _whole(imgsz or found.imgsz or _DEFAULT_IMGSZ)
    with torch.random.fork_rng(devices=[]):
        model = create(name, class_names=names, imgsz=size)
    if found.task is not None and _TASKS[found.task] != model.task:
        message = f"the task stated, '{found.task}', must be that of the tensors, got those of '{name}' ({model.task})"
        raise ModelError(message, where=where)
    load_tensors(model, fit.tensors, where)
    model.eval()
    evidence = {"tensors": f"all {fit.count} in place, each of the shape '{name}' has"} | _check_sense(
        model, found, where
    )
    origin = {**found.origin, "class": found.module or "tensors by name"}
    training = {"adopted_from": plain(origin)}
    return AdoptedModel(model, {"licence": licence or found.licence or "unstated", "training": training}, evidence)


def _check_source(found: ForeignModel, where: str) -> None:
    if found.task is not None and found.task not in _TASKS:
        message = f"a checkpoint for boxes or masks of objects can be adopted, got one of the task '{found.task}'"
        raise ModelError(message, where=where, do="export it to ONNX with its own tool and adopt that")
    if found.norm_eps - {YOLO_BN_EPS}:
        odd = min(found.norm_eps - {YOLO_BN_EPS})
        raise ModelError(f"batch normalisations must have an eps of {YOLO_BN_EPS:g}, got {odd:g}", where=where)
    if not any(key.endswith("running_mean") for key in found.tensors):
        raise ModelError(
            "the tensors must be those before batch normalisations are folded into convolutions, got folded ones",
            where=where,
            do="give the checkpoint that was trained, or adopt its ONNX export",
        )
    if found.strides is not None and found.strides != tuple(map(float, STRIDES)):
        raise ModelError(f"levels must have the strides {STRIDES}, got {found.strides}", where=where)


def _names(found: ForeignModel, rows: Rows, given: Sequence[str] | None, where: str) -> tuple[str, ...]:
    names = tuple(given) if given is not None else found.class_names
    if names is None:
        raise ModelError(
            "class names must be known, got a checkpoint that states none", where=where, do="give them with --names"
        )
    stated = found.class_names
    if stated is not None and given is not None and len(stated) != len(names):
        message = f"there must be a name for each of the {len(stated)} classes, got {len(names)}"
        raise ModelError(message, where=where, do="give as many with --names, in the order of the file")
    return names


def _search(rows: Rows, names: tuple[str, ...], found: ForeignModel, where: str) -> tuple[str, Fit]:
    """The registered network all tensors fit; ModelError naming the nearest one and where it first differs."""
    nearest: tuple[int, str, Fit] | None = None
    for name in sorted((n for n in YOLOS if _could_be(n, rows)), key=lambda n: n != found.table):
        try:
            shapes = build_shapes(name, names, {})
        except InputError as error:
            raise ModelError(f"the checkpoint's classes are unusable: {error.what}", where=where) from None
        if not isinstance(shapes, YoloDetector):
            continue
        fit = fit_tensors(shapes, rows)
        if fit.first_difference is None:
            return name, fit
        if nearest is None or len(fit.tensors) > nearest[0]:
            nearest = len(fit.tensors), name, fit
    positions = [tensor for row in rows for key, tensor in row.items() if key.endswith("attn.pe.conv.weight")]
    if any(tensor.shape[-1] == _ULTRALYTICS_POSITION for tensor in positions):
        raise ModelError(
            "YOLO12 must be in the form its authors published (query and key apart from value, positions by 5x5, "
            "grouped early layers), got Ultralytics' own form (one convolution for the three, positions by 7x7)",
            where=where,
            do="export it to ONNX with its own tool and adopt that",
        )
    if nearest is None:
        message = f"the tensors must be those of a network registered here, got {len(rows)} blocks that none has"
        raise ModelError(message, where=where, do="export it to ONNX with its own tool and adopt that")
    count, name, fit = nearest
    raise ModelError(
        f"the tensors must be those of a network registered here, got others: nearest is '{name}' with {count} of "
        f"{fit.count} alike, first different {fit.first_difference}",
        where=where,
        do="export it to ONNX with its own tool and adopt that",
    )


def _could_be(name: str, rows: Rows) -> bool:
    """Whether a registered YOLO has as many blocks and as wide a first one: only then its modules are made."""
    own = rows_of(name)
    if own is None:
        return False
    return len(own) + 1 == len(rows) and own[0].channels == max(
        len(tensor) for tensor in rows[0].values() if tensor.ndim
    )


def _whole(imgsz: int | tuple[int, int]) -> int | tuple[int, int]:
    """The size, each side raised to a multiple of the coarsest stride, as its tool does."""
    sides = [-(-side // STRIDES[-1]) * STRIDES[-1] for side in ((imgsz,) if isinstance(imgsz, int) else imgsz)]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


@torch.no_grad()
def _check_sense(model: Model, found: ForeignModel, where: str) -> dict[str, str]:
    """What holds in the adopted network if its tensors mean what they mean there; ModelError where it does not."""
    assert isinstance(model, YoloDetector)
    head: Any = model.head
    said: dict[str, str] = {}
    for bins in (tensor for key, tensor in model.state_dict().items() if key.rpartition(".")[2] == "bins"):
        if bins.tolist() != list(range(len(bins))):
            raise ModelError("the head's bins must count from 0 by ones, got others", where=where)
        said["bins"] = f"the head's {len(bins)} bins count from 0 by ones"
    if isinstance(head, AnchorHead):
        stated = next((t for key, t in found.tensors.items() if key.endswith(".anchors")), None)
        strides = torch.tensor(STRIDES)[:, None, None]
        if stated is None or stated.shape != head.anchors.shape or not torch.allclose(stated * strides, head.anchors):
            do = "export it to ONNX with its own tool and adopt that"
            raise ModelError("the anchors must be those of YOLOv5, got others or none", where=where, do=do)
        said["anchors"] = "those of YOLOv5"
    if found.strides is not None:
        said["strides"] = ", ".join(f"{stride:g}" for stride in found.strides)
    images = torch.rand(1, 3, _PROBE_SIDE, _PROBE_SIDE, generator=torch.Generator().manual_seed(0))
    plain_outputs, fused_outputs = Decoded(model)(images), Decoded(fuse(model))(images)
    pairs = zip(plain_outputs, fused_outputs, strict=True)
    # As a tensor's: Python's max passes over what is no number.
    worst = float(torch.stack([(a - b).abs().max() / a.abs().max().clamp(min=1e-6) for a, b in pairs]).max())
    if not worst <= _FUSED_TOLERANCE:
        raise ModelError(f"outputs must be finite and stay with folded normalisations, got {worst:g}", where=where)
    said["folded"] = f"outputs with folded normalisations differ by {worst:.1e} of the greatest"
    return said
