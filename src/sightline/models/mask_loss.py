"""Loss of masks made of prototypes: binary cross-entropy over the cells of each object's box.

A network of this kind is trained by hundreds of candidates, each of which has a mask of its own. Kept for the backward
pass they would take candidates times cells; here one object after the other gives its share of the loss and of the
gradient, which for this loss is known at once, so that what is held is the masks of one object.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.assignment import Assignment
from sightline.models.contract import Targets, Total, own_share

__all__ = ["mask_loss"]

_WHOLE = 255.0  # of a cell, in targets


class _Learnt(NamedTuple):
    """An object and the rows of the coefficients that learn it."""

    image: int
    cells_xyxy: tuple[int, int, int, int]
    rows: slice
    values: slice  # of its cells, among those of the batch


def mask_loss(
    coefficients: Tensor, prototypes: Tensor, found: Assignment, targets: Targets, total: Total = own_share
) -> Tensor:
    """Binary cross-entropy of the masks of assigned candidates: the mean over the cells of each one's box, of these the
    mean over the candidates.

    `coefficients` (B, A, M) and `prototypes` (B, M, H / 4, W / 4) are float32. Objects whose mask is not known (no
    cells) are left out. 0 without objects. `total` adds up over the shares of a batch, see `Model.loss`.

    Source: Bolya et al., YOLACT (2019).
    """
    order = torch.argsort(found.target, stable=True)
    chosen = coefficients[found.image[order], found.anchor[order]]
    device = chosen.device
    counts = torch.bincount(found.target, minlength=len(targets["cells"]))
    learnt = _learnt(targets["cells"].tolist(), targets["batch_index"].tolist(), counts.tolist())
    rows = sum(one.rows.stop - one.rows.start for one in learnt)
    summed: Any = _CellsLoss.apply(chosen, prototypes, targets["masks"].to(device), learnt)
    loss, count = total(torch.stack((summed, torch.tensor(float(rows), device=device)))).unbind()
    return loss / count.clamp(min=1)


def _learnt(cells: list[list[int]], images: list[int], counts: list[int]) -> list[_Learnt]:
    """The objects that have a mask and are learnt, in the order of their coefficients."""
    learnt, row, value = [], 0, 0
    for (x1, y1, x2, y2), image, count in zip(cells, images, counts, strict=True):
        area = max(0, x2 - x1) * max(0, y2 - y1)
        if area and count:
            learnt.append(_Learnt(image, (x1, y1, x2, y2), slice(row, row + count), slice(value, value + area)))
        row, value = row + count, value + area
    return learnt


class _CellsLoss(torch.autograd.Function):
    """The sum over candidates of the mean cross-entropy in their boxes, and its gradient, object by object."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, prototypes: Tensor, values: Tensor, learnt: list[_Learnt]) -> Tensor:
        needed = any(ctx.needs_input_grad[:2])
        slopes = [torch.zeros_like(part) for part in (coefficients, prototypes)] if needed else []
        summed = coefficients.new_zeros(())
        for image, (x1, y1, x2, y2), rows, span in learnt:
            around = prototypes[image, :, y1:y2, x1:x2]
            cells, own = around.flatten(1), coefficients[rows]
            wanted = values[span].to(own.dtype) / _WHOLE
            logits = own @ cells
            summed += (functional.softplus(logits) - logits * wanted).mean(1).sum()
            if needed:
                slope = (logits.sigmoid() - wanted) / len(wanted)
                slopes[0][rows] = slope @ cells.T
                slopes[1][image, :, y1:y2, x1:x2] += (own.T @ slope).view_as(around)
        ctx.save_for_backward(*slopes)
        return summed

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        coefficients, prototypes = ctx.saved_tensors
        return coefficients * upstream, prototypes * upstream, None, None
