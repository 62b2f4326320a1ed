"""The anchor head of YOLOv5: per cell three anchor boxes, each with four box outputs, objectness and class logits.

An object is learnt by every anchor that is less than four times as wide, as narrow, as high and as low as it, in its
own cell and in the two that its centre is nearest to. Source: Jocher, YOLOv5 (2020), assignment, decoding and weights
of the terms as facts; CIoU: Zheng et al. (2020).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.errors import ConfigError
from sightline.models.assignment import AssignedMeter
from sightline.models.box_loss import ciou
from sightline.models.contract import Targets, Total, own_share
from sightline.models.yolo.head import STRIDES, cell_centres

__all__ = [
    "ANCHORS",
    "BALANCES",
    "AnchorHead",
    "AnchorRaw",
    "AnchorSizes",
    "Balance",
    "BalanceName",
    "Positives",
    "assign_anchors",
    "level_balance",
]

AnchorSizes: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]
"""(width, height) in network pixels of the anchors of each level, finest first; of every level equally many."""
ANCHORS: AnchorSizes = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Those made for objects in photographs, of COCO."""
GREATEST_RATIO = 4.0
"""How many times as wide, narrow, high or low an object may be as an anchor that learns it."""
Balance: TypeAlias = tuple[float, float, float]
BalanceName: TypeAlias = Literal["usual", "even"]
BALANCES: dict[BalanceName, Balance] = {"usual": (4.0, 1.0, 0.4), "even": (1.0, 1.0, 1.0)}
"""Weights of the objectness of each level by name: fine levels have many cells, and so little to say in a mean."""
GAINS = {"box": 0.05, "obj": 1.0, "cls": 0.5}
MOST_ANCHORS = 16
MOST_PIXELS = 10_000
OUTPUTS = 5  # x, y, width, height, objectness


class AnchorRaw(NamedTuple):
    """Raw output over A = all anchors of all cells; cell by cell, level by level, the finest first."""

    outputs: Tensor  # (B, A, 5 + C) logits: x, y, width, height, objectness, classes
    corners_xy: Tensor  # (A, 2) top-left corner of the cell, network pixels
    strides: Tensor  # (A, 1) pixels per cell
    anchors_wh: Tensor  # (A, 2) network pixels
    sizes_hw: tuple[tuple[int, int], ...]  # cells of each level


class Positives(NamedTuple):
    """The K pairs of an anchor and an object it learns; an anchor may learn several."""

    anchor: Tensor  # (K,) index into the anchors
    target: Tensor  # (K,) index into the objects


def checked_anchors(anchors: AnchorSizes) -> AnchorSizes:
    """The anchors; ConfigError unless each of the three levels has equally many, all with a width and a height."""
    counts = [len(level) for level in anchors]
    if len(counts) != len(STRIDES) or len(set(counts)) != 1 or not 1 <= counts[0] <= MOST_ANCHORS:
        raise ConfigError(
            f"anchors must be {len(STRIDES)} levels of equally many (width, height), 1..{MOST_ANCHORS}, got {counts}",
            do="'sightline anchors DATA' proposes some",
        )
    for size in (side for level in anchors for pair in level for side in pair):
        if not 0 < size <= MOST_PIXELS:
            raise ConfigError(f"an anchor's sides must be above 0 and at most {MOST_PIXELS} pixels, got {size}")
    return anchors


def level_balance(given: BalanceName | Balance) -> Balance:
    """The weights of the levels by name, or as they are given; ConfigError for a negative weight."""
    if isinstance(given, str):
        return BALANCES[given]
    if any(not 0 <= weight < math.inf for weight in given):
        raise ConfigError(f"balance must be three weights of at least 0, got {list(given)}")
    return given


