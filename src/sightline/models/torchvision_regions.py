"""Two-stage detectors of torchvision (`tv:…`): its networks and sampling, our preprocessing, targets and decoding.

Faster R-CNN: Ren et al. (2015); its pyramid: Lin et al. (2017). Mask and Keypoint R-CNN: He et al. (2017). A keypoint's
place is the mean of its map's probabilities (Sun et al. 2018) where torchvision takes the map's maximum, enlarged:
without steps, and the same in every runtime.
Its resizing, normalising and last suppression are not used, and its proposals are chosen in a fixed shape, so that the
whole network can be exported.
"""

import math
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError
from sightline.core.keypoints import PERSON, Keypoints
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share
from sightline.models.regions import region_loss
from sightline.models.regions.proposals import Proposed, propose, regions_of, take_regions
from sightline.models.regions.selection import Pairs, best_pairs, gather_rows, stays
from sightline.models.torchvision_models import MULTIPLE, check_torchvision

__all__ = ["REGION_MODELS", "RegionRaw", "TwoStageDetector"]

Kind: TypeAlias = Literal[
    "fasterrcnn-mobilenet320",
    "fasterrcnn-resnet18",
    "fasterrcnn-resnet50",
    "maskrcnn-resnet18",
    "maskrcnn-resnet50",
    "keypointrcnn-resnet18",
    "keypointrcnn-resnet50",
]
_TASKS: dict[str, Task] = {"fasterrcnn": "detect", "maskrcnn": "instance", "keypointrcnn": "pose"}
_LAST_LAYERS = {"detect": (), "instance": ("mask_predictor.mask_fcn_logits",), "pose": ("keypoint_predictor",)}
"""What a network has beside boxes that depends on the classes, or on which keypoints there are."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MOST_PAIRS = 1000
"""Pairs of a region and a class that a network gives: boxes are of a class here, so that each is a candidate."""
_LEVELS = 5
_SMALL = 128  # channels of the small pyramid and of the heads on it
_SMALL_FACTS = {
    "rpn_pre_nms_top_n_train": 300,
    "rpn_post_nms_top_n_train": 300,
    "rpn_pre_nms_top_n_test": 300,
    "rpn_post_nms_top_n_test": 300,
    "box_batch_size_per_image": 128,
}


class RegionRaw(NamedTuple):
    """Raw output: what the second stage is fed with. Which regions it learns depends on the truth."""

    features: dict[str, Tensor]  # of the pyramid, by torchvision's names
    proposed: Proposed
    size_hw: tuple[int, int]  # of the images, network pixels


class TwoStageDetector(nn.Module):
    """Faster, Mask or Keypoint R-CNN of torchvision. Input (B, 3, H, W) RGB, normalised, H and W multiples of 32.

    Faster R-CNN gives its best 1000 pairs of region and class before suppression. The others look again at few, so they
    suppress by themselves (IoU 0.5, of each class) and give `detections` of them.
    """

    chooses_candidates = True

    def __init__(
        self,
        kind: Kind,
        class_names: tuple[str, ...],
        *,
        imgsz: int | tuple[int, int],
        anchor_sides: tuple[float, ...],
        detections: int = 0,
        keypoints: Keypoints | None = None,
    ) -> None:
        super().__init__()
        self.name = f"tv:{kind}"
        self.task: Task = _TASKS[kind.partition("-")[0]]
        self.class_names = class_names
        self.preprocess = Preprocess(size_hw=check_imgsz(imgsz, MULTIPLE), mean=_MEAN, std=_STD)
        self.arguments: dict[str, Any] = {"imgsz": imgsz, "anchor_sides": anchor_sides}
        self.detections = detections
        if self.task != "detect":
            self.arguments["detections"] = detections
        if keypoints is not None:
            self.arguments["keypoints"] = keypoints
        points = 0 if keypoints is None else len(keypoints)
        self.inner: Any = _make(kind, len(class_names), points, _checked_sides(anchor_sides))
        heads = self.inner.roi_heads
        self.operating_point = OperatingPoint(
            iou=heads.nms_thresh, suppression="nms" if self.task == "detect" else "none"
        )
        self.class_tensors: tuple[str, ...] = tuple(
            f"inner.roi_heads.{part}." for part in ("box_predictor", *_LAST_LAYERS[self.task])
        )

    def forward(self, images: Tensor) -> RegionRaw:
        """The pyramid, what the first stage says of all anchors, and its regions."""
        check_input(images, MULTIPLE)
        features = self.inner.backbone(images)
        proposed = propose(self.inner.rpn, list(features.values()), images)
        return RegionRaw(dict(features), proposed, (int(images.shape[2]), int(images.shape[3])))

    def loss(self, raw: RegionRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """torchvision's terms: `cls` and `box` of sampled regions, `objectness` and `region` of sampled anchors, and
        of Mask R-CNN `mask`, of Keypoint R-CNN `points`; each a mean over what torch's global generator sampled.
        """
        check_targets(self.task, targets, len(self.class_names))
        heads, device = self.inner.roi_heads, raw.proposed.deltas.device
        targets = {name: value.to(device) for name, value in targets.items()}
        truths = region_loss.image_truths(targets, raw.proposed.deltas.shape[0])
        with torch.autocast(device.type, enabled=False):
            sampled = region_loss.sample_regions(heads, raw.proposed, truths)
        cut = take_regions(heads.box_roi_pool, raw.features, sampled.regions, raw.size_hw, by_value=True)
        logits, deltas = heads.box_predictor(heads.box_head(cut))
        maps = None
        if self.task != "detect":
            on_objects = region_loss.Sampled(*(values[sampled.labels > 0] for values in sampled))
            maps = self._maps(raw, on_objects.regions, by_value=True)
        with torch.autocast(device.type, enabled=False):
            sums = [
                region_loss.head_sums(logits, deltas, sampled),
                region_loss.proposal_sums(self.inner.rpn, raw.proposed, truths),
            ]
            if maps is not None and self.task == "instance":
                sums.append(region_loss.mask_sums(maps, on_objects, targets, raw.size_hw))
            elif maps is not None:
                sums.append(region_loss.keypoint_sums(maps, on_objects, targets))
            cls, box, regions, found, sides, anchors, *of_maps = total(torch.cat(sums)).unbind()
        regions, anchors = regions.clamp(min=1), anchors.clamp(min=1)
        terms = {"cls": cls / regions, "box": box / regions, "objectness": found / anchors, "region": sides / anchors}
        name = "mask" if self.task == "instance" else "points"
        return terms | ({name: of_maps[0] / of_maps[1].clamp(min=1)} if of_maps else {})

    def decode(self, raw: RegionRaw) -> tuple[Tensor, ...]:
        """boxes_xyxy (B, K, 4) in network pixels and scores (B, K, C) in 0..1, each row of one class, float32.

        Of Mask R-CNN, whose rows are what its own suppression leaves, `box_masks` (B, K, 28, 28) too, and of Keypoint
        R-CNN keypoints (B, K, P, 3), see `Model.decode`; rows that are left empty have score 0.
        """
        pairs = self._pairs(raw)
        classes = len(self.class_names)
        if self.task == "detect":
            return pairs.boxes_xyxy, pairs.by_class(classes)
        heads = self.inner.roi_heads
        kept = stays(pairs.boxes_xyxy, pairs.scores > 0, heads.nms_thresh, pairs.labels)
        scores, rows = torch.where(kept, pairs.scores, 0.0).topk(min(self.detections, kept.shape[1]), 1)
        boxes = torch.where((scores > 0).unsqueeze(-1), gather_rows(pairs.boxes_xyxy, rows), 0.0)
        labels = gather_rows(pairs.labels, rows)
        logits = self._maps(raw, regions_of(boxes)).float()
        seen = (scores > 0).unsqueeze(-1).unsqueeze(-1)
        if self.task == "pose":
            return boxes, Pairs(boxes, scores, labels).by_class(classes), _points(logits, boxes) * seen
        side = logits.shape[-1]
        of_class = (labels.flatten() + 1).reshape(-1, 1, 1, 1).expand(-1, 1, side, side)
        masks = logits.gather(1, of_class).sigmoid().reshape(*labels.shape, side, side)
        return boxes, Pairs(boxes, scores, labels).by_class(classes), masks * seen

    def _maps(self, raw: RegionRaw, regions: Tensor, *, by_value: bool = False) -> Tensor:
        """What the last heads say of regions (R, 5): logits of masks (R, C + 1, h, w), or of keypoints (R, P, h, w)."""
        heads, kind = self.inner.roi_heads, "mask" if self.task == "instance" else "keypoint"
        pool, head, predictor = (getattr(heads, f"{kind}_{part}") for part in ("roi_pool", "head", "predictor"))
        maps: Tensor = predictor(head(take_regions(pool, raw.features, regions, raw.size_hw, by_value=by_value)))
        return maps

    def _pairs(self, raw: RegionRaw) -> Pairs:
        """The best of all pairs of a region and a class, nothing suppressed."""
        heads, (height, width) = self.inner.roi_heads, raw.size_hw
        regions, alive = raw.proposed.regions_xyxy, raw.proposed.alive
        batch, count = alive.shape
        classes = len(self.class_names)
        cut = take_regions(heads.box_roi_pool, raw.features, regions_of(regions), raw.size_hw)
        logits, deltas = (x.float() for x in heads.box_predictor(heads.box_head(cut)))
        boxes = heads.box_coder.decode_single(deltas, regions.flatten(0, 1)).reshape(batch, count, classes + 1, 4)
        boxes = boxes[:, :, 1:]
        boxes = torch.stack((boxes[..., ::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)), -1).flatten(-2)
        scores = logits.softmax(-1)[:, 1:].reshape(batch, count, classes) * alive.unsqueeze(-1)
        return best_pairs(boxes, scores, _MOST_PAIRS)


def _points(logits: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Keypoints (B, K, P, 3) of maps (B · K, P, h, w) that span boxes (B, K, 4): the mean place of each map's
    probabilities, and the sigmoid of its greatest logit."""
    batch, rows = boxes_xyxy.shape[:2]
    count, height, width = logits.shape[1:]
    likely = logits.flatten(2).softmax(-1).reshape(-1, count, height, width)
    middles_x = (torch.arange(width, device=logits.device) + 0.5) / width
    middles_y = (torch.arange(height, device=logits.device) + 0.5) / height
    shares = torch.stack(((likely.sum(2) * middles_x).sum(-1), (likely.sum(3) * middles_y).sum(-1)), -1)
    corner, far = boxes_xyxy[..., None, :2], boxes_xyxy[..., None, 2:]
    places = corner + shares.reshape(batch, rows, count, 2) * (far - corner)
    located = logits.flatten(2).amax(-1).sigmoid().reshape(batch, rows, count, 1)
    return torch.cat((places, located), -1)


