"""What the metrics are called on the page and what each one says, in one sentence."""

__all__ = [
    "DETECTION_HEADLINE",
    "MEANINGS",
    "SEMANTIC_HEADLINE",
    "STANDARD_METRICS",
    "TASK_TITLES",
    "TITLES",
    "TRACKING_COLUMNS",
]

TASK_TITLES = {
    "detect": "Object detection",
    "instance": "Instance segmentation",
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
    "mean_image_dice": "Mean image Dice",
    "pixel_accuracy": "Pixel accuracy",
}
"""The name on the page, where it differs from the key."""

MEANINGS = {
    "AP": "Average precision over all classes and IoU thresholds 0.50 to 0.95: found, ranked and framed well?",
    "AP50": "Average precision where a box counts from IoU 0.5 on: are objects found and ranked well?",
    "AP75": "Average precision where a box must fit closely, from IoU 0.75 on.",
    "APs": "AP of objects below 32 × 32 pixels.",
    "APm": "AP of objects between 32 × 32 and 96 × 96 pixels.",
    "APl": "AP of objects above 96 × 96 pixels.",
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
    "mean_image_dice": "Dice of each image alone, mean over the images: another number than the pooled one.",
    "pixel_accuracy": "Share of all pixels with the right class.",
    "HOTA": "Higher order tracking accuracy: finding objects and keeping their identities, in one number.",
}

DETECTION_HEADLINE = ("AP50", "AP")
SEMANTIC_HEADLINE = (
    "foreground_dice",
    "foreground_sensitivity",
    "foreground_specificity",
    "mean_iou",
    "mean_dice",
    "pixel_accuracy",
)
"""The first four that a result has lead the page."""

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
