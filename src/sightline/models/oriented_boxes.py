"""Oriented boxes as a network learns them: from distances and an angle to a box, ProbIoU, and the loss of both.

Boxes are (..., 5) `cx, cy, w, h, angle`, see `sightline.ops.oriented`; here the angle may be any. ProbIoU: Llerena et
al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection (2021).
"""

import torch
from torch import Tensor

from sightline.models.assignment import TASK_ALIGNED, Assignment, AssignmentRule, Predicted, assign_targets
from sightline.models.contract import Targets, Total, own_share
from sightline.models.detection_loss import (
    USUAL_TERMS,
    DetectionRaw,
    DetectionTerms,
    distribution_focal_loss,
    expected_distances,
    summed_terms,
)
from sightline.models.probiou import probiou

__all__ = ["enclosing_boxes", "oriented_from_distances", "oriented_loss"]


def oriented_from_distances(distances: Tensor, angles: Tensor, centres_xy: Tensor, strides: Tensor) -> Tensor:
    """Distances (..., 4) in strides from a cell's centre to the left, top, right and bottom side of a box that is
    turned by `angles` (...) -> boxes (..., 5) in network pixels.
    """
    left_top, right_bottom = (distances * strides).chunk(2, -1)
    x, y = ((right_bottom - left_top) / 2).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    middle = centres_xy + torch.stack((x * cos - y * sin, x * sin + y * cos), -1)
    return torch.cat((middle, left_top + right_bottom, angles[..., None]), -1)


def distances_to_sides(boxes: Tensor, centres_xy: Tensor, strides: Tensor) -> Tensor:
    """The way back: (K, 4) in strides, below 0 for a side that the cell's centre (K, 2) lies outside of."""
    x, y = (centres_xy - boxes[:, :2]).unbind(-1)
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    local = torch.stack((x * cos + y * sin, y * cos - x * sin), -1)
    half = boxes[:, 2:4] / 2
    return torch.cat((half + local, half - local), -1) / strides


def enclosing_boxes(boxes: Tensor) -> Tensor:
    """Oriented boxes (..., 5) -> the upright boxes (..., 4) xyxy around them."""
    cos, sin = boxes[..., 4:].cos().abs(), boxes[..., 4:].sin().abs()
    w, h = boxes[..., 2:3], boxes[..., 3:4]
    half = torch.cat((w * cos + h * sin, w * sin + h * cos), -1) / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), -1)


def oriented_loss(
    raw: DetectionRaw,
    angles: Tensor,
    targets: Targets,
    bins: Tensor,
    total: Total = own_share,
    rule: AssignmentRule = TASK_ALIGNED,
    kinds: DetectionTerms = USUAL_TERMS,
) -> tuple[dict[str, Tensor], Assignment]:
    """Terms `box` (1 - ProbIoU), `cls` and `dfl` (of the sides, measured in the box's own turn), each times its weight,
    per unit of what is learnt; and the anchors that learn. `angles` (B, A) are in radians.

    Computed in float32 whatever the network ran in; `total` adds up over the shares of a batch, see `Model.loss`.
    """
    with torch.autocast(raw.logits.device.type, enabled=False):
        raw = raw._replace(distances=raw.distances.float(), logits=raw.logits.float())
        angles = angles.float()
        targets = {key: value.to(raw.logits.device) for key, value in targets.items()}
        oriented = targets["oriented"].float()
        targets["boxes"] = targets["boxes"].float()
        with torch.no_grad():
            distances = expected_distances(raw.distances, bins)
            boxes = oriented_from_distances(distances, angles, raw.centres_xy, raw.strides)
            predicted = Predicted(raw.logits, enclosing_boxes(boxes), raw.centres_xy, raw.strides, boxes)
            found = assign_targets(predicted, {**targets, "oriented": oriented}, rule)
        wanted = oriented[found.target]
        centres, strides = raw.centres_xy[found.anchor], raw.strides[found.anchor]
        positive = raw.distances[found.image, found.anchor]
        turned = angles[found.image, found.anchor]
        got = oriented_from_distances(expected_distances(positive, bins), turned, centres, strides)
        sides = distances_to_sides(wanted, centres, strides)
        box = 1 - probiou(got, wanted)
        dfl = distribution_focal_loss(positive, sides, bins.shape[0])
        return summed_terms(box, dfl, raw.logits, targets["labels"], found, kinds, total), found
