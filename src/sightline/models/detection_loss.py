"""Loss of anchor-free detectors: an assignment, a loss of boxes, one of classes, and the distribution focal loss.

Distribution focal loss: Li et al. (2020). The other parts stand in `assignment`, `box_loss` and `class_loss`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.core.errors import ConfigError
from sightline.models.assignment import Assignment, AssignmentRule, Predicted, assign_targets
from sightline.models.box_loss import BoxLoss, box_loss
from sightline.models.class_loss import ClassLoss, Hits, class_loss
from sightline.models.contract import Targets, Total, own_share

__all__ = ["USUAL_TERMS", "DetectionRaw", "DetectionTerms", "assigned_loss", "summed_terms"]


class DetectionRaw(NamedTuple):
    """Raw output of an anchor-free detector over A = all cells of all levels."""

    distances: Tensor  # (B, A, 4 * bins) logits over the distance from the cell centre to left, top, right, bottom
    logits: Tensor  # (B, A, C) class logits
    centres_xy: Tensor  # (A, 2) cell centres, network pixels
    strides: Tensor  # (A, 1) pixels per cell; a distance bin is one stride wide


@dataclass(frozen=True, slots=True)
class DetectionTerms:
    """Kinds and weights of the three terms; ConfigError for a smoothing that its kind has not."""

    box_loss: BoxLoss = "ciou"
    cls_loss: ClassLoss = "bce"
    label_smoothing: float = 0.0
    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        if self.label_smoothing and self.cls_loss != "bce":
            raise ConfigError(f"label_smoothing belongs to cls_loss 'bce', not to '{self.cls_loss}'")


USUAL_TERMS = DetectionTerms()


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


def assigned_loss(
    raw: DetectionRaw,
    targets: Targets,
    bins: Tensor,
    rule: AssignmentRule,
    kinds: DetectionTerms,
    total: Total = own_share,
) -> tuple[dict[str, Tensor], Assignment]:
    """Terms `box`, `cls` and `dfl`, each times its weight, per unit of what is learnt; and the anchors that learn.

    Computed in float32 whatever the network ran in. Without objects `box` and `dfl` are 0 and `cls` pushes all
    scores down. `total` adds up over the shares of a batch, see `Model.loss`.
    """
    with torch.autocast(raw.logits.device.type, enabled=False):
        distances, logits = raw.distances.float(), raw.logits.float()
        targets = {key: value.to(logits.device) for key, value in targets.items()}
        targets["boxes"] = targets["boxes"].float()
        return _terms(DetectionRaw(distances, logits, raw.centres_xy, raw.strides), targets, bins, rule, kinds, total)


def _terms(
    raw: DetectionRaw, targets: Targets, bins: Tensor, rule: AssignmentRule, kinds: DetectionTerms, total: Total
) -> tuple[dict[str, Tensor], Assignment]:
    with torch.no_grad():
        boxes = boxes_from_distances(expected_distances(raw.distances, bins), raw.centres_xy, raw.strides)
        found = assign_targets(Predicted(raw.logits, boxes, raw.centres_xy, raw.strides), targets, rule)
        gt_boxes = targets["boxes"][found.target]
        centres, strides = raw.centres_xy[found.anchor], raw.strides[found.anchor]
        gt_distances = torch.cat((centres - gt_boxes[:, :2], gt_boxes[:, 2:] - centres), -1) / strides

    positive = raw.distances[found.image, found.anchor]
    predicted = boxes_from_distances(expected_distances(positive, bins), centres, strides)
    box = box_loss(kinds.box_loss, predicted, gt_boxes, strides)
    dfl = distribution_focal_loss(positive, gt_distances, bins.shape[0])
    return summed_terms(box, dfl, raw.logits, targets["labels"], found, kinds, total), found


def summed_terms(
    box: Tensor, dfl: Tensor, logits: Tensor, labels: Tensor, found: Assignment, kinds: DetectionTerms, total: Total
) -> dict[str, Tensor]:
    """The three terms of a batch from the losses (K,) of the boxes that learn, each times its weight."""
    hits = Hits(found.image, found.anchor, labels[found.target], found.score)
    cls = class_loss(kinds.cls_loss, logits, hits, kinds.label_smoothing)
    parts = found.weight.sum(), (box * found.weight).sum(), cls, (dfl * found.weight).sum()
    weight, box, cls, dfl = total(torch.stack(parts)).unbind()
    weight = weight.clamp(min=1)
    return {"box": box / weight * kinds.box, "cls": cls / weight * kinds.cls, "dfl": dfl / weight * kinds.dfl}
