"""Array mathematics: boxes, suppression, run-length masks, polygons, assignment, confusion. No state, no files."""

from typing import TYPE_CHECKING

from sightline.core.lazy import door

if TYPE_CHECKING:
    from sightline.ops import rle
    from sightline.ops.assignment import assign
    from sightline.ops.boxes import (
        box_area,
        ciou_matrix,
        clip_boxes,
        cxcywh_to_xyxy,
        diou_matrix,
        giou_matrix,
        iou_matrix,
        xywh_to_xyxy,
        xyxy_to_cxcywh,
        xyxy_to_xywh,
    )
    from sightline.ops.confusion import confusion_matrix
    from sightline.ops.fusion import fuse_boxes
    from sightline.ops.postprocess import evaluation_point
    from sightline.ops.rle import RleError
    from sightline.ops.suppression import nms, soft_nms

__all__ = [
    "RleError",
    "assign",
    "box_area",
    "ciou_matrix",
    "clip_boxes",
    "confusion_matrix",
    "cxcywh_to_xyxy",
    "diou_matrix",
    "evaluation_point",
    "fuse_boxes",
    "giou_matrix",
    "iou_matrix",
    "nms",
    "rle",
    "soft_nms",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]

__getattr__, __dir__ = door(__name__)
