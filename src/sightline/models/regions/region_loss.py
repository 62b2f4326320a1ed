"""Losses of two-stage detectors: what torchvision's modules match and sample, as sums over the shares of a batch.

Faster R-CNN: Ren et al. (2015). Mask R-CNN: He et al. (2017).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.contract import Targets
from sightline.models.regions.proposals import Proposed

__all__ = [
    "Sampled",
    "Truth",
    "head_sums",
    "image_truths",
    "keypoint_sums",
    "mask_sums",
    "proposal_sums",
    "sample_regions",
]

_BETA = 1 / 9  # where smooth L1 becomes linear
_WHOLE = 255.0  # of a cell, in targets


class Truth(NamedTuple):
    """The n objects of one image that have an area."""

    boxes: Tensor  # (n, 4) network pixels
    labels: Tensor  # (n,) from 1 on: 0 is the background
    rows: Tensor  # (n,) which of the batch each is


class Sampled(NamedTuple):
    """The R regions of a batch that learn."""

    regions: Tensor  # (R, 5) the number of the image, and the box in network pixels
    labels: Tensor  # (R,) 0 for background
    deltas: Tensor  # (R, 4) to the object's box, as the coder has them
    objects: Tensor  # (R,) which object of the batch, -1 for background


def image_truths(targets: Targets, batch: int) -> list[Truth]:
    """Of each image the objects that can be learnt: torchvision refuses boxes without an area."""
    boxes = targets["boxes"].float()
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    rows = [((targets["batch_index"] == image) & solid).nonzero().flatten() for image in range(batch)]
    return [Truth(boxes[own], targets["labels"][own] + 1, own) for own in rows]


def proposal_sums(network: Any, proposed: Proposed, truths: list[Truth]) -> Tensor:
    """(3,) sums over sampled anchors of objectness and of boxes, and how many anchors there are."""
    anchors = proposed.anchors_xyxy.float()
    objectness, deltas = proposed.objectness.float(), proposed.deltas.float()
    sums = torch.stack((objectness.sum() * 0.0, deltas.sum() * 0.0, deltas.new_zeros(())))
    for image, truth in enumerate(truths):
        labels, boxes = network.assign_targets_to_anchors([anchors], [{"boxes": truth.boxes}])
        positive, negative = (masks[0].bool() for masks in network.fg_bg_sampler(labels))
        wanted = network.box_coder.encode_single(boxes[0][positive], anchors[positive])
        box = functional.smooth_l1_loss(deltas[image][positive], wanted, beta=_BETA, reduction="sum")
        taken = positive | negative
        found = functional.binary_cross_entropy_with_logits(objectness[image][taken], labels[0][taken], reduction="sum")
        sums = sums + torch.stack((found, box, taken.sum().float()))
    return sums


def sample_regions(heads: Any, proposed: Proposed, truths: list[Truth]) -> Sampled:
    """As torchvision's `RoIHeads` samples them: proposals and the objects' own boxes, a quarter of them on objects."""
    none = proposed.regions_xyxy.new_zeros
    parts = [Sampled(none(0, 5), none(0).long(), none(0, 4), none(0).long())]
    for image, truth in enumerate(truths):
        regions = proposed.regions_xyxy[image][proposed.alive[image]]
        (boxes,) = heads.add_gt_proposals([regions], [truth.boxes])
        matched, labels = heads.assign_targets_to_proposals([boxes], [truth.boxes], [truth.labels])
        (taken,) = heads.subsample(labels)
        boxes, own, label = boxes[taken], matched[0][taken], labels[0][taken]
        wanted = truth.boxes[own] if len(truth.boxes) else torch.zeros_like(boxes)
        objects = truth.rows[own] if len(truth.rows) else own
        number = boxes.new_full((len(boxes), 1), float(image))
        deltas = heads.box_coder.encode_single(wanted, boxes)
        parts.append(Sampled(torch.cat((number, boxes), 1), label, deltas, torch.where(label > 0, objects, -1)))
    return Sampled(*(torch.cat(values) for values in zip(*parts, strict=True)))


def head_sums(logits: Tensor, deltas: Tensor, sampled: Sampled) -> Tensor:
    """(3,) sums over sampled regions of classes and of boxes, and how many regions there are.

    `logits` (R, C + 1), `deltas` (R, 4 · (C + 1)).
    """
    logits, of_class = logits.float(), deltas.float().reshape(len(logits), logits.shape[1], 4)
    classes = functional.cross_entropy(logits, sampled.labels, reduction="sum")
    positive = (sampled.labels > 0).nonzero().flatten()
    own = of_class[positive, sampled.labels[positive]]
    box = functional.smooth_l1_loss(own, sampled.deltas[positive], beta=_BETA, reduction="sum")
    return torch.stack((classes, box, logits.new_tensor(float(len(logits)))))


def mask_sums(logits: Tensor, sampled: Sampled, targets: Targets, size_hw: tuple[int, int]) -> Tensor:
    """(2,) sum over regions on objects of the mean cross-entropy of their masks, and how many have a mask.

    `logits` (R, C + 1, h, w) of sampled regions on objects, whose truth is cut out of the cells of `targets`, between
    the middles of cells linear. Objects whose mask is not known (no cells) are left out.
    """
    from torchvision.ops import roi_align

    sizes = (targets["cells"][:, 2:] - targets["cells"][:, :2]).clamp(min=0).prod(1)
    known = (sizes[sampled.objects] > 0).nonzero().flatten()
    nothing = logits.float().sum() * 0.0
    if not len(known):
        return torch.stack((nothing, nothing.detach()))
    objects, place = torch.unique(sampled.objects[known], return_inverse=True)
    first = sizes.cumsum(0) - sizes
    whole = logits.new_zeros((len(objects), 1, size_hw[0] // 4, size_hw[1] // 4), dtype=torch.float32)
    for number, row in enumerate(objects.tolist()):
        x1, y1, x2, y2 = targets["cells"][row].tolist()
        values = targets["masks"][int(first[row]) : int(first[row]) + int(sizes[row])]
        whole[number, 0, y1:y2, x1:x2] = values.reshape(y2 - y1, x2 - x1).float() / _WHOLE
    regions = torch.cat((place.float().unsqueeze(1), sampled.regions[known, 1:]), 1)
    height, width = logits.shape[2:]
    wanted = roi_align(whole, regions, (height, width), 0.25, 2, True)[:, 0]
    own = logits[known, sampled.labels[known]].float()
    wrong = functional.binary_cross_entropy_with_logits(own, wanted, reduction="sum") / (height * width)
    return torch.stack((wrong + nothing, wrong.new_tensor(float(len(known)))))


def keypoint_sums(logits: Tensor, sampled: Sampled, targets: Targets) -> Tensor:
    """(2,) sum of the cross-entropy of each labelled keypoint's place among the cells of its map, and how many there
    are. `logits` (R, P, h, h) of sampled regions on objects; keypoints outside of their region are left out."""
    from torchvision.models.detection.roi_heads import keypoints_to_heatmap

    nothing = logits.float().sum() * 0.0
    if not len(logits):
        return torch.stack((nothing, nothing.detach()))
    points = targets["keypoints"][sampled.objects].float()
    places, known = keypoints_to_heatmap(points, sampled.regions[:, 1:], logits.shape[-1])
    labelled = (known > 0) & (points[..., 2] > 0)
    wrong = functional.cross_entropy(logits.float().flatten(2)[labelled], places[labelled], reduction="sum")
    return torch.stack((wrong + nothing, labelled.sum().float()))
