"""What a network must offer to be trained, evaluated, exported and run here; `check_model` tests it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError, DataError
from sightline.core.frames import IGNORE_INDEX
from sightline.core.metadata import OperatingPoint
from sightline.core.preprocess import Preprocess

__all__ = [
    "IGNORE_INDEX",
    "MASK_STRIDE",
    "Decoded",
    "Model",
    "Targets",
    "Total",
    "check_imgsz",
    "check_targets",
    "chooses_candidates",
    "not_exportable",
    "own_point",
    "own_share",
]

Targets = Mapping[str, Tensor]
"""Ground truth of one batch, in network pixels.

detect: `boxes` (N, 4) xyxy float, `labels` (N,) int64, `batch_index` (N,) int64 (the image of each box).
instance: as detect, and of each object the part of the mask that lies in its box, on a grid of square cells
`MASK_STRIDE` pixels wide: `cells` (N, 4) int64 xyxy, the cells its box touches (none where the mask is not known), and
`masks` (P,) uint8, their values, object after object, row by row: which share of a cell the object covers, 255 for all
of it. So objects may overlap, and the memory is that of their boxes, not of objects times pixels.
pose: as detect, and `keypoints` (N, K, 3) float of x, y and visibility: 0 where nothing is labelled, 1 hidden, 2 seen.
obb: as detect, and `oriented` (N, 5) float, each object's box `cx, cy, w, h, angle`, see `sightline.ops.oriented`;
`boxes` are around these.
semantic: `mask` (B, H, W) int64 class ids, `IGNORE_INDEX` where pixels do not count.
"""

MASK_STRIDE = 4
"""Network pixels on a side of a cell of the masks of objects, in targets and in prototypes."""

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over the shares of a batch that several processes hold. The gradient is that of the own share."""

_TARGET_SHAPES: dict[str, dict[str, int]] = {
    "detect": {"boxes": 2, "labels": 1, "batch_index": 1},
    "instance": {"boxes": 2, "labels": 1, "batch_index": 1, "cells": 2, "masks": 1},
    "obb": {"boxes": 2, "labels": 1, "batch_index": 1, "oriented": 2},
    "pose": {"boxes": 2, "labels": 1, "batch_index": 1, "keypoints": 3},
    "semantic": {"mask": 3},
}


def own_share(values: Tensor) -> Tensor:
    """The `Total` of a batch that is whole: `values` themselves."""
    return values


@runtime_checkable
class Model(Protocol):
    """A `torch.nn.Module` with a task, class names and a preprocessing, that computes its own loss and decodes itself.

    `name` and `arguments` rebuild it: `create(name, class_names=class_names, **arguments)`. `class_tensors` are
    prefixes of the state_dict keys whose shape or meaning depends on the classes; transfer leaves those fresh. One of
    the task pose says in `arguments["keypoints"]` which `Keypoints` it gives.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    preprocess: Preprocess
    arguments: dict[str, Any]
    class_tensors: tuple[str, ...]

    def __call__(self, images: Tensor) -> Any:
        """As `forward`."""
        ...

    def forward(self, images: Tensor) -> Any:
        """Raw outputs for images (B, C, H, W), preprocessed; exportable: no control flow that depends on values.

        A model that is not says why in one clause, as its attribute `not_exportable`.
        """
        ...

    def loss(self, raw: Any, targets: Targets, total: Total = ...) -> dict[str, Tensor]:
        """Named scalar float32 terms, already weighted: their sum is what training minimises, a mean over the batch.

        Every sum over the batch must go through `total`, which defaults to `own_share`: `raw` and `targets` may be one
        process's share of the batch, an empty one even, and the terms are those of the whole batch.
        """
        ...

    def decode(self, raw: Any) -> Any:
        """Plain float32 tensors.

        detect: (boxes_xyxy (B, A, 4) in network pixels, scores (B, A, C) in 0..1), before any suppression.
        instance: these, coefficients (B, A, M) and prototypes (B, M, H / 4, W / 4): the mask of a candidate is the
        sigmoid of its coefficients times the prototypes, within its box. Or these and box_masks (B, A, h, w): its
        probabilities in 0..1 on a grid of cells that spans its box.
        obb: boxes around oriented ones, scores, and these (B, A, 5): cx, cy, w, h in network pixels, and any angle.
        pose: boxes, scores and keypoints (B, A, K, 3): x, y in network pixels, and how likely the point can be located.
        semantic: probabilities (B, C, H, W) that sum to 1 over C.
        """
        ...

    def train(self, mode: bool = True) -> Self:
        """As `torch.nn.Module.train`."""
        ...

    def eval(self) -> Self:
        """As `torch.nn.Module.eval`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `torch.nn.Module.parameters`."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As `torch.nn.Module.named_parameters`."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """As `torch.nn.Module.modules`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As `torch.nn.Module.state_dict`."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As `torch.nn.Module.load_state_dict`."""
        ...


