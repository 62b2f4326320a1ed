"""One-stage detectors of torchvision (`tv:…`): its networks and losses, our preprocessing, targets and decoding.

FCOS: Tian et al. (2019). RetinaNet: Lin et al. (2017). SSD: Liu et al. (2016), on VGG-16. SSDLite: Sandler et al.
(2018), on Howard's MobileNetV3 (2019).
Its resizing, normalising and suppression are not used: what is trained, measured and exported are all its boxes.
"""

import importlib.util
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from sightline.core.dataset import Task
from sightline.core.errors import ConfigError, MissingExtraError
from sightline.core.preprocess import Preprocess
from sightline.models.contract import Targets, Total, check_imgsz, check_input, check_targets, own_share

__all__ = ["TORCHVISION_MODELS", "TorchvisionDetector", "TorchvisionRaw", "check_torchvision", "full_shapes"]

Kind: TypeAlias = Literal["fcos-resnet18", "retinanet-resnet18", "ssd300", "ssdlite320"]
MULTIPLE = 32
_SSD300_SIDE = 300  # its default boxes and its last maps are made for it
_NORMS = {
    "fcos-resnet18": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "retinanet-resnet18": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ssd300": ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "ssdlite320": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation that torchvision feeds each with."""
_PYRAMID = 256  # channels of the levels of a feature pyramid


class TorchvisionRaw(NamedTuple):
    """Raw output over A = all anchors of all levels."""

    outputs: dict[str, Tensor]  # (B, A, …) by torchvision's names
    anchors_xyxy: Tensor  # (A, 4) network pixels
    level_sizes: tuple[int, ...]  # anchors of each level


class TorchvisionDetector(nn.Module):
    """A one-stage detector of torchvision. Input (B, 3, H, W) RGB, normalised, H and W multiples of 32; of SSD 300."""

    def __init__(self, kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int]) -> None:
        super().__init__()
        self.name = f"tv:{kind}"
        self.task: Task = "detect"
        self.class_names = class_names
        mean, std = _NORMS[kind]
        self.preprocess = Preprocess(size_hw=_checked_size(kind, imgsz), mean=mean, std=std)
        self.arguments: dict[str, Any] = {"imgsz": imgsz}
        self.kind: Kind = kind
        self.inner: Any = _make(kind, len(class_names))
        self.with_background = kind.startswith("ssd")
        branch = "" if self.with_background else "cls_logits."
        self.class_tensors: tuple[str, ...] = (f"inner.head.classification_head.{branch}",)

    def forward(self, images: Tensor) -> TorchvisionRaw:
        """Raw outputs of all anchors."""
        from torchvision.models.detection.image_list import ImageList

        check_input(images, _SSD300_SIDE if self.kind == "ssd300" else MULTIPLE)
        features = list(self.inner.backbone(images).values())
        outputs = self.inner.head(features)
        generator = self.inner.anchor_generator
        if images.device.type == "meta" and hasattr(generator, "_wh_pairs"):  # SSD's are no buffers
            generator._wh_pairs = [pair.to("meta") for pair in generator._wh_pairs]
        # The anchors of one image are those of all.
        one = ImageList(images[:1], [(int(images.shape[2]), int(images.shape[3]))])
        anchors = generator(one, full_shapes(features))[0]
        counts = generator.num_anchors_per_location()
        sizes = tuple(x.shape[2] * x.shape[3] * count for x, count in zip(features, counts, strict=True))
        return TorchvisionRaw(outputs, anchors, sizes)

    def loss(self, raw: TorchvisionRaw, targets: Targets, total: Total = own_share) -> dict[str, Tensor]:
        """torchvision's terms `cls`, `box` and, of FCOS, `centre` of each image; their mean over the batch."""
        check_targets(self.task, targets, len(self.class_names))
        anchors = raw.anchors_xyxy
        with torch.autocast(anchors.device.type, enabled=False):
            outputs = {name: value.float() for name, value in raw.outputs.items()}
            targets = {name: value.to(anchors.device) for name, value in targets.items()}
            batch = outputs["cls_logits"].shape[0]
            # An empty share of a batch has terms too, of which none counts.
            sums = torch.stack([value.sum() * 0.0 for value in outputs.values()])
            for image in range(batch):
                own = {name: value[image : image + 1] for name, value in outputs.items()}
                sums = sums + torch.stack(list(self._terms(own, targets, image, raw).values()))
            *values, images = total(torch.cat((sums, sums.new_tensor([float(batch)])))).unbind()
        names = ("cls", "box", "centre")[: len(values)]
        return {name: value / images.clamp(min=1) for name, value in zip(names, values, strict=True)}

    def _terms(
        self, outputs: dict[str, Tensor], targets: Targets, image: int, raw: TorchvisionRaw
    ) -> dict[str, Tensor]:
        """The terms of one image, classes first."""
        own = targets["batch_index"] == image
        boxes = targets["boxes"].float()[own]
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)  # torchvision refuses others
        labels = targets["labels"][own][solid] + self.with_background  # 0 is SSD's background
        truth, anchors = [{"boxes": boxes[solid], "labels": labels}], [raw.anchors_xyxy]
        if self.kind == "fcos-resnet18":
            found = self.inner.compute_loss(truth, outputs, anchors, list(raw.level_sizes))
        elif self.kind == "retinanet-resnet18":
            found = self.inner.compute_loss(truth, outputs, anchors)
        else:
            found = self.inner.compute_loss(truth, outputs, anchors, [self._matched(truth[0]["boxes"], anchors[0])])
        order = ("classification", "bbox_regression", "bbox_ctrness")
        return {name: found[name] for name in order if name in found}

    def _matched(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """For each anchor of SSD the object that it learns, or -1."""
        from torchvision.ops import box_iou

        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.inner.proposal_matcher(box_iou(boxes, anchors))
        return matched

    def decode(self, raw: TorchvisionRaw) -> tuple[Tensor, Tensor]:
        """boxes_xyxy (B, A, 4) in network pixels and scores (B, A, C) in 0..1, both float32, nothing suppressed."""
        logits, sides = raw.outputs["cls_logits"].float(), raw.outputs["bbox_regression"].float()
        batch, count = sides.shape[:2]
        anchors = raw.anchors_xyxy.float().expand(batch, count, 4)
        if self.kind == "fcos-resnet18":
            centre = raw.outputs["bbox_ctrness"].float().sigmoid()
            return self.inner.box_coder.decode(sides, anchors), (logits.sigmoid() * centre).sqrt()
        flat = self.inner.box_coder.decode_single(sides.flatten(0, 1), anchors.flatten(0, 1))
        scores = logits.softmax(-1)[..., 1:] if self.with_background else logits.sigmoid()
        return flat.reshape(batch, count, 4), scores


def full_shapes(features: Sequence[Tensor]) -> list[Tensor]:
    """What torchvision's generators of anchors read off levels: their sizes, and a type that holds a coordinate.

    Under autocast levels are bfloat16, whose 8 bits cannot.
    """
    return [x[:1, :1].float() for x in features]


def _checked_size(kind: Kind, imgsz: int | tuple[int, int]) -> tuple[int, int]:
    if kind != "ssd300":
        return check_imgsz(imgsz, MULTIPLE)
    if imgsz not in (_SSD300_SIDE, (_SSD300_SIDE, _SSD300_SIDE)):
        raise ConfigError(f"imgsz of 'tv:ssd300' must be {_SSD300_SIDE}, got {imgsz}", do="or use tv:ssdlite320")
    return _SSD300_SIDE, _SSD300_SIDE


def check_torchvision(name: str) -> None:
    """MissingExtraError where the package that a model is made of is not installed."""
    if importlib.util.find_spec("torchvision") is None:
        message = f"the model '{name}' needs torchvision, which is not installed"
        raise MissingExtraError(message, do="run pip install 'sightline[adapters]'")


def _make(kind: Kind, class_count: int) -> Any:
    """torchvision's network without its weights; torchvision is an extra, and slow to import."""
    check_torchvision(f"tv:{kind}")
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    if kind == "ssd300":
        return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=class_count + 1)
    if kind == "ssdlite320":
        return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=class_count + 1)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(_PYRAMID, _PYRAMID),
    )
    if kind == "retinanet-resnet18":
        return detection.RetinaNet(backbone, num_classes=class_count)
    made = detection.FCOS(backbone, num_classes=class_count)
    # Distances pass a ReLU: begun around 0, half of the sides have no gradient and some never get one.
    nn.init.constant_(made.head.regression_head.bbox_reg.bias, 1.0)
    return made


def build_torchvision(kind: Kind, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 320) -> Any:
    """A detector of torchvision; MissingExtraError without it."""
    return TorchvisionDetector(kind, class_names, imgsz=imgsz)


TORCHVISION_MODELS = {f"tv:{kind}": partial(build_torchvision, kind) for kind in get_args(Kind)}
TORCHVISION_MODELS["tv:ssd300"] = partial(build_torchvision, "ssd300", imgsz=_SSD300_SIDE)
"""Builders by name."""
