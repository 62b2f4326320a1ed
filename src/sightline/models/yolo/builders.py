"""Every YOLO by name, and what may be asked of each beside its size."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sightline.core.keypoints import PERSON, Keypoints
from sightline.models.assignment import Assigner, AssignmentRule
from sightline.models.box_loss import BoxLoss
from sightline.models.class_loss import ClassLoss
from sightline.models.contract import Model
from sightline.models.detection_loss import DetectionTerms
from sightline.models.yolo import lite0, litefodnet, vdxnet, yolo3, yolo5, yolo8, yolo9, yolo10, yolo11, yolo12
from sightline.models.yolo.anchor_head import (
    ANCHORS,
    GREATEST_RATIO,
    AnchorHead,
    AnchorSizes,
    Balance,
    BalanceName,
    level_balance,
)
from sightline.models.yolo.detector import (
    FULL_HEAD,
    FULL_MASK_HEAD,
    FULL_OBB_HEAD,
    FULL_POSE_HEAD,
    MakeHead,
    YoloDetector,
)
from sightline.models.yolo.dual_head import DualHead
from sightline.models.yolo.head import DetectHead
from sightline.models.yolo.mask_head import MaskHead
from sightline.models.yolo.obb_head import ObbHead
from sightline.models.yolo.plan import Row, Scale
from sightline.models.yolo.pose_head import PoseHead
from sightline.models.yolo.yolo1 import YoloV1
from sightline.models.yolo.yolo3_head import Yolo3Head

__all__ = ["YOLOS", "rows_of"]

SizeT = TypeVar("SizeT")
ImageSize = int | tuple[int, int]
Plan = Callable[[SizeT], Sequence[Row]]


def build_yolo(
    kind: type[YoloDetector],
    plan: Plan[SizeT],
    size: SizeT,
    make_head: MakeHead,
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: ImageSize = 640,
    box_loss: BoxLoss = "ciou",
    cls_loss: ClassLoss = "bce",
    label_smoothing: float = 0.0,
    assigner: Assigner = "task-aligned",
) -> Model:
    """A detector of one table in one size, and what it learns by."""
    kinds = DetectionTerms(box_loss, cls_loss, label_smoothing)
    head = partial(make_head, rule=AssignmentRule(assigner), kinds=kinds)
    chosen = {"box_loss": box_loss, "cls_loss": cls_loss, "label_smoothing": label_smoothing, "assigner": assigner}
    return kind(name, plan(size), head, class_names, {"imgsz": imgsz, **chosen})


def build_pose(
    plan: Plan[Scale],
    scale: Scale,
    make_head: MakeHead,
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: ImageSize = 640,
    keypoints: Keypoints = PERSON,
) -> Model:
    """A detector that gives keypoints too: those of COCO's person, or those that are named."""
    head = partial(make_head, keypoints=keypoints)
    return YoloDetector(name, plan(scale), head, class_names, {"imgsz": imgsz, "keypoints": keypoints})


def build_obb(
    plan: Plan[Scale],
    scale: Scale,
    make_head: MakeHead,
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: ImageSize = 1024,
) -> Model:
    """A detector of oriented boxes; 1024 pixels as for aerial pictures, whose objects are small."""
    return YoloDetector(name, plan(scale), make_head, class_names, {"imgsz": imgsz})


def build_yolo10(
    size: yolo10.Size,
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: ImageSize = 640,
    box_loss: BoxLoss = "ciou",
    cls_loss: ClassLoss = "bce",
    label_smoothing: float = 0.0,
) -> Model:
    """A detector with the pair of heads; how they assign is theirs, for both must agree."""
    kinds = DetectionTerms(box_loss, cls_loss, label_smoothing)
    chosen = {"box_loss": box_loss, "cls_loss": cls_loss, "label_smoothing": label_smoothing}
    head = partial(DualHead, kinds=kinds)
    return YoloDetector(name, yolo10.plan(size), head, class_names, {"imgsz": imgsz, **chosen})


def build_yolo5(
    scale: Scale,
    name: str,
    class_names: tuple[str, ...],
    *,
    imgsz: ImageSize = 640,
    anchors: AnchorSizes = ANCHORS,
    balance: BalanceName | Balance = "usual",
    anchor_ratio: float = GREATEST_RATIO,
) -> Model:
    """A detector of anchor boxes, see `AnchorHead`; `balance` by name or as three weights, the finest level first."""
    head = partial(AnchorHead, anchors=anchors, balance=level_balance(balance), anchor_ratio=anchor_ratio)
    chosen = {"anchors": anchors, "balance": balance, "anchor_ratio": anchor_ratio}
    return YoloDetector(name, yolo5.plan(scale), head, class_names, {"imgsz": imgsz, **chosen})