class Decoded(nn.Module):
    """`decode(model(images))` as one module, the model put in evaluation mode: what is exported, timed and run."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """Decoded outputs for images (B, C, H, W)."""
        return self.model.decode(self.model(images))


def chooses_candidates(model: Model) -> bool:
    """Whether a model's candidates are chosen inside it (`chooses_candidates`): by rounding their order and a few of
    them may be others, where all else have each candidate at its place.
    """
    return bool(getattr(model, "chooses_candidates", False))


def not_exportable(model: Model) -> str | None:
    """Why a model cannot be exported, as it states itself (`not_exportable`); None where it can."""
    reason: str | None = getattr(model, "not_exportable", None)
    return reason


def own_point(model: Model) -> OperatingPoint | None:
    """The thresholds a model states as its own (`operating_point`), None where the usual ones hold.

    A network that gives each object once states `suppression="none"`; training, evaluation and files follow it.
    """
    point: OperatingPoint | None = getattr(model, "operating_point", None)
    return point


def check_imgsz(imgsz: int | tuple[int, int], multiple: int) -> tuple[int, int]:
    """(height, width) of the network's input; ConfigError unless both are positive multiples of `multiple`."""
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    if height < multiple or width < multiple or height % multiple or width % multiple:
        nearest = [max(multiple, round(side / multiple) * multiple) for side in (height, width)]
        hint = str(nearest[0]) if isinstance(imgsz, int) else f"{nearest[0]},{nearest[1]}"
        raise ConfigError(f"imgsz must be a multiple of {multiple}, got {imgsz}", do=f"use {hint}")
    return height, width


def check_input(images: Tensor, multiple: int) -> None:
    """ConfigError unless images are (B, C, H, W) with H and W multiples of `multiple`."""
    if images.ndim != 4 or images.shape[2] % multiple or images.shape[3] % multiple:
        raise ConfigError(
            f"images must be (B, C, H, W) with H and W multiples of {multiple}, got {tuple(images.shape)}",
            do="use the model's own preprocess, or another imgsz",
        )


def check_targets(task: Task, targets: Targets, class_count: int) -> None:
    """DataError unless the targets have the keys, ranks and label range that `Targets` states for the task."""
    shapes = _TARGET_SHAPES[task]
    if set(targets) != set(shapes):
        raise DataError(f"targets of task '{task}' must be {sorted(shapes)}, got {sorted(targets)}")
    for key, rank in shapes.items():
        if targets[key].ndim != rank:
            raise DataError(f"target '{key}' must have {rank} dimensions, got shape {tuple(targets[key].shape)}")
    if task == "instance":
        _check_cells(targets["cells"], targets["masks"], len(targets["labels"]))
    if task == "obb" and tuple(targets["oriented"].shape) != (len(targets["labels"]), 5):
        got = tuple(targets["oriented"].shape)
        raise DataError(f"target 'oriented' must be ({len(targets['labels'])}, 5), one row for each label, got {got}")
    if task == "pose" and (len(targets["keypoints"]), targets["keypoints"].shape[2]) != (len(targets["labels"]), 3):
        got = tuple(targets["keypoints"].shape)
        raise DataError(
            f"target 'keypoints' must be ({len(targets['labels'])}, K, 3), one row for each label, got {got}"
        )
    ids = targets["mask" if task == "semantic" else "labels"]
    if ids.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(ids))
    if task == "semantic" and high == IGNORE_INDEX:
        high = int(torch.where(ids == IGNORE_INDEX, -1, ids).max())
    if low < 0 or high >= class_count:
        raise DataError(f"class ids must be 0..{class_count - 1}, got {low}..{high}", do="check the class map")


def _check_cells(cells: Tensor, masks: Tensor, count: int) -> None:
    if tuple(cells.shape) != (count, 4):
        raise DataError(f"target 'cells' must be ({count}, 4), one for each label, got {tuple(cells.shape)}")
    sizes = (cells[:, 2:] - cells[:, :2]).clamp(min=0)
    total = int(sizes.prod(1).sum())
    if len(masks) != total:
        raise DataError(f"target 'masks' must have the {total} values that 'cells' call for, got {len(masks)}")
