"""Loss of keypoints: how similar they are to the labelled ones in the very measure they are judged by, and whether they
can be located at all.

Source: Maji et al., YOLO-Pose (2022); the similarity: the COCO keypoint evaluation (2016).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.assignment import Assignment
from sightline.models.contract import Targets, Total, own_share

__all__ = ["pose_loss"]

_LEAST_AREA = 1.0  # square pixels


def pose_loss(
    points: Tensor, found: Assignment, targets: Targets, sigmas: Sequence[float], total: Total = own_share
) -> tuple[Tensor, Tensor]:
    """1 - OKS of the K assigned candidates, the mean over the labelled points of each and then over the candidates; and
    the binary cross-entropy of whether each point is labelled, a mean over the points.

    `points` (P, K, 3) are x, y in network pixels and a logit. An object of which no point is labelled says nothing of
    where its points are, nor that there are none, and is left out. Both are 0 without objects. The area is that of the
    object's box: that of its outline, where there is one, is not among the targets. `total` adds up over the shares of
    a batch, see `Model.loss`.
    """
    wanted = targets["keypoints"][found.target].float()
    labelled = wanted[..., 2] > 0
    learnt = labelled.any(1)
    points, wanted, labelled = points[learnt], wanted[learnt], labelled[learnt]
    sides = (targets["boxes"][:, 2:] - targets["boxes"][:, :2]).float()[found.target[learnt]]
    area = sides.prod(1, keepdim=True).clamp(min=_LEAST_AREA)
    spread = 2 * torch.tensor(sigmas, dtype=torch.float32, device=points.device)
    distance2 = (points[..., :2] - wanted[..., :2]).square().sum(-1)
    unlike = -torch.expm1(-distance2 / (2 * area * spread.square()))
    counts = labelled.sum(1)
    off = ((unlike * labelled).sum(1) / counts.clamp(min=1)).sum()
    logits = points[..., 2]
    unsure = functional.binary_cross_entropy_with_logits(logits, labelled.float(), reduction="sum")
    sizes = torch.tensor((len(points), logits.numel()), dtype=torch.float32, device=points.device)
    off, unsure, objects, every = total(torch.cat((torch.stack((off, unsure)), sizes))).unbind()
    return off / objects.clamp(min=1), unsure / every.clamp(min=1)