def _checked_sides(sides: tuple[float, ...]) -> tuple[float, ...]:
    if len(sides) != _LEVELS or not all(0 < side < math.inf for side in sides):
        message = f"anchor_sides must be {_LEVELS} lengths in network pixels, fine levels first, got {list(sides)}"
        raise ConfigError(message, do="give those of a small to a large object, as 8,16,32,64,128")
    return sides


def _make(kind: Kind, class_count: int, points: int, sides: tuple[float, ...]) -> Any:
    """torchvision's network without its weights; its own facts, but for the small pyramid on ResNet-18."""
    check_torchvision(f"tv:{kind}")
    from torchvision.models import detection
    from torchvision.models.detection import faster_rcnn
    from torchvision.models.detection.rpn import AnchorGenerator

    if kind == "fasterrcnn-mobilenet320":
        anchors = AnchorGenerator((sides,) * 3, ((0.5, 1.0, 2.0),) * 3)
        made = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=class_count + 1
        )
        made.rpn.anchor_generator = anchors
        return made
    anchors = AnchorGenerator(tuple((side,) for side in sides), ((0.5, 1.0, 2.0),) * _LEVELS)
    family = kind.partition("-")[0]
    if kind.endswith("resnet50"):
        given: dict[str, Any] = {"num_classes": class_count + 1, "rpn_anchor_generator": anchors}
        given |= {"num_keypoints": points} if points else {}
        return getattr(detection, f"{family}_resnet50_fpn")(weights=None, weights_backbone=None, **given)
    from torchvision.models.detection import keypoint_rcnn, mask_rcnn
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.resnet import resnet18

    layers = {f"layer{level + 1}": str(level) for level in range(4)}
    arguments: dict[str, Any] = _SMALL_FACTS | {
        "rpn_anchor_generator": anchors,
        "box_head": faster_rcnn.TwoMLPHead(_SMALL * 7**2, _SMALL * 4),
        "box_predictor": faster_rcnn.FastRCNNPredictor(_SMALL * 4, class_count + 1),
    }
    backbone = BackboneWithFPN(resnet18(weights=None), layers, [64, 128, 256, 512], _SMALL)
    if family == "fasterrcnn":
        return detection.FasterRCNN(backbone, **arguments)
    if family == "keypointrcnn":
        arguments["keypoint_head"] = keypoint_rcnn.KeypointRCNNHeads(_SMALL, (_SMALL,) * 4)
        arguments["keypoint_predictor"] = keypoint_rcnn.KeypointRCNNPredictor(_SMALL, points)
        return detection.KeypointRCNN(backbone, **arguments)
    arguments["mask_head"] = mask_rcnn.MaskRCNNHeads(_SMALL, (_SMALL, _SMALL), 1)
    arguments["mask_predictor"] = mask_rcnn.MaskRCNNPredictor(_SMALL, _SMALL, class_count + 1)
    return detection.MaskRCNN(backbone, **arguments)


