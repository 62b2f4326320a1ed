"""What the metrics are called on the page and what each one says, in one sentence."""

__all__ = ["DETECTION_HEADLINE", "MEANINGS", "SEMANTIC_HEADLINE", "TITLES", "TRACKING_COLUMNS"]

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
