"""YOLOv1 on ResNet-50: one grid of cells, two boxes and one distribution over the classes in each.

Source: Redmon et al., "You Only Look Once" (2016), decoding, responsibility and weights of the terms; the network is
that of a published re-implementation as facts (26,728,060 parameters for 20 classes): ResNet-50, three dilated
bottlenecks, one 3x3. The four terms are squared errors, as in a published course report on it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.preprocess import Preprocess
from sightline.models.assignment import AssignedMeter
from sightline.models.box_loss import iou
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.resnet import RESNET50_CHANNELS, DetNetBottleneck, NormConv, resnet50_stages

__all__ = ["GAINS", "GridRaw", "YoloV1"]

STRIDE = 32
BOXES = 2
GAINS = {"box": 5.0, "obj": 1.0, "noobj": 0.5, "cls": 1.0}
_BOX_VALUES = 5  # x, y in the cell; width, height of the image; confidence
_WIDTH = 256
_LEAST_SHARE = 1e-6  # the root of a side has no slope at 0
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GridRaw(NamedTuple):
    """Raw output over G = all cells, row by row."""

    boxes: Tensor  # (B, G, 2, 5) logits: x, y, width, height, confidence
    classes: Tensor  # (B, G, C) logits
    corners_xy: Tensor  # (G, 2) top-left corner of the cell, network pixels
    size_wh: Tensor  # (2,) of the image, network pixels


class YoloV1(nn.Module):
    """Input (B, 3, H, W), RGB as ImageNet's networks take it, H and W multiples of 32; 448 makes the grid 14 wide."""

    def __init__(self, name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int]) -> None:
        super().__init__()
        self.name = name
        self.task: Task = "detect"
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, STRIDE), mean=_MEAN, std=_STD)
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.class_tensors: tuple[str, ...] = ("head.",)
        self.assigned = AssignedMeter()
        self.stem, self.stage2, self.stage3, self.stage4, self.stage5 = resnet50_stages()
        self.dilated = nn.Sequential(
            DetNetBottleneck(RESNET50_CHANNELS, _WIDTH, project=True),
            DetNetBottleneck(_WIDTH, _WIDTH, project=False),
            DetNetBottleneck(_WIDTH, _WIDTH, project=False),
        )
        self.head = NormConv(_WIDTH, BOXES * _BOX_VALUES + len(class_names), 3, activation="none")

    def forward(self, images: Tensor) -> GridRaw:
        """Raw outputs of all cells."""
        check_input(images, STRIDE)
        x = images
        for part in (self.stem, self.stage2, self.stage3, self.stage4, self.stage5, self.dilated, self.head):
            x = part(x)
        height, width = x.shape[2:]
        flat = x.permute(0, 2, 3, 1).flatten(1, 2)
        boxes, classes = flat[..., : BOXES * _BOX_VALUES], flat[..., BOXES * _BOX_VALUES :]
        columns, rows = torch.arange(width, device=x.device), torch.arange(height, device=x.device)
        row, column = torch.meshgrid(rows, columns, indexing="ij")
        corners = torch.stack((column, row), -1).reshape(-1, 2).float() * STRIDE
        size = torch.tensor([float(width * STRIDE), float(height * STRIDE)], device=x.device)
        return GridRaw(boxes.reshape(*boxes.shape[:2], BOXES, _BOX_VALUES), classes, corners, size)

    def loss(self, raw: GridRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """Terms `box`, `obj`, `noobj` and `cls`, squared errors summed over the cells, per image, times `GAINS`.

        In a cell with an object's centre the box that overlaps it most is responsible: its place and the roots of its
        sides are learnt, its confidence is to be that overlap; all other confidences are to be 0. Of several objects in
        a cell the largest is learnt. Computed in float32 whatever the network ran in.
        """
        check_targets(self.task, targets, len(self.class_names))
        with torch.autocast(raw.boxes.device.type, enabled=False):
            targets = {key: value.to(raw.boxes.device) for key, value in targets.items()}
            return self._terms(raw._replace(boxes=raw.boxes.float(), classes=raw.classes.float()), targets, total)

    def _terms(self, raw: GridRaw, targets: Targets, total: Total) -> dict[str, Tensor]:
        image, cell, target = _cells_of(targets["boxes"].float(), targets["batch_index"], raw)
        if self.training:
            anchors = raw.boxes.shape[0] * raw.boxes.shape[1] * BOXES
            self.assigned.update(len(target), anchors, target, len(targets["labels"]))
        wanted, labels = targets["boxes"].float()[target], targets["labels"][target]
        shares = raw.boxes.sigmoid()
        with torch.no_grad():
            proposed = _boxes(shares[image, cell], raw.corners_xy[cell, None], raw.size_wh)
            overlap, box = iou(proposed, wanted[:, None].expand_as(proposed)).max(1)
        chosen = shares[image, cell, box]
        place = ((wanted[:, :2] + wanted[:, 2:]) / 2 - raw.corners_xy[cell]) / STRIDE
        roots = ((wanted[:, 2:] - wanted[:, :2]) / raw.size_wh).clamp(min=_LEAST_SHARE).sqrt()
        error = (chosen[:, :2] - place) ** 2 + (chosen[:, 2:4].clamp(min=_LEAST_SHARE).sqrt() - roots) ** 2
        empty = shares.new_ones(shares.shape[:3])
        empty[image, cell, box] = 0
        kinds = torch.nn.functional.one_hot(labels, len(self.class_names)).to(shares.dtype)
        sums = {
            "box": error.sum(),
            "obj": ((chosen[:, 4] - overlap) ** 2).sum(),
            "noobj": (shares[..., 4] ** 2 * empty).sum(),
            "cls": ((raw.classes[image, cell].sigmoid() - kinds) ** 2).sum(),
        }
        count = shares.new_tensor(float(shares.shape[0]))
        *values, images = total(torch.stack((*sums.values(), count))).unbind()
        return {name: value / images.clamp(min=1) * GAINS[name] for name, value in zip(sums, values, strict=True)}

    def decode(self, raw: GridRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, 2 G, 4) in network pixels and scores (B, 2 G, C), confidence times class, both float32."""
        shares, classes = raw.boxes.float().sigmoid(), raw.classes.float().sigmoid()
        boxes = _boxes(shares, raw.corners_xy[:, None], raw.size_wh)
        return boxes.flatten(1, 2), (shares[..., 4:] * classes[:, :, None]).flatten(1, 2)


def _boxes(shares: Tensor, corners_xy: Tensor, size_wh: Tensor) -> Tensor:
    """(..., 5) values in 0..1 -> (..., 4) xyxy: a centre in its cell, a size in shares of the image."""
    centre = corners_xy + shares[..., :2] * STRIDE
    half = shares[..., 2:4] * size_wh / 2
    return torch.cat((centre - half, centre + half), -1)


@torch.no_grad()
def _cells_of(boxes_xyxy: Tensor, batch_index: Tensor, raw: GridRaw) -> tuple[Tensor, Tensor, Tensor]:
    """Image, cell and object of the cells that learn one: that of its centre, which the largest one there gets."""
    width, height = (raw.size_wh / STRIDE).long().tolist()
    middle = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    last = torch.tensor((width - 1, height - 1), device=middle.device)
    column, row = torch.minimum((middle / STRIDE).floor().clamp(min=0), last).long().unbind(-1)
    cell = row * width + column
    place = batch_index * (width * height) + cell
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1)
    largest = area.new_full((raw.boxes.shape[0] * width * height,), -1.0).scatter_reduce(0, place, area, "amax")
    target = (area >= largest[place]).nonzero().squeeze(1)
    return batch_index[target], cell[target], target
