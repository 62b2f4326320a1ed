"""The anchor head of YOLOv3: one anchor an object, sizes by an exponential, one class of several.

Source: Redmon and Farhadi (2018), decoding and assignment; loss: a published course report that trained it on VOC with
cross-entropy over the classes, binary cross-entropy where nothing is, objectness against the predicted box's IoU, and
squared errors of the box in the anchor's terms.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sightline.models.box_loss import iou
from sightline.models.contract import Targets, Total, own_share
from sightline.models.yolo.anchor_head import ANCHORS, OUTPUTS, AnchorHead, AnchorRaw, AnchorSizes, Positives
from sightline.models.yolo.head import STRIDES

__all__ = ["GAINS", "Yolo3Head", "assign_best_anchors"]

GAINS = {"box": 2.5, "obj": 1.0, "noobj": 10.0, "cls": 1.0}
IGNORED_OVERLAP = 0.5
"""Another anchor in an object's cell whose shape overlaps it by more is told neither that it is there nor not."""
_LARGEST = math.log(1000)  # of a box over its anchor: an exponential must not overflow


class Yolo3Head(AnchorHead):
    """As `AnchorHead`, but for what its outputs mean and how they learn."""

    def __init__(self, in_channels: Sequence[int], class_count: int, *, anchors: AnchorSizes = ANCHORS) -> None:
        super().__init__(in_channels, class_count, anchors=anchors)
        for level in self.levels:
            # A squared error moves no sigmoid that begins near 0: objectness begins in the middle.
            bias = level.bias.detach().view(len(anchors[0]), -1)  # type: ignore[operator]
            bias[:, OUTPUTS - 1] = 0

    def decode(self, raw: AnchorRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C), objectness times class, both float32."""
        outputs = raw.outputs.float()
        objectness = outputs[..., OUTPUTS - 1 : OUTPUTS].sigmoid()
        return _boxes(outputs[..., :4], raw.corners_xy, raw.strides, raw.anchors_wh), (
            objectness * outputs[..., OUTPUTS:].softmax(-1)
        )

    def loss(self, raw: AnchorRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box` (squared error of the centre's place in its cell and of the logarithms of size over anchor),
        `obj` (squared error of the objectness against the IoU), `noobj` and `cls`; times `GAINS`.

        Each a sum over the levels of its mean over what it is about; float32 whatever the network ran in.
        """
        return super().loss(raw, targets, total)

    def terms(self, raw: AnchorRaw, targets: Targets, total: Total) -> dict[str, Tensor]:
        """As `loss`, of outputs that are float32 and targets that lie beside them."""
        boxes, image, labels = targets["boxes"].float(), targets["batch_index"], targets["labels"]
        found, ignored = assign_best_anchors(boxes, self.anchors, raw.sizes_hw)
        self.note(raw, image, found)
        positive, wanted = raw.outputs[image[found.target], found.anchor], boxes[found.target]
        corners, strides, anchors = (part[found.anchor] for part in (raw.corners_xy, raw.strides, raw.anchors_wh))
        overlap = iou(_boxes(positive[:, :4], corners, strides, anchors), wanted).detach().clamp(min=0)
        objectness = (positive[:, OUTPUTS - 1].sigmoid() - overlap) ** 2
        size = (wanted[:, 2:] - wanted[:, :2]).clamp(min=1e-3) / anchors
        place = ((wanted[:, :2] + wanted[:, 2:]) / 2 - corners) / strides
        errors = torch.cat((positive[:, :2].sigmoid() - place, positive[:, 2:4] - size.log()), 1)
        box = (errors**2).mean(1)
        cls = functional.cross_entropy(positive[:, OUTPUTS:], labels[found.target], reduction="none")
        # -log(1 - sigmoid(x)) where nothing is.
        empty = raw.outputs.new_ones(raw.outputs.shape[:2])
        for pairs in (found, ignored):
            empty[image[pairs.target], pairs.anchor] = 0
        background = functional.softplus(raw.outputs[..., OUTPUTS - 1]) * empty
        sums, last = [], 0
        for height, width in raw.sizes_hw:
            first, last = last, last + height * width * self.anchors.shape[1]
            own = (found.anchor >= first) & (found.anchor < last)
            values = (box[own].sum(), objectness[own].sum(), cls[own].sum(), background[:, first:last].sum())
            sums.append(torch.stack((*values, own.sum().float(), empty[:, first:last].sum())))
        box, objectness, cls, background, found_count, empty_count = total(torch.stack(sums)).unbind(1)
        found_count, empty_count = found_count.clamp(min=1), empty_count.clamp(min=1)
        return {
            "box": (box / found_count).sum() * GAINS["box"],
            "obj": (objectness / found_count).sum() * GAINS["obj"],
            "noobj": (background / empty_count).sum() * GAINS["noobj"],
            "cls": (cls / found_count).sum() * GAINS["cls"],
        }


def _boxes(outputs: Tensor, corners_xy: Tensor, strides: Tensor, anchors_wh: Tensor) -> Tensor:
    """(..., 4) logits -> (..., 4) xyxy: a centre inside its cell, a size the anchor's times an exponential."""
    centre = corners_xy + outputs[..., :2].sigmoid() * strides
    half = outputs[..., 2:].clamp(max=_LARGEST).exp() * anchors_wh / 2
    return torch.cat((centre - half, centre + half), -1)


@torch.no_grad()
def assign_best_anchors(
    boxes_xyxy: Tensor, anchors_wh: Tensor, sizes_hw: tuple[tuple[int, int], ...]
) -> tuple[Positives, Positives]:
    """For each object (N, 4) the anchor of all levels (L, K, 2) with the best IoU by shape, in the cell of its centre;
    and the other anchors there, at any level, whose shape overlaps it by more than `IGNORED_OVERLAP`.
    """
    middle, size = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    shapes = anchors_wh.flatten(0, 1)
    both = torch.minimum(size[:, None], shapes).prod(-1)
    overlap = both / (size.prod(-1)[:, None] + shapes.prod(-1) - both).clamp(min=1e-9)  # (N, L * K)
    rows, first, count = [], 0, anchors_wh.shape[1]
    for stride, (height, width) in zip(STRIDES, sizes_hw, strict=True):
        last = torch.tensor((width - 1, height - 1), device=middle.device)
        x, y = torch.minimum((middle / stride).floor().clamp(min=0), last).long().unbind(-1)
        rows += [first + (y * width + x) * count + anchor for anchor in range(count)]
        first += height * width * count
    places = torch.stack(rows, 1)  # (N, L * K): where the anchor of each kind stands in the object's cell
    target = torch.arange(len(size), device=size.device)
    best = overlap.argmax(1)
    near = overlap > IGNORED_OVERLAP
    near[target, best] = False
    target_near, kind = near.nonzero(as_tuple=True)
    return Positives(places[target, best], target), Positives(places[target_near, kind], target_near)
