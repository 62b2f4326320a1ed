"""Which anchors learn which objects: task-aligned, by centre sampling, by optimal transport, or one to one.

Task-aligned: Feng et al., TOOD (2021). Centre sampling: Tian et al., FCOS (2019, 2020). SimOTA: Ge et al., YOLOX
(2021). Hungarian: Carion et al., DETR (2020). All objects of a batch are handled together as one flat list; only pairs
of candidates are ever evaluated, so the cost follows the objects' area and not images x objects x anchors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.box_loss import ciou, giou, iou
from sightline.models.contract import Targets, Total
from sightline.models.probiou import inside_oriented, probiou
from sightline.ops.assignment import assign

__all__ = [
    "TASK_ALIGNED",
    "AssignedMeter",
    "Assigner",
    "Assignment",
    "AssignmentRule",
    "Predicted",
    "assign_targets",
    "candidate_pairs",
]

Assigner: TypeAlias = Literal["task-aligned", "centre", "simota", "hungarian"]
_CENTRE_RADIUS, _OTA_RADIUS = 1.5, 2.5
"""Cells around an object's centre that may learn it, in strides: of centre sampling and of SimOTA."""
_FARTHEST = 8
"""Of centre sampling: strides to the farthest side of what a level learns; what is within half of it is not its own."""
_OTA_IOU, _OTA_OUTSIDE, _OTA_COUNTED = 3.0, 1e5, 10
"""Of SimOTA: weight of -log IoU beside the class term, cost outside of box and centre, how many IoUs are summed."""
_L1, _GIOU, _NEVER = 5.0, 2.0, 1e6
"""Of the one-to-one assignment: weights of sides and GIoU beside the class's probability; no sum of them comes near the
last."""


class Predicted(NamedTuple):
    """What an assignment may look at, over A = all cells of all levels."""

    logits: Tensor  # (B, A, C)
    boxes_xyxy: Tensor  # (B, A, 4) network pixels
    centres_xy: Tensor  # (A, 2) network pixels
    strides: Tensor  # (A, 1) pixels per cell
    oriented: Tensor | None = None  # (B, A, 5) where boxes are; those above then are around them


@dataclass(frozen=True, slots=True)
class AssignmentRule:
    """How anchors are found; the numbers are those of "task-aligned".

    alignment = score ** alpha * CIoU ** beta (of oriented boxes ProbIoU); each object takes its `topk` best aligned
    anchors.
    """

    kind: Assigner = "task-aligned"
    alpha: float = 0.5
    beta: float = 6.0
    topk: int = 10


TASK_ALIGNED = AssignmentRule()


class Assignment(NamedTuple):
    """The K positive anchors of a batch; every (image, anchor) occurs at most once."""

    image: Tensor  # (K,) index into the batch
    anchor: Tensor  # (K,) index into the anchors
    target: Tensor  # (K,) index into the objects
    weight: Tensor  # (K,) in 0..1, how much of an object is to be learnt: of the box terms
    score: Tensor  # (K,) in 0..1, the score to be learnt