class AnchorHead(nn.Module):
    """One 1x1 convolution per level to K * (5 + C) logits, K the anchors of a level.

    An anchor learns objects up to `anchor_ratio` times as large or small. ConfigError for anchors that are none.
    """

    anchors: Tensor
    class_tensors = ("levels.",)

    def __init__(
        self,
        in_channels: Sequence[int],
        class_count: int,
        *,
        anchors: AnchorSizes = ANCHORS,
        balance: Balance = BALANCES["usual"],
        anchor_ratio: float = GREATEST_RATIO,
    ) -> None:
        super().__init__()
        self.class_count, self.balance, self.anchor_ratio = class_count, balance, anchor_ratio
        self.assigned = AssignedMeter()
        self.register_buffer("anchors", torch.tensor(checked_anchors(anchors), dtype=torch.float32), persistent=False)
        count = len(anchors[0])
        if not 1 < anchor_ratio < math.inf:
            raise ConfigError(f"anchor_ratio must be above 1, got {anchor_ratio}")
        self.levels = nn.ModuleList(nn.Conv2d(channels, count * (OUTPUTS + class_count), 1) for channels in in_channels)
        for level, stride in zip(self.levels, STRIDES, strict=True):
            # Start with few detections: eight objects in a 640 pixel image, spread over the cells of a level.
            bias = level.bias.detach().view(count, -1)  # type: ignore[operator]
            bias[:, OUTPUTS - 1] += math.log(8 / (640 / stride) ** 2)
            bias[:, OUTPUTS:] += math.log(0.6 / (class_count - 0.99999))

    def forward(self, features: list[Tensor]) -> AnchorRaw:
        """Flatten the levels, finest first."""
        count, width = self.anchors.shape[1], OUTPUTS + self.class_count
        outputs = [
            level(x).unflatten(1, (count, width)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            for level, x in zip(self.levels, features, strict=True)
        ]
        sizes = [(x.shape[2], x.shape[3]) for x in features]
        centres, strides = cell_centres(sizes, features[0].device)
        anchors = torch.cat([level.repeat(h * w, 1) for level, (h, w) in zip(self.anchors, sizes, strict=True)])
        strides = strides.repeat_interleave(count, 0)
        corners = centres.repeat_interleave(count, 0) - strides / 2
        return AnchorRaw(torch.cat(outputs, 1), corners, strides, anchors, tuple(sizes))

    def decode(self, raw: AnchorRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C), objectness times class, both float32."""
        outputs = raw.outputs.float()
        shares = outputs[..., OUTPUTS - 1 :].sigmoid()
        return _boxes(outputs[..., :4], raw.corners_xy, raw.strides, raw.anchors_wh), shares[..., :1] * shares[..., 1:]

    def loss(self, raw: AnchorRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box` (1 - CIoU), `obj` (against CIoU, all anchors) and `cls`, weighted by `GAINS` and the balance.

        Box and class terms are means over the positives of a level; computed in float32 whatever the network ran in.
        """
        with torch.autocast(raw.outputs.device.type, enabled=False):
            outputs = raw.outputs.float()
            targets = {key: value.to(outputs.device) for key, value in targets.items()}
            return self.terms(raw._replace(outputs=outputs), targets, total)

    def terms(self, raw: AnchorRaw, targets: Targets, total: Total) -> dict[str, Tensor]:
        """As `loss`, of outputs that are float32 and targets that lie beside them."""
        boxes, image, labels = targets["boxes"].float(), targets["batch_index"], targets["labels"]
        found = assign_anchors(boxes, self.anchors, raw.sizes_hw, self.anchor_ratio)
        here = image[found.target], found.anchor
        positive = raw.outputs[here]
        place = (part[found.anchor] for part in (raw.corners_xy, raw.strides, raw.anchors_wh))
        overlap = ciou(_boxes(positive[:, :4], *place), boxes[found.target])
        wanted = raw.outputs.new_zeros(raw.outputs.shape[:2])
        # Of several objects that share an anchor the best framed one says how much of an object is there.
        flat = here[0] * raw.outputs.shape[1] + here[1]
        self.note(raw, image, found)
        wanted.view(-1).scatter_reduce_(0, flat, overlap.detach().clamp(min=0), "amax")
        yes_no = functional.binary_cross_entropy_with_logits
        objectness = yes_no(raw.outputs[..., OUTPUTS - 1], wanted, reduction="none")
        classes = functional.one_hot(labels[found.target], self.class_count).to(positive.dtype)
        wrong = yes_no(positive[:, OUTPUTS:], classes, reduction="none").sum(1)
        sums, last = [], 0
        for height, width in raw.sizes_hw:
            first, last = last, last + height * width * self.anchors.shape[1]
            own = (found.anchor >= first) & (found.anchor < last)
            level = objectness[:, first:last]
            counts = torch.tensor((float(own.sum()), float(level.numel())), device=overlap.device)
            sums.append(torch.stack(((1 - overlap)[own].sum(), wrong[own].sum(), level.sum(), *counts)))
        box, cls, obj, found_count, anchor_count = total(torch.stack(sums)).unbind(1)
        found_count = found_count.clamp(min=1)
        balance = torch.tensor(self.balance, device=box.device)
        # The weights were found at 640: a smaller picture has as many objects for fewer anchors.
        area = math.prod(raw.sizes_hw[0]) * STRIDES[0] ** 2 / 640**2
        return {
            "box": (box / found_count).sum() * GAINS["box"],
            "obj": (obj / anchor_count.clamp(min=1) * balance).sum() * GAINS["obj"] * area,
            # One class is no question; the gain of several was found for the 80 of COCO.
            "cls": (cls / found_count).sum() * (GAINS["cls"] / 80 if self.class_count > 1 else 0.0),
        }

    def note(self, raw: AnchorRaw, image: Tensor, found: Positives) -> None:
        """Count what this batch of training is learnt by; `image` is that of each object."""
        if self.training:
            batch, anchors = raw.outputs.shape[:2]
            places = image[found.target] * anchors + found.anchor
            self.assigned.update(len(torch.unique(places)), batch * anchors, found.target, len(image))


def _boxes(logits: Tensor, corners_xy: Tensor, strides: Tensor, anchors_wh: Tensor) -> Tensor:
    """(..., 4) logits -> (..., 4) xyxy: a centre half a cell around the cell, a size up to four times the anchor's."""
    shares = logits.sigmoid() * 2
    centre = corners_xy + (shares[..., :2] - 0.5) * strides
    half = shares[..., 2:] ** 2 * anchors_wh / 2
    return torch.cat((centre - half, centre + half), -1)


_BESIDE = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@torch.no_grad()
def assign_anchors(
    boxes_xyxy: Tensor, anchors_wh: Tensor, sizes_hw: Sequence[tuple[int, int]], greatest_ratio: float = GREATEST_RATIO
) -> Positives:
    """Every anchor (L, K, 2) that fits an object (N, 4), in the cell of its centre and the two cells next to that.

    An object that fits no anchor is learnt by none, as in the source.
    """
    middle, size = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    targets, found, first = [], [], 0
    for stride, anchors, (height, width) in zip(STRIDES, anchors_wh, sizes_hw, strict=True):
        ratio = size[:, None] / anchors
        fits = torch.maximum(ratio, 1 / ratio.clamp(min=1e-9)).amax(-1) < greatest_ratio  # (N, K)
        last = torch.tensor((width - 1, height - 1), device=middle.device)
        centre = middle / stride
        own = torch.minimum(centre.floor().clamp(min=0), last)
        cells = own[:, None] + torch.tensor(_BESIDE, device=middle.device)  # (N, 5, 2)
        # The next cell is one whose middle is less than a cell away: left or right, above or below, never both.
        near = ((centre[:, None] - 0.5 - cells).abs() < 1).all(-1) & (cells >= 0).all(-1) & (cells <= last).all(-1)
        near[:, 0] = True
        target, cell, anchor = (near[:, :, None] & fits[:, None]).nonzero(as_tuple=True)
        x, y = cells[target, cell].long().unbind(-1)
        targets.append(target)
        found.append(first + (y * width + x) * len(anchors) + anchor)
        first += height * width * len(anchors)
    return Positives(torch.cat(found), torch.cat(targets))
