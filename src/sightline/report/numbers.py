"""A number on the page: shown rounded, with its exact value and the place it was read from; and what metrics mean."""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "HEADLINES",
    "MEANINGS",
    "STANDARD_METRICS",
    "TASK_TITLES",
    "TITLES",
    "TRACKING_COLUMNS",
    "Number",
    "Source",
    "Style",
    "format_number",
]

Style = Literal["score", "count", "ms", "seconds", "plain"]
_NONE = "–"


def format_number(value: Any, style: Style = "plain") -> str:
    """The text of a number: scores with four decimals, counts with thousands separated, times with their unit."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _NONE
    match style:
        case "score":
            return f"{value:.4f}"
        case "count":
            return f"{value:,.0f}".replace(",", "\u2009")
        case "ms":
            return f"{value:.2f}\u2009ms"
        case "seconds":
            return _duration(float(value))
        case "plain":
            return f"{value:.5g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}\u2009s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u2009h {minutes}\u2009min" if hours else f"{minutes}\u2009min {rest}\u2009s"


@dataclass(frozen=True, slots=True)
class Number:
    """A value read from `source` (file and key); `__html__` keeps both beside the rounded text."""

    value: int | float | None
    source: str
    style: Style = "score"

    def __str__(self) -> str:
        return format_number(self.value, self.style)

    def __html__(self) -> str:
        # repr gives the shortest text that reads back as the very same float.
        exact = "not a number: nothing to measure" if self.value is None else repr(self.value)
        exact, source = html.escape(exact), html.escape(self.source)
        return (
            f'<span class="number" data-source="{source}" data-value="{exact}" title="{exact} ({source})">'
            f"{html.escape(str(self))}</span>"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A JSON file of the run, to read numbers from by key."""

    file: str
    values: Any

    def number(self, *keys: str | int, style: Style = "score") -> Number:
        """The number under `keys`; None inside where the file has null there. KeyError where it has no such key."""
        value = self.values
        for key in keys:
            value = value[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise KeyError(f"{_dotted(keys)} is no number")
        return Number(value, f"{self.file} {_dotted(keys)}", style)

    def optional(self, *keys: str | int, style: Style = "score") -> Number | None:
        """As `number`, but None where the key is absent or holds no number."""
        try:
            return self.number(*keys, style=style)
        except (KeyError, IndexError, TypeError):
            return None


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(map(str, keys))


TASK_TITLES = {
    "detect": "Object detection",
    "instance": "Instance segmentation",
    "obb": "Oriented object detection",
    "pose": "Pose estimation",
    "semantic": "Semantic segmentation",
    "track": "Tracking",
}

TITLES = {
    "AP": "mAP50-95",
    "AP50": "mAP50",
    "AP75": "mAP75",
    "APs": "mAP small",
    "APm": "mAP medium",
    "APl": "mAP large",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "foreground_dice": "Foreground Dice",
    "foreground_iou": "Foreground IoU",
    "foreground_sensitivity": "Sensitivity",
    "foreground_specificity": "Specificity",
    "foreground_precision": "Precision",
    "mean_iou": "Mean IoU",
    "mean_dice": "Mean Dice",
    "mean_sensitivity": "Mean sensitivity",
    "mean_specificity": "Mean specificity",
    "mean_precision": "Mean precision",
    "foreground_average_precision": "Average precision of pixels",
    "foreground_roc_auc": "Area under the ROC curve",
    "pixel_accuracy": "Pixel accuracy",
}
"""The name on the page, where it differs from the key."""

MEANINGS = {
    "AP": "Average precision over all classes and IoU thresholds 0.50 to 0.95: found, ranked and framed well?",
    "AP50": "Average precision where a detection counts from IoU 0.5 on: are objects found and ranked well?",
    "AP75": "Average precision where a detection must fit closely, from IoU 0.75 on.",
    "APs": "AP of objects below 32 × 32 pixels.",
    "APm": "AP of objects between 32 × 32 and 96 × 96 pixels.",
    "APl": "AP of objects above 96 × 96 pixels.",
    "AR": "Recall averaged over thresholds, with at most 20 detections per image.",
    "AR@50": "Recall at OKS 0.5, with at most 20 detections per image.",
    "AR@75": "Recall at OKS 0.75, with at most 20 detections per image.",
    "ARs": "AR of objects below 32 × 32 pixels.",
    "ARm": "AR of objects between 32 × 32 and 96 × 96 pixels.",
    "ARl": "AR of objects above 96 × 96 pixels.",
    "precision": "Of what is reported at the operating point, this share is right.",
    "recall": "Of what is there, this share is found at the operating point.",
    "f1": "Harmonic mean of precision and recall at the operating point.",
    "foreground_dice": "Overlap of predicted and true foreground, over the pixels of all images together.",
    "foreground_iou": "Intersection over union of the foreground, over the pixels of all images together.",
    "foreground_sensitivity": "Of the true foreground pixels, this share is found.",
    "foreground_specificity": "Of the true background pixels, this share is left alone.",
    "foreground_precision": "Of the pixels reported as foreground, this share is right.",
    "mean_iou": "Intersection over union from pooled pixels, mean over the classes.",
    "mean_dice": "Dice from pooled pixels, mean over the classes.",
    "mean_sensitivity": "Share of each class's pixels that is found, mean over the classes.",
    "mean_specificity": "Share of the pixels outside each class left alone, mean over the classes.",
    "mean_precision": "Share of each class's reported pixels that is right, mean over the classes.",
    "foreground_average_precision": "Precision over recall of the foreground's pixels, over all thresholds.",
    "foreground_roc_auc": "How likely a pixel of the foreground is given more probability than one of the background.",
    "pixel_accuracy": "Share of all pixels with the right class.",
    "PQ": "Panoptic quality, SQ times RQ: are segments found, named and drawn well? Mean over classes.",
    "SQ": "Segmentation quality: the mean IoU of the segments that are matched.",
    "RQ": "Recognition quality: F1 of the segments, matched where the IoU is above 0.5.",
    "PQ_things": "Panoptic quality of the countable classes.",
    "SQ_things": "Segmentation quality of the countable classes.",
    "RQ_things": "Recognition quality of the countable classes.",
    "PQ_stuff": "Panoptic quality of the classes that are not counted, such as road or sky.",
    "SQ_stuff": "Segmentation quality of the classes that are not counted.",
    "RQ_stuff": "Recognition quality of the classes that are not counted.",
    "HOTA": "Higher order tracking accuracy: finding objects and keeping their identities, in one number.",
}

HEADLINES = (
    ("AP50", "AP"),
    ("PQ", "SQ", "RQ"),
    (
        "foreground_dice",
        "foreground_sensitivity",
        "foreground_specificity",
        "mean_iou",
        "mean_dice",
        "pixel_accuracy",
    ),
)
"""Of detections, panoptic segments and label maps: the first four that a result has lead the page."""

TRACKING_COLUMNS = {
    "HOTA": "HOTA",
    "DetA": "DetA",
    "AssA": "AssA",
    "LocA": "LocA",
    "MOTA": "MOTA",
    "MOTP": "MOTP",
    "IDF1": "IDF1",
    "CLR_FP": "FP",
    "CLR_FN": "FN",
    "IDSW": "IDSW",
    "Frag": "Frag",
    "MT": "MT",
    "ML": "ML",
}
"""Key in the result → head of the column."""
TRACKING_COUNTS = frozenset({"CLR_FP", "CLR_FN", "IDSW", "Frag", "MT", "ML"})

_COCO = "Lin et al. 2014; COCO evaluation, pycocotools"
STANDARD_METRICS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "detect": (
        (
            "mAP50-95",
            "Mean over the classes and over IoU 0.50, 0.55, ..., 0.95 of the average precision, precision interpolated "
            "at 101 recalls; at most 100 boxes per image; crowd and ignored objects count neither way.",
            _COCO,
        ),
        ("mAP50", "The same at IoU 0.5 alone.", _COCO),
        ("mAP small, medium, large", "mAP50-95 of objects below 32², up to 96² and above 96² square pixels.", _COCO),
        (
            "precision, recall, F1",
            "At one confidence threshold, chosen on the validation split, with IoU at least 0.5.",
            "Everingham et al. 2010",
        ),
    ),
    "instance": (
        (
            "mask mAP50-95",
            "Mean over the classes and over IoU 0.50, 0.55, ..., 0.95 of the average precision, with the IoU of masks, "
            "precision interpolated at 101 recalls; at most 100 objects per image.",
            _COCO,
        ),
        ("mask mAP50", "The same at IoU 0.5 alone.", _COCO),
        ("box mAP50-95", "The same with the IoU of boxes.", _COCO),
        ("mask mAP small, medium, large", "By mask area: below 32², up to 96² and above 96² square pixels.", _COCO),
    ),
    "obb": (
        (
            "oriented mAP50-95",
            "Mean over the classes and over IoU 0.50, 0.55, ..., 0.95 of the average precision, with the exact IoU of "
            "rotated rectangles, precision interpolated at 101 recalls; at most 100 boxes per image.",
            "Lin et al. 2014, COCO's definition",
        ),
        ("oriented mAP50", "The same at IoU 0.5 alone, the threshold of VOC and DOTA.", "Everingham et al. 2010"),
        ("box mAP50-95", "The same with the IoU of the upright boxes around them.", _COCO),
    ),
    "pose": (
        (
            "pose mAP50-95",
            "Mean over the classes and over OKS 0.50, 0.55, ..., 0.95 of the average precision, OKS being how alike "
            "keypoints are, precision interpolated at 101 recalls; at most 20 objects per image; objects without a "
            "labelled keypoint count neither way.",
            _COCO,
        ),
        ("pose mAP50", "The same at OKS 0.5 alone.", _COCO),
        ("box mAP50-95", "The same with the IoU of boxes.", _COCO),
        ("pose mAP medium, large", "By the objects' area: up to 96² and above 96² square pixels.", _COCO),
    ),
    "semantic": (
        (
            "mean IoU",
            "Per class intersection over union of predicted and true pixels, pooled over all images; mean over the "
            "classes. Ignored pixels do not count.",
            "Everingham et al. 2010",
        ),
        ("Dice", "2 TP / (2 TP + FP + FN) per class, pooled over all images, and as a mean over images.", "Dice 1945"),
        ("sensitivity, specificity", "Share of the class's pixels found; share of the others left alone.", "–"),
        (
            "pixel accuracy",
            "Share of pixels with the right class: beside the others only, it favours large classes.",
            "–",
        ),
    ),
    "track": (
        (
            "HOTA",
            "Geometric mean of detection and association accuracy, over localisation 0.05 to 0.95.",
            "Luiten 2021",
        ),
        ("DetA, AssA, LocA", "The parts of HOTA: found, kept together, located.", "Luiten 2021"),
        ("IDF1", "F1 of boxes that carry the right identity over the whole sequence.", "Ristani et al. 2016"),
        ("MOTA", "1 - (misses + false boxes + identity switches) / true boxes; may be negative.", "Bernardin 2008"),
        ("IDSW, Frag", "How often an identity changes, and how often a track is interrupted.", "Milan et al. 2016"),
    ),
}
"""Per task: the metric, its definition, and where it is from."""
