"""How alike two oriented boxes are, as Gaussians of their spread: smooth where exact overlap has no gradient."""

import torch
from torch import Tensor

__all__ = ["inside_oriented", "probiou"]

_EPS = 1e-7
_FARTHEST = 100.0  # Bhattacharyya distance; beyond, exp is 0 in float32
_LEAST_SIDE = 1e-3  # pixels; a box without a side is no Gaussian


def probiou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """ProbIoU of paired oriented boxes (..., 5) `cx, cy, w, h, angle` -> (...), 0..1; 1 is equal.

    One less the Hellinger distance of the two normal distributions. The same box given with its sides exchanged and a
    quarter turn more is the same to it. Source: Llerena et al. (2021).
    """
    xx, yy, xy, own = _spread(boxes_a)
    xx_b, yy_b, xy_b, other = _spread(boxes_b)
    xx, yy, xy = xx + xx_b, yy + yy_b, xy + xy_b
    dx, dy = (boxes_a[..., :2] - boxes_b[..., :2]).unbind(-1)
    together = (xx * yy - xy.square()).clamp(min=_EPS)
    apart = (xx * dy.square() + yy * dx.square() - 2 * xy * dx * dy) / (4 * together)
    unlike = 0.5 * (together / (4 * (own * other).sqrt())).log()
    distance = (apart + unlike).clamp(0, _FARTHEST)
    return 1 - (-torch.expm1(-distance) + _EPS).sqrt()


def _spread(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Covariance (xx, yy, xy) of a point anywhere in the box, and its determinant."""
    w2, h2 = (boxes[..., 2:4].clamp(min=_LEAST_SIDE).square() / 12).unbind(-1)
    cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
    return w2 * cos**2 + h2 * sin**2, w2 * sin**2 + h2 * cos**2, (w2 - h2) * cos * sin, w2 * h2


def inside_oriented(boxes: Tensor, points_xy: Tensor) -> Tensor:
    """(N, A) bool: points (A, 2) strictly inside oriented boxes (N, 5)."""
    x, y = (points_xy - boxes[:, None, :2]).unbind(-1)
    cos, sin = boxes[:, 4:5].cos(), boxes[:, 4:5].sin()
    along, across = (x * cos + y * sin).abs(), (y * cos - x * sin).abs()
    return (along < boxes[:, 2:3] / 2) & (across < boxes[:, 3:4] / 2)