class AssignedMeter:
    """How many anchors learn something, and how many objects are learnt, over the batches since the last `take`."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def update(self, positive: int, anchors: int, target: Tensor, objects: int) -> None:
        """A batch: `positive` of its `anchors`, and of its `objects` those whose indices are in `target`."""
        learnt = torch.bincount(target.detach(), minlength=objects).count_nonzero()
        counts = torch.tensor((positive, anchors, 0, objects), dtype=torch.float64, device=target.device)
        counts[2] = learnt
        self._sums = counts if self._sums is None else self._sums + counts

    def state_dict(self) -> list[float]:
        """The sums so far: anchors that learn, all anchors, objects that are learnt, all objects."""
        return [0.0] * 4 if self._sums is None else self._sums.tolist()

    def load_state_dict(self, sums: Sequence[float]) -> None:
        """Go on from what `state_dict` gave."""
        self._sums = torch.tensor(sums, dtype=torch.float64) if any(sums) else None

    def take(self, total: Total) -> dict[str, float]:
        """`positive_share` of the anchors and `learnt_share` of the objects, NaN where there were none."""
        sums, self._sums = torch.tensor(self.state_dict(), dtype=torch.float64), None
        positive, anchors, learnt, objects = total(sums).tolist()
        return {
            "positive_share": positive / anchors if anchors else float("nan"),
            "learnt_share": learnt / objects if objects else float("nan"),
        }


@torch.no_grad()
def assign_targets(predicted: Predicted, targets: Targets, rule: AssignmentRule) -> Assignment:
    """The anchors that learn the objects `targets` by the rule."""
    return _ASSIGNERS[rule.kind](predicted, targets, rule)


def candidate_pairs(boxes_xyxy: Tensor, centres_xy: Tensor, oriented: Tensor | None = None) -> Tensor:
    """(N, A) bool: anchor centre strictly inside the box, or the `oriented` one (N, 5) that it is around.

    A box between the centres, too small to hold one, gets the nearest centre: no object is left without an anchor.
    """
    inside = _inside(boxes_xyxy, centres_xy) if oriented is None else inside_oriented(oriented, centres_xy)
    lost = (~inside.any(1)).nonzero().squeeze(1)
    middle = (boxes_xyxy[lost, :2] + boxes_xyxy[lost, 2:]) / 2
    inside[lost, torch.cdist(middle, centres_xy).argmin(1)] = True
    return inside


def _inside(boxes_xyxy: Tensor, centres_xy: Tensor) -> Tensor:
    x, y = centres_xy.unbind(-1)
    x1, y1, x2, y2 = boxes_xyxy[:, :, None].unbind(1)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def _task_aligned(predicted: Predicted, targets: Targets, rule: AssignmentRule) -> Assignment:
    """Each object proposes the `topk` best aligned of the anchors inside it; an anchor proposed by several goes to the
    one it overlaps most (then to the first). The score to be learnt is the alignment, scaled so that an object's best
    anchor gets its best IoU.
    """
    logits, boxes_xyxy, centres_xy, _, oriented = predicted
    anchor_count = centres_xy.shape[0]
    gt_boxes, labels, batch_index = targets["boxes"], targets["labels"], targets["batch_index"]
    candidates = candidate_pairs(gt_boxes, centres_xy, None if oriented is None else targets["oriented"])
    target, anchor = candidates.nonzero(as_tuple=True)
    image = batch_index[target]
    if oriented is None:
        overlap = ciou(boxes_xyxy[image, anchor], gt_boxes[target]).clamp(min=0)
    else:
        overlap = probiou(oriented[image, anchor], targets["oriented"][target])
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
    score = (alignment * scale[target]).clamp(max=1)
    return Assignment(image, anchor, target, score, score)


def _centre_sampled(predicted: Predicted, targets: Targets, _rule: AssignmentRule) -> Assignment:
    """The cells near the centre of an object and inside it, of the level that its size belongs to; of several objects
    the smallest gets a cell. An object without any gets the nearest cell of its level.
    """
    centres, strides = predicted.centres_xy, predicted.strides.squeeze(1)
    boxes, image_of = targets["boxes"], targets["batch_index"]
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    finest, coarsest = strides.min(), strides.max()
    low = torch.where(strides == finest, -1.0, strides * _FARTHEST / 2)
    high = torch.where(strides == coarsest, torch.inf, strides * _FARTHEST)
    distance = (centres - middle[:, None]).abs()  # (N, A, 2)
    near = (distance <= _CENTRE_RADIUS * strides[:, None]).all(-1) & _inside(boxes, centres)
    farthest = (distance + size[:, None] / 2).amax(-1)
    chosen = near & (farthest > low) & (farthest <= high)
    lost = (~chosen.any(1)).nonzero().squeeze(1)
    half = size[lost].amax(1, keepdim=True) / 2
    apart = distance[lost].square().sum(-1).masked_fill((half <= low) | (half > high), torch.inf)
    chosen[lost, apart.argmin(1)] = True
    target, anchor = chosen.nonzero(as_tuple=True)
    return _resolved(predicted, image_of, target, anchor, -size.prod(-1)[target])


def _simota(predicted: Predicted, targets: Targets, _rule: AssignmentRule) -> Assignment:
    """Each object takes as many anchors as its ten best IoUs sum up to, those that cost the least: the class term, the
    IoU, and much where the anchor is not both inside the box and near its centre. The score to be learnt is the IoU.
    """
    centres, strides = predicted.centres_xy, predicted.strides
    boxes, image_of, labels = targets["boxes"], targets["batch_index"], targets["labels"]
    inside = candidate_pairs(boxes, centres)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    central = ((centres - middle[:, None]).abs() < _OTA_RADIUS * strides).all(-1)
    target, anchor = (inside | central).nonzero(as_tuple=True)
    image = image_of[target]
    logits = predicted.logits[image, anchor]
    hit = logits.gather(1, labels[target, None]).squeeze(1)
    overlap = iou(predicted.boxes_xyxy[image, anchor], boxes[target])
    cost = functional.softplus(logits).sum(1) - hit - _OTA_IOU * overlap.clamp(min=1e-8).log()
    cost = cost + _OTA_OUTSIDE * ~(inside & central)[target, anchor]
    overlaps, costs = overlap.new_zeros(inside.shape), cost.new_full(inside.shape, torch.inf)
    overlaps[target, anchor], costs[target, anchor] = overlap, cost
    counted = min(_OTA_COUNTED, inside.shape[1])
    wanted = overlaps.topk(counted, 1).values.sum(1).long().clamp(min=1)
    order = costs.topk(counted, 1, largest=False).indices
    chosen = torch.zeros_like(inside).scatter_(1, order, torch.arange(counted, device=order.device) < wanted[:, None])
    kept = chosen[target, anchor]
    return _resolved(predicted, image_of, target[kept], anchor[kept], -cost[kept], overlap[kept])


def _hungarian(predicted: Predicted, targets: Targets, _rule: AssignmentRule) -> Assignment:
    """One anchor for each object, inside it: those that together cost the least in class, sides and GIoU."""
    boxes, image_of, labels = targets["boxes"], targets["batch_index"], targets["labels"]
    inside = candidate_pairs(boxes, predicted.centres_xy)
    target, anchor = inside.nonzero(as_tuple=True)
    image = image_of[target]
    proposed, wanted = predicted.boxes_xyxy[image, anchor], boxes[target]
    extent = (predicted.centres_xy + predicted.strides / 2).amax(0).repeat(2)  # width, height, width, height
    cost = _L1 * ((proposed - wanted) / extent).abs().sum(-1) - _GIOU * giou(proposed, wanted)
    cost = cost - predicted.logits[image, anchor, labels[target]].sigmoid()
    costs = cost.new_full(inside.shape, torch.inf)
    costs[target, anchor] = cost
    rows, columns = [], []
    table, images = costs.cpu().numpy(), image_of.cpu().numpy()
    for index in np.unique(images):
        own = np.flatnonzero(images == index)
        used = np.flatnonzero(np.isfinite(table[own]).any(0))
        row, column = assign(table[np.ix_(own, used)], _NEVER)
        rows.append(own[row])
        columns.append(used[column])
    if not rows:
        return _resolved(predicted, image_of, target, anchor, cost)
    target, anchor = (torch.from_numpy(np.concatenate(part)).to(boxes.device) for part in (rows, columns))
    return _resolved(predicted, image_of, target, anchor, costs[target, anchor])


def _resolved(
    predicted: Predicted, image_of: Tensor, target: Tensor, anchor: Tensor, rank: Tensor, score: Tensor | None = None
) -> Assignment:
    """Each cell for the pair of the highest `rank`; what is to be learnt is whole, as is its score without `score`."""
    images, cells = predicted.logits.shape[:2]
    image = image_of[target]
    kept = _resolve_conflicts(image * cells + anchor, target, rank, images * cells)
    whole = torch.ones_like(rank)[kept]
    return Assignment(image[kept], anchor[kept], target[kept], whole, whole if score is None else score[kept])


def _keep_topk(candidates: Tensor, target: Tensor, anchor: Tensor, alignment: Tensor, topk: int) -> Tensor:
    """(P,) bool over the pairs: among the `topk` best aligned of their object."""
    dense = torch.full(candidates.shape, -1.0, dtype=alignment.dtype, device=alignment.device)
    dense[target, anchor] = alignment
    best = dense.topk(min(topk, dense.shape[1]), dim=1).indices
    chosen = torch.zeros_like(candidates).scatter_(1, best, True)
    return chosen[target, anchor]


def _resolve_conflicts(cell: Tensor, target: Tensor, rank: Tensor, cell_count: int) -> Tensor:
    """(P,) bool: the pair that wins its cell, by rank, then by the lower object index."""
    best = rank.new_full((cell_count,), -torch.inf).scatter_reduce(0, cell, rank, "amax")
    wins = rank >= best[cell]
    beyond = torch.iinfo(target.dtype).max
    first = target.new_full((cell_count,), beyond).scatter_reduce(0, cell[wins], target[wins], "amin")
    return wins & (first[cell] == target)


_ASSIGNERS: dict[str, Callable[[Predicted, Targets, AssignmentRule], Assignment]] = {
    "task-aligned": _task_aligned,
    "centre": _centre_sampled,
    "simota": _simota,
    "hungarian": _hungarian,
}
assert set(_ASSIGNERS) == set(get_args(Assigner))
