"""How far a predicted box is from the true one: IoU and its complements, and a plain difference of sides.

GIoU: Rezatofighi et al. (2019). DIoU and CIoU: Zheng et al. (2020). Smooth L1: Girshick (2015).
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BOX_LOSSES", "BoxLoss", "box_loss", "ciou", "diou", "giou", "iou"]

BoxLoss: TypeAlias = Literal["iou", "giou", "diou", "ciou", "smooth-l1"]
_EPS = 1e-7


def iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of paired boxes (..., 4) xyxy -> (...), 0..1; 1 is equal."""
    return _overlap(boxes_a, boxes_b)[0]


def giou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Generalised IoU of paired boxes, in (-1, 1]: less the share of the hull that neither of them covers."""
    value, union = _overlap(boxes_a, boxes_b)
    hull_w, hull_h = _hull(boxes_a, boxes_b)
    hull = hull_w * hull_h
    return value - (hull - union) / (hull + _EPS)


def diou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Distance IoU of paired boxes, in (-1, 1]: less the centres' distance over the hull's diagonal, both squared."""
    return _overlap(boxes_a, boxes_b)[0] - _apart(boxes_a, boxes_b)


def ciou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Complete IoU of paired boxes (..., 4) xyxy -> (...), in (-1.5, 1]; 1 is equal (Zheng et al. 2020).

    The trade-off factor carries no gradient, as in the paper.
    """
    value = _overlap(boxes_a, boxes_b)[0]
    aw, ah = (boxes_a[..., 2:] - boxes_a[..., :2]).unbind(-1)
    bw, bh = (boxes_b[..., 2:] - boxes_b[..., :2]).unbind(-1)
    aspect = (4 / math.pi**2) * (torch.atan(bw / (bh + _EPS)) - torch.atan(aw / (ah + _EPS))) ** 2
    with torch.no_grad():
        trade_off = aspect / (aspect - value + 1 + _EPS)
    return value - _apart(boxes_a, boxes_b) - trade_off * aspect


def _overlap(boxes_a: Tensor, boxes_b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of paired boxes."""
    ax1, ay1, ax2, ay2 = boxes_a.unbind(-1)
    bx1, by1, bx2, by2 = boxes_b.unbind(-1)
    overlap_w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap_h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    overlap = overlap_w * overlap_h
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    return overlap / (union + _EPS), union


def _hull(boxes_a: Tensor, boxes_b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box around both."""
    sides = torch.maximum(boxes_a[..., 2:], boxes_b[..., 2:]) - torch.minimum(boxes_a[..., :2], boxes_b[..., :2])
    return sides[..., 0], sides[..., 1]


def _apart(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    ax1, ay1, ax2, ay2 = boxes_a.unbind(-1)
    bx1, by1, bx2, by2 = boxes_b.unbind(-1)
    hull_w, hull_h = _hull(boxes_a, boxes_b)
    centre_distance2 = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    return centre_distance2 / (hull_w**2 + hull_h**2 + _EPS)


_SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou}
BOX_LOSSES: tuple[BoxLoss, ...] = get_args(BoxLoss)


def box_loss(kind: BoxLoss, predicted: Tensor, wanted: Tensor, strides: Tensor) -> Tensor:
    """Loss of paired boxes (K, 4) xyxy -> (K,): 1 less the similarity, or the mean smooth L1 of the sides.

    Sides differ in units of `strides` (K, 1), so that a cell of any level counts the same.
    """
    if kind == "smooth-l1":
        return functional.smooth_l1_loss(predicted / strides, wanted / strides, reduction="none").mean(-1)
    return 1 - _SIMILARITIES[kind](predicted, wanted)
