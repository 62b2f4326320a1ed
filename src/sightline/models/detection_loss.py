"""Loss of anchor-free detectors: task-aligned assignment, CIoU, distribution focal loss, binary cross-entropy.

Assignment: Feng et al., TOOD (2021). CIoU: Zheng et al. (2020). Distribution focal loss: Li et al. (2020).
All objects of a batch are handled together as one flat list; only (object, anchor) pairs where the anchor lies in the
object are ever evaluated, so the cost follows the objects' area and not images x objects x anchors.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.contract import Targets, Total, own_share

__all__ = ["Assignment", "AssignmentRule", "DetectionGains", "DetectionRaw", "assign_targets", "ciou"]
__all__ += ["assigned_loss", "detection_loss"]


class DetectionRaw(NamedTuple):
    """Raw output of an anchor-free detector over A = all cells of all levels."""

    distances: Tensor  # (B, A, 4 * bins) logits over the distance from the cell centre to left, top, right, bottom
    logits: Tensor  # (B, A, C) class logits
    centres_xy: Tensor  # (A, 2) cell centres, network pixels
    strides: Tensor  # (A, 1) pixels per cell; a distance bin is one stride wide


@dataclass(frozen=True, slots=True)
class AssignmentRule:
    """alignment = score ** alpha * CIoU ** beta; each object takes its `topk` best aligned anchors."""

    alpha: float = 0.5
    beta: float = 6.0
    topk: int = 10


@dataclass(frozen=True, slots=True)
class DetectionGains:
    """Weights of the three terms."""

    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5


class Assignment(NamedTuple):
    """The K positive anchors of a batch; every (image, anchor) occurs at most once."""

    image: Tensor  # (K,) index into the batch
    anchor: Tensor  # (K,) index into the anchors
    target: Tensor  # (K,) index into the objects
    weight: Tensor  # (K,) target score in 0..1: alignment scaled so that an object's best anchor gets its best IoU


def ciou(boxes_a: Tensor, boxes_b: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of paired boxes (..., 4) xyxy -> (...), in (-1.5, 1]; 1 is equal (Zheng et al. 2020).

    The trade-off factor carries no gradient, as in the paper.
    """
    ax1, ay1, ax2, ay2 = boxes_a.unbind(-1)
    bx1, by1, bx2, by2 = boxes_b.unbind(-1)
    aw, ah, bw, bh = ax2 - ax1, ay2 - ay1, bx2 - bx1, by2 - by1
    overlap_w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap_h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    overlap = overlap_w * overlap_h
    iou = overlap / (aw * ah + bw * bh - overlap + eps)
    hull_w = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull_h = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    centre_distance2 = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    aspect = (4 / math.pi**2) * (torch.atan(bw / (bh + eps)) - torch.atan(aw / (ah + eps))) ** 2
    with torch.no_grad():
        trade_off = aspect / (aspect - iou + 1 + eps)
    return iou - centre_distance2 / (hull_w**2 + hull_h**2 + eps) - trade_off * aspect