def build_faster(
    kind: Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 320,
    anchor_sides: tuple[float, ...] = (16, 32, 64, 128, 256),
) -> Any:
    """A Faster R-CNN of torchvision; MissingExtraError without it."""
    return TwoStageDetector(kind, class_names, imgsz=imgsz, anchor_sides=anchor_sides)


def build_mask(
    kind: Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 256,
    anchor_sides: tuple[float, ...] = (8, 16, 32, 64, 128),
    detections: int = 200,
) -> Any:
    """A Mask R-CNN of torchvision that gives `detections` masks of an image; MissingExtraError without it."""
    _check_detections(detections)
    return TwoStageDetector(kind, class_names, imgsz=imgsz, anchor_sides=anchor_sides, detections=detections)


def build_keypoint(
    kind: Kind,
    class_names: tuple[str, ...],
    *,
    imgsz: int | tuple[int, int] = 320,
    anchor_sides: tuple[float, ...] = (16, 32, 64, 128, 256),
    detections: int = 100,
    keypoints: Keypoints = PERSON,
) -> Any:
    """A Keypoint R-CNN of torchvision, of COCO's person or of those named; MissingExtraError without it."""
    _check_detections(detections)
    return TwoStageDetector(
        kind, class_names, imgsz=imgsz, anchor_sides=anchor_sides, detections=detections, keypoints=keypoints
    )