def build_yolo3(class_names: tuple[str, ...], *, imgsz: ImageSize = 416, anchors: AnchorSizes = ANCHORS) -> Model:
    """YOLOv3 at its own size, 416; `anchors` in network pixels."""
    head = partial(Yolo3Head, anchors=anchors)
    return YoloDetector("yolo3", yolo3.ROWS, head, class_names, {"imgsz": imgsz, "anchors": anchors})


def build_yolo1(class_names: tuple[str, ...], *, imgsz: ImageSize = 448) -> Model:
    """YOLOv1 on ResNet-50 at its own size, 448."""
    return YoloV1("yolo1-resnet50", class_names, imgsz=imgsz)


def _sizes(
    family: str, plan: Plan[SizeT], sizes: Mapping[str, SizeT], make_head: MakeHead = DetectHead, suffix: str = ""
) -> dict[str, Callable[..., Model]]:
    names = {f"{family}{letter}{suffix}": size for letter, size in sizes.items()}
    return {name: partial(build_yolo, YoloDetector, plan, size, make_head, name) for name, size in names.items()}


def _heads(
    family: str,
    plan: Plan[Scale],
    scales: Mapping[str, Scale],
    build: Callable[..., Model],
    make_head: MakeHead,
    suffix: str,
) -> dict[str, Callable[..., Model]]:
    names = {f"{family}{letter}{suffix}": scale for letter, scale in scales.items()}
    return {name: partial(build, plan, scale, make_head, name) for name, scale in names.items()}


YOLOS: dict[str, Callable[..., Model]] = {
    "yolo1-resnet50": build_yolo1,
    "yolo3": build_yolo3,
    **{f"yolo5{letter}": partial(build_yolo5, scale, f"yolo5{letter}") for letter, scale in yolo5.SCALES.items()},
    **_sizes("yolo8", yolo8.plan, yolo8.SCALES, FULL_HEAD),
    **_sizes("yolo8", yolo8.plan, yolo8.SCALES, FULL_MASK_HEAD, "-seg"),
    **_heads("yolo8", yolo8.plan, yolo8.SCALES, build_pose, FULL_POSE_HEAD, "-pose"),
    **_heads("yolo8", yolo8.plan, yolo8.SCALES, build_obb, FULL_OBB_HEAD, "-obb"),
    **_sizes("yolo9", yolo9.plan, yolo9.SIZES, FULL_HEAD),
    **{f"yolo10{letter}": partial(build_yolo10, size, f"yolo10{letter}") for letter, size in yolo10.SIZES.items()},
    **_sizes("yolo11", yolo11.plan, yolo11.SCALES),
    **_sizes("yolo11", yolo11.plan, yolo11.SCALES, MaskHead, "-seg"),
    **_heads("yolo11", yolo11.plan, yolo11.SCALES, build_pose, PoseHead, "-pose"),
    **_heads("yolo11", yolo11.plan, yolo11.SCALES, build_obb, ObbHead, "-obb"),
    **_sizes("yolo12", yolo12.plan, yolo12.SCALES),
    "lite0-yolo": partial(build_yolo, lite0.Lite0Detector, lite0.plan, None, DetectHead, "lite0-yolo"),
    **_sizes("vdxnet", vdxnet.plan, {"": vdxnet.SCALE}),
    **_sizes("litefodnet", litefodnet.plan, {"": litefodnet.SCALE}, FULL_HEAD),
}


def rows_of(name: str) -> Sequence[Row] | None:
    """The table of a YOLO, without making its network; None of those that are no table of several sizes."""
    builder = YOLOS.get(name)
    if not isinstance(builder, partial):
        return None
    if builder.func in (build_yolo, build_pose, build_obb):
        plan, size = builder.args[1:3] if builder.func is build_yolo else builder.args[:2]
        rows: Sequence[Row] = plan(size)
        return rows
    plans: dict[Callable[..., Model], Plan[Any]] = {build_yolo5: yolo5.plan, build_yolo10: yolo10.plan}
    return plans[builder.func](builder.args[0]) if builder.func in plans else None
