"""Where each network comes from: who described it, what is published of its size, and the licence of the code here."""

import re
from dataclasses import dataclass

__all__ = ["Origin", "origin_of"]

_OURS = "Apache-2.0, written from the description"
_FAMILIES: dict[str, tuple[str, str]] = {
    r"unet(-small)?": ("Ronneberger et al. 2015, U-Net", _OURS),
    r"dff-unet": ("Khan et al. 2025, DFF-UNet: a reconstruction, see its docstring", _OURS),
    r"litefusionnet": (
        "LiteFusionNet, Advanced Engineering Informatics 2025: a reconstruction, see its docstring",
        _OURS,
    ),
    r"ulite": ("Dinh et al. 2023, U-Lite", _OURS),
    r"enet": ("Paszke et al. 2016, ENet", _OURS),
    r"segnet": ("Badrinarayanan et al. 2017, SegNet", _OURS),
    r"fcn(32|16|8)s": ("Shelhamer et al. 2017, FCN", _OURS),
    r"deeplabv3(plus)?": ("Chen et al. 2017 and 2018, DeepLab", "BSD-3-Clause, torchvision"),
    r"resnet50-unet": ("He et al. 2016, ResNet-50; Ronneberger et al. 2015, U-Net", _OURS),
    r"smp:.*": ("Iakubovskii 2019, segmentation-models-pytorch; encoders of timm", "MIT and Apache-2.0 (timm)"),
    r"yolo1-resnet50": ("Redmon et al. 2016, YOLO; its ResNet-50 form by abeardear, PyTorch-YOLO-v1", _OURS),
    r"yolo3": ("Redmon and Farhadi 2018, YOLOv3; sizes of Ultralytics' table", _OURS),
    r"yolo5.": ("Jocher 2020, YOLOv5", _OURS),
    r"yolo8.(-seg)?": ("Jocher et al. 2023, YOLOv8; masks after Bolya et al. 2019, YOLACT", _OURS),
    r"yolo8.-obb": ("Jocher et al. 2023, YOLOv8; oriented boxes after Llerena et al. 2021, ProbIoU", _OURS),
    r"yolo8.-pose": ("Jocher et al. 2023, YOLOv8; keypoints after Maji et al. 2022, YOLO-Pose", _OURS),
    r"yolo9.": ("Wang, Yeh, Liao 2024, YOLOv9 (without the auxiliary branch)", _OURS),
    r"yolo10.": ("Wang et al. 2024, YOLOv10", _OURS),
    r"yolo11.(-seg)?": ("Jocher and Qiu 2024, YOLO11; masks after Bolya et al. 2019, YOLACT", _OURS),
    r"yolo11.-obb": ("Jocher and Qiu 2024, YOLO11; oriented boxes after Llerena et al. 2021, ProbIoU", _OURS),
    r"yolo11.-pose": ("Jocher and Qiu 2024, YOLO11; keypoints after Maji et al. 2022, YOLO-Pose", _OURS),
    r"yolo12.": ("Tian, Ye, Doermann 2025, YOLOv12 (the authors' last form)", _OURS),
    r"vdxnet": ("Khan et al. 2025, VDXNet: a reconstruction, see its docstring", _OURS),
    r"litefodnet": ("LiteFODNet, Intelligent Data Analysis 2025: a reconstruction, see its docstring", _OURS),
    r"lite0-yolo": ("EfficientNet-Lite0 (Tan, Le 2019; Google 2020) with the neck and head of YOLO11", _OURS),
    r"lite0-unet": (
        "EfficientNet-Lite0 (Tan, Le 2019; Google 2020) as encoder of a U-Net (Ronneberger et al. 2015)",
        _OURS,
    ),
    r"rcnn": ("Girshick et al. 2014, R-CNN, small; Uijlings et al. 2013, selective search", _OURS),
    r"fast-rcnn": ("Girshick 2015, Fast R-CNN, small; Uijlings et al. 2013, selective search", _OURS),
    r"tv:fcos-.*": ("Tian et al. 2019, FCOS", "BSD-3-Clause, torchvision"),
    r"tv:retinanet-.*": ("Lin et al. 2017, RetinaNet", "BSD-3-Clause, torchvision"),
    r"tv:fasterrcnn-.*": ("Ren et al. 2015, Faster R-CNN; Lin et al. 2017, its pyramid", "BSD-3-Clause, torchvision"),
    r"tv:keypointrcnn-.*": ("He et al. 2017, Mask R-CNN for keypoints", "BSD-3-Clause, torchvision"),
    r"tv:maskrcnn-.*": ("He et al. 2017, Mask R-CNN; Lin et al. 2017, its pyramid", "BSD-3-Clause, torchvision"),
    r"tv:ssd300": ("Liu et al. 2016, SSD", "BSD-3-Clause, torchvision"),
    r"tv:ssdlite.*": ("Liu et al. 2016, SSD; Sandler et al. 2018 (SSDLite)", "BSD-3-Clause, torchvision"),
    r"hf:dfine-.*": ("Peng et al. 2024, D-FINE (without queries of noised truth)", "Apache-2.0, transformers"),
    r"hf:eomt-.*": ("Kerssies et al. 2025, EoMT (without masked attention)", "Apache-2.0, transformers"),
    r"hf:mask2former-.*": ("Cheng et al. 2022, Mask2Former; Liu et al. 2021, Swin", "Apache-2.0, transformers"),
    r"hf:rfdetr-.*": ("Robinson et al. 2025, RF-DETR", "Apache-2.0, transformers"),
    r"hf:segformer-.*": ("Xie et al. 2021, SegFormer", "Apache-2.0, transformers"),
    r"hf:rtdetrv2-.*": ("Lv et al. 2024, RT-DETRv2 (without queries of noised truth)", "Apache-2.0, transformers"),
}
_PUBLISHED = {
    "yolo3": 61_949_149,
    "yolo5n": 1_872_157, "yolo5s": 7_235_389, "yolo5m": 21_190_557, "yolo5l": 46_563_709, "yolo5x": 86_749_405,
    "yolo8n": 3_157_200, "yolo8s": 11_166_560, "yolo8m": 25_902_640, "yolo8l": 43_691_520, "yolo8x": 68_229_648,
    "yolo9t": 2_128_720, "yolo9s": 7_318_368, "yolo9m": 20_216_160, "yolo9c": 25_590_912,
    "yolo10n": 2_775_520, "yolo10s": 8_128_272, "yolo10m": 16_576_768, "yolo10l": 25_888_688, "yolo10x": 31_808_960,
    "yolo11n": 2_624_080, "yolo11s": 9_458_752, "yolo11m": 20_114_688, "yolo11l": 25_372_160, "yolo11x": 56_966_176,
    "yolo12n": 2_553_904, "yolo12s": 9_127_424, "yolo12m": 19_670_784, "yolo12l": 26_506_496, "yolo12x": 59_414_176,
    "yolo8n-seg": 3_409_968, "yolo8s-seg": 11_821_056, "yolo8m-seg": 27_285_968, "yolo8l-seg": 45_997_728,
    "yolo8x-seg": 71_827_888, "yolo11n-seg": 2_876_848, "yolo11s-seg": 10_113_248, "yolo11m-seg": 22_420_896,
    "yolo11l-seg": 27_678_368, "yolo11x-seg": 62_142_656,
    "yolo8n-obb": 3_228_867, "yolo8s-obb": 11_452_739, "yolo8m-obb": 26_463_235, "yolo8l-obb": 44_540_355,
    "yolo8x-obb": 69_555_651, "yolo11n-obb": 2_695_747,
    "yolo11n-pose": 2_908_507, "yolo11s-pose": 9_948_811, "yolo11m-pose": 20_973_273,
}  # fmt: skip
"""Parameters that the publishers' tools count, for 80 classes, before anything is folded."""


@dataclass(frozen=True, slots=True)
class Origin:
    """`published_parameters` is for 80 classes, unfused; None where none is published for them."""

    source: str
    licence: str
    published_parameters: int | None


def origin_of(name: str) -> Origin:
    """Where a registered network comes from; of a plug-in's what is not known is said."""
    for pattern, (source, licence) in _FAMILIES.items():
        if re.fullmatch(pattern, name):
            return Origin(source, licence, _PUBLISHED.get(name))
    return Origin("a plug-in", "unstated", None)
