"""R-CNN and Fast R-CNN, small: one network pass for each region, against one for each image.

Girshick et al., Rich feature hierarchies (2014), and Girshick, Fast R-CNN (2015). Regions come from selective search,
which learns nothing. Both have the same convolutions and the same head, so that what differs is where regions are cut
out: of the image, warped to 64 x 64 pixels, or of one map of the whole image, to 8 x 8 cells. Unlike in the papers a
cell is one sample between cells (He et al. 2017) in place of the greatest of rounded ones, and classes are learnt by a
softmax in place of support vector machines, with the boxes in one step, from scratch.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.blocks import ConvBnAct
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.regions.region_loss import Sampled, Truth, head_sums, image_truths
from sightline.models.regions.selection import best_pairs
from sightline.ops.selective_search import selective_search

__all__ = ["CLASSIC_MODELS", "ClassicRaw", "RegionClassifier", "cut_out"]

Kind: TypeAlias = Literal["rcnn", "fast-rcnn"]
MULTIPLE = 32
_STRIDE = 8
_CROP = 64  # pixels on a side of a warped region
_CELLS = _CROP // _STRIDE
_MOST_PAIRS = 1000
_SAMPLED, _ON_OBJECTS = 64, 16  # regions of an image that learn, and at most how many of them on objects
_LEAST_IOU = 0.5  # with an object, of a region that learns it
_LARGEST_GROWTH = 4.0  # logarithm of how much a box may be larger than its region
_STEPS = (10.0, 10.0, 5.0, 5.0)  # of the offsets, so that all are learnt alike


class ClassicRaw(NamedTuple):
    """Raw output: where regions are cut out, and the regions."""

    source: Tensor  # (B, C, h, w): the images, or one map of each
    regions_xyxy: Tensor  # (B, P, 4) network pixels
    alive: Tensor  # (B, P) bool: false for those that only fill up


class RegionClassifier(nn.Module):
    """R-CNN or Fast R-CNN. Input (B, 3, H, W) RGB in 0..1, H and W multiples of 32."""

    not_exportable = "its regions come from selective search, which no ONNX graph can hold"

    def __init__(self, kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int], regions: int) -> None:
        super().__init__()
        if not 1 <= regions <= 2000:
            raise ConfigError(f"regions must be 1..2000, got {regions}")
        self.name = kind
        self.task: Task = "detect"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, MULTIPLE))
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "regions": regions}
        self.operating_point = OperatingPoint(iou=0.5)
        self.regions = regions
        self.trunk = nn.Sequential(
            ConvBnAct(3, 32, 3, 2), ConvBnAct(32, 64, 3, 2), ConvBnAct(64, 128, 3, 2), ConvBnAct(128, 128, 3)
        )
        self.head = nn.Sequential(
            ConvBnAct(128, 128, 3, 2), nn.Flatten(), nn.Linear(128 * (_CELLS // 2) ** 2, 256), nn.SiLU()
        )
        self.classes = nn.Linear(256, len(class_names) + 1)
        self.offsets = nn.Linear(256, 4 * (len(class_names) + 1))
        self.class_tensors: tuple[str, ...] = ("classes.", "offsets.")

    def forward(self, images: Tensor) -> ClassicRaw:
        """The images, or a map of each, and the regions of selective search."""
        check_input(images, MULTIPLE)
        source = images if self.name == "rcnn" else self.trunk(images)
        return ClassicRaw(source, *self._searched(images))

    def loss(self, raw: ClassicRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `cls` (cross-entropy) and `box` (smooth L1), means over 64 regions of an image, drawn by torch's global
        generator: at most a quarter on objects (IoU 0.5), the objects' own boxes among them.
        """
        check_targets(self.task, targets, len(self.class_names))
        device = raw.source.device
        targets = {name: value.to(device) for name, value in targets.items()}
        truths = image_truths(targets, raw.source.shape[0])
        drawn = [_drawn(raw.regions_xyxy[i][raw.alive[i]], truth, i) for i, truth in enumerate(truths)]
        empty = Sampled(*(torch.zeros(shape, device=device) for shape in ((0, 5), (0,), (0, 4), (0,))))
        sampled = Sampled(*(torch.cat(parts) for parts in zip(empty, *drawn, strict=True)))
        sampled = sampled._replace(labels=sampled.labels.long())
        boxes = raw.regions_xyxy.new_zeros((raw.source.shape[0], _SAMPLED, 4))
        taken = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=device)
        for image, part in enumerate(drawn):
            boxes[image, : len(part.labels)], taken[image, : len(part.labels)] = part.regions[:, 1:], True
        logits, deltas = (x[taken.flatten()] for x in self._judged(raw.source, boxes, taken))
        with torch.autocast(device.type, enabled=False):
            cls, box, count = total(head_sums(logits, deltas, sampled)).unbind()
        return {"cls": cls / count.clamp(min=1), "box": box / count.clamp(min=1)}

    def decode(self, raw: ClassicRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, K, 4) in network pixels and scores (B, K, C) in 0..1, each row of one class, float32: the best
        1000 pairs of a region and a class, nothing suppressed.
        """
        batch, count = raw.alive.shape
        classes = len(self.class_names)
        logits, deltas = self._judged(raw.source, raw.regions_xyxy, raw.alive)
        boxes = _moved(raw.regions_xyxy.unsqueeze(2), deltas.float().reshape(batch, count, classes + 1, 4)[:, :, 1:])
        scores = logits.float().softmax(-1)[:, 1:].reshape(batch, count, classes) * raw.alive.unsqueeze(-1)
        pairs = best_pairs(boxes, scores, _MOST_PAIRS)
        return pairs.boxes_xyxy, pairs.by_class(classes)

    def _judged(self, source: Tensor, boxes: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B · N, C + 1) and offsets (B · N, 4 · (C + 1)) of the boxes (B, N, 4) that are taken (B, N); of
        others 0, at no cost.
        """
        scale, side = (1.0, _CROP) if self.name == "rcnn" else (1 / _STRIDE, _CELLS)
        rows = slice(None) if taken.device.type == "meta" else taken.flatten()
        crops = cut_out(source, boxes, scale, side)[rows]
        told = self.head(self.trunk(crops) if self.name == "rcnn" else crops)
        found = self.classes(told), self.offsets(told)
        whole = [x.new_zeros((taken.numel(), x.shape[1])) for x in found]
        for values, x in zip(whole, found, strict=True):
            values[rows] = x
        return whole[0], whole[1]

    def _searched(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (B, P, 4) of each image, and which are not mere filling (B, P)."""
        batch, count = images.shape[0], self.regions
        if images.device.type == "meta":  # for counting: nothing can be searched
            return images.new_zeros((batch, count, 4)), torch.ones((batch, count), dtype=torch.bool, device="meta")
        boxes, alive = np.zeros((batch, count, 4), np.float32), np.zeros((batch, count), np.bool_)
        pixels = (images.detach().float() * 255).round().clamp(0, 255).permute(0, 2, 3, 1).byte().cpu().numpy()
        for image, picture in enumerate(pixels):
            found = selective_search(np.ascontiguousarray(picture), count)
            boxes[image, : len(found)], alive[image, : len(found)] = found, True
        return torch.from_numpy(boxes).to(images.device), torch.from_numpy(alive).to(images.device)


def cut_out(x: Tensor, boxes_xyxy: Tensor, scale: float, side: int) -> Tensor:
    """Of x (B, C, h, w) what lies in boxes (B, N, 4), which times `scale` are in its cells: (B · N, C, side, side).

    A value is that at the middle of its part of the box, between the middles of cells linear.
    """
    (batch, count), (height, width) = boxes_xyxy.shape[:2], x.shape[2:]
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # under autocast 8 bits would hold a coordinate
    x1, y1, x2, y2 = (boxes_xyxy.to(x.dtype) * scale).unbind(-1)
    along = (torch.arange(side, device=x.device, dtype=x.dtype) + 0.5) / side
    columns = (x1.unsqueeze(-1) + (x2 - x1).unsqueeze(-1) * along) * 2 / width - 1
    rows = (y1.unsqueeze(-1) + (y2 - y1).unsqueeze(-1) * along) * 2 / height - 1
    places = torch.stack(
        (columns.unsqueeze(2).expand(-1, -1, side, -1), rows.unsqueeze(3).expand(-1, -1, -1, side)), -1
    ).reshape(batch, count * side, side, 2)
    cut = functional.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.reshape(batch, x.shape[1], count, side, side).transpose(1, 2).flatten(0, 1)


def _drawn(regions: Tensor, truth: Truth, image: int) -> Sampled:
    """The regions of one image that learn."""
    boxes = torch.cat((regions, truth.boxes))
    overlaps = _ious(boxes, truth.boxes)
    best, own = (
        overlaps.max(1) if len(truth.boxes) else (overlaps.new_zeros(len(boxes)), overlaps.new_zeros(len(boxes)))
    )
    on_object = best >= _LEAST_IOU
    positive, negative = (rows[torch.randperm(len(rows), device=boxes.device)] for rows in _rows(on_object))
    positive = positive[:_ON_OBJECTS]
    rows = torch.cat((positive, negative[: _SAMPLED - len(positive)]))
    boxes, own = boxes[rows], own[rows].long()
    wanted = truth.boxes[own] if len(truth.boxes) else boxes
    labels = torch.where(on_object[rows], truth.labels[own] if len(truth.boxes) else own, 0)
    number = boxes.new_full((len(boxes), 1), float(image))
    return Sampled(torch.cat((number, boxes), 1), labels, _offsets(boxes, wanted), own)


def _rows(chosen: Tensor) -> tuple[Tensor, Tensor]:
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def _ious(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) of boxes (N, 4) and (M, 4) with an area."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1] - shared)


def _offsets(regions: Tensor, boxes: Tensor) -> Tensor:
    """(N, 4) from regions to boxes: of the centre in sides of the region, of the sides as logarithms."""
    sides, wanted = (x[:, 2:] - x[:, :2] for x in (regions, boxes))
    centres = ((boxes[:, :2] + boxes[:, 2:]) - (regions[:, :2] + regions[:, 2:])) / 2 / sides
    return torch.cat((centres, (wanted / sides).log()), 1) * regions.new_tensor(_STEPS)


def _moved(regions: Tensor, offsets: Tensor) -> Tensor:
    """The boxes (…, 4) that offsets (…, 4) make of regions; the reverse of `_offsets`."""
    steps = offsets / offsets.new_tensor(_STEPS)
    sides = regions[..., 2:] - regions[..., :2]
    centres = (regions[..., :2] + regions[..., 2:]) / 2 + steps[..., :2] * sides
    half = sides * steps[..., 2:].clamp(max=_LARGEST_GROWTH).exp() / 2
    return torch.cat((centres - half, centres + half), -1)


def build_classic(
    kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 320, regions: int = 200
) -> Any:
    """R-CNN or Fast R-CNN on at most `regions` regions of an image."""
    return RegionClassifier(kind, class_names, imgsz=imgsz, regions=regions)


CLASSIC_MODELS = {kind: partial(build_classic, kind) for kind in get_args(Kind)}
"""Builders by name."""