def candidate_pairs(boxes_xyxy: Tensor, centres_xy: Tensor) -> Tensor:
    """(N, A) bool: anchor centre strictly inside the box.

    A box between the centres, too small to hold one, gets the nearest centre: no object is left without an anchor.
    """
    x, y = centres_xy.unbind(-1)
    x1, y1, x2, y2 = boxes_xyxy[:, :, None].unbind(1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    lost = (~inside.any(1)).nonzero().squeeze(1)
    middle = (boxes_xyxy[lost, :2] + boxes_xyxy[lost, 2:]) / 2
    inside[lost, torch.cdist(middle, centres_xy).argmin(1)] = True
    return inside


@torch.no_grad()
def assign_targets(
    logits: Tensor, boxes_xyxy: Tensor, centres_xy: Tensor, targets: Targets, rule: AssignmentRule
) -> Assignment:
    """Task-aligned one-to-many assignment of anchors to objects.

    `logits` (B, A, C) and `boxes_xyxy` (B, A, 4) are predictions. Each object proposes the `topk` best aligned
    of the anchors inside it; an anchor proposed by several goes to the one it overlaps most (then to the first).
    """
    anchor_count = centres_xy.shape[0]
    gt_boxes, labels, batch_index = targets["boxes"], targets["labels"], targets["batch_index"]
    candidates = candidate_pairs(gt_boxes, centres_xy)
    target, anchor = candidates.nonzero(as_tuple=True)
    image = batch_index[target]
    overlap = ciou(boxes_xyxy[image, anchor], gt_boxes[target]).clamp(min=0)
    alignment = logits[image, anchor, labels[target]].sigmoid() ** rule.alpha * overlap**rule.beta

    proposed = _keep_topk(candidates, target, anchor, alignment, rule.topk)
    target, anchor, image = target[proposed], anchor[proposed], image[proposed]
    overlap, alignment = overlap[proposed], alignment[proposed]

    kept = _resolve_conflicts(image * anchor_count + anchor, target, overlap, logits.shape[0] * anchor_count)
    target, anchor, image = target[kept], anchor[kept], image[kept]
    overlap, alignment = overlap[kept], alignment[kept]

    best_overlap = gt_boxes.new_zeros(len(gt_boxes)).scatter_reduce(0, target, overlap, "amax")
    best_alignment = gt_boxes.new_zeros(len(gt_boxes)).scatter_reduce(0, target, alignment, "amax")
    scale = torch.where(best_alignment > 0, best_overlap / best_alignment, 0)
    return Assignment(image, anchor, target, (alignment * scale[target]).clamp(max=1))


def _keep_topk(candidates: Tensor, target: Tensor, anchor: Tensor, alignment: Tensor, topk: int) -> Tensor:
    """(P,) bool over the pairs: among the `topk` best aligned of their object."""
    dense = torch.full(candidates.shape, -1.0, dtype=alignment.dtype, device=alignment.device)
    dense[target, anchor] = alignment
    best = dense.topk(min(topk, dense.shape[1]), dim=1).indices
    chosen = torch.zeros_like(candidates).scatter_(1, best, True)
    return chosen[target, anchor]


def _resolve_conflicts(cell: Tensor, target: Tensor, overlap: Tensor, cell_count: int) -> Tensor:
    """(P,) bool: the pair that wins its cell, by overlap, then by the lower object index."""
    best = overlap.new_full((cell_count,), -1.0).scatter_reduce(0, cell, overlap, "amax")
    wins = overlap >= best[cell]
    beyond = torch.iinfo(target.dtype).max
    first = target.new_full((cell_count,), beyond).scatter_reduce(0, cell[wins], target[wins], "amin")
    return wins & (first[cell] == target)


def expected_distances(logits: Tensor, bins: Tensor) -> Tensor:
    """(..., 4 * bins) logits -> (..., 4) expected distance in strides: the mean of a softmax over the bins."""
    per_side = logits.reshape(*logits.shape[:-1], 4, bins.shape[0])
    # Not a matrix product: autocast would run that in bfloat16, whose 8 bits cannot hold a box edge.
    return (per_side.softmax(-1) * bins).sum(-1)


def boxes_from_distances(distances: Tensor, centres_xy: Tensor, strides: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom distances in strides -> (..., 4) xyxy in network pixels."""
    left_top, right_bottom = (distances * strides).chunk(2, -1)
    return torch.cat((centres_xy - left_top, centres_xy + right_bottom), -1)


def distribution_focal_loss(logits: Tensor, distances: Tensor, bin_count: int) -> Tensor:
    """(K, 4 * bins) logits, (K, 4) true distances in strides -> (K,) cross-entropy to the two bins around the truth."""
    true = distances.clamp(0, bin_count - 1 - 0.01)
    lower = true.floor()
    log_probabilities = logits.reshape(-1, 4, bin_count).log_softmax(-1)
    at_lower = log_probabilities.gather(-1, lower.long().unsqueeze(-1)).squeeze(-1)
    at_upper = log_probabilities.gather(-1, lower.long().unsqueeze(-1) + 1).squeeze(-1)
    upper_share = true - lower
    return -(at_lower * (1 - upper_share) + at_upper * upper_share).mean(-1)


def detection_loss(
    raw: DetectionRaw,
    targets: Targets,
    bins: Tensor,
    rule: AssignmentRule,
    gains: DetectionGains,
    total: Total = own_share,
) -> dict[str, Tensor]:
    """Terms `box` (1 - CIoU), `cls` (binary cross-entropy) and `dfl`, each times its gain, per unit of target score.

    Computed in float32 whatever the network ran in. Without objects `box` and `dfl` are 0 and `cls` pushes all
    scores down. `total` adds up over the shares of a batch, see `Model.loss`.
    """
    return assigned_loss(raw, targets, bins, rule, gains, total)[0]


def assigned_loss(
    raw: DetectionRaw,
    targets: Targets,
    bins: Tensor,
    rule: AssignmentRule,
    gains: DetectionGains,
    total: Total = own_share,
) -> tuple[dict[str, Tensor], Assignment]:
    """As `detection_loss`, with the anchors that learn objects: what further terms of them are about."""
    with torch.autocast(raw.logits.device.type, enabled=False):
        distances, logits = raw.distances.float(), raw.logits.float()
        targets = {key: value.to(logits.device) for key, value in targets.items()}
        targets["boxes"] = targets["boxes"].float()
        return _terms(DetectionRaw(distances, logits, raw.centres_xy, raw.strides), targets, bins, rule, gains, total)


def _terms(
    raw: DetectionRaw, targets: Targets, bins: Tensor, rule: AssignmentRule, gains: DetectionGains, total: Total
) -> tuple[dict[str, Tensor], Assignment]:
    with torch.no_grad():
        boxes = boxes_from_distances(expected_distances(raw.distances, bins), raw.centres_xy, raw.strides)
        found = assign_targets(raw.logits, boxes, raw.centres_xy, targets, rule)
        gt_boxes = targets["boxes"][found.target]
        centres, strides = raw.centres_xy[found.anchor], raw.strides[found.anchor]
        gt_distances = torch.cat((centres - gt_boxes[:, :2], gt_boxes[:, 2:] - centres), -1) / strides

    positive = raw.distances[found.image, found.anchor]
    predicted = boxes_from_distances(expected_distances(positive, bins), centres, strides)
    box = ((1 - ciou(predicted, gt_boxes)) * found.weight).sum()
    dfl = (distribution_focal_loss(positive, gt_distances, bins.shape[0]) * found.weight).sum()
    # Cross-entropy against a target that is zero almost everywhere: softplus(x) - target * x, the second term sparse.
    hit = raw.logits[found.image, found.anchor, targets["labels"][found.target]]
    cls = functional.softplus(raw.logits).sum() - (hit * found.weight).sum()
    weight, box, cls, dfl = total(torch.stack((found.weight.sum(), box, cls, dfl))).unbind()
    weight = weight.clamp(min=1)
    return {"box": box / weight * gains.box, "cls": cls / weight * gains.cls, "dfl": dfl / weight * gains.dfl}, found