def _check_detections(detections: int) -> None:
    if not 1 <= detections <= _MOST_PAIRS:
        raise ConfigError(f"detections must be 1..{_MOST_PAIRS}, got {detections}")


_PUBLISHED = (32.0, 64.0, 128.0, 256.0, 512.0)
REGION_MODELS = {
    "tv:fasterrcnn-mobilenet320": partial(build_faster, "fasterrcnn-mobilenet320", anchor_sides=_PUBLISHED),
    "tv:fasterrcnn-resnet18": partial(build_faster, "fasterrcnn-resnet18"),
    "tv:fasterrcnn-resnet50": partial(build_faster, "fasterrcnn-resnet50", imgsz=800, anchor_sides=_PUBLISHED),
    "tv:maskrcnn-resnet18": partial(build_mask, "maskrcnn-resnet18"),
    "tv:maskrcnn-resnet50": partial(
        build_mask, "maskrcnn-resnet50", imgsz=800, anchor_sides=_PUBLISHED, detections=100
    ),
    "tv:keypointrcnn-resnet18": partial(build_keypoint, "keypointrcnn-resnet18"),
    "tv:keypointrcnn-resnet50": partial(build_keypoint, "keypointrcnn-resnet50", imgsz=800, anchor_sides=_PUBLISHED),
}
"""Builders by name."""
