"""Predictions beside their ground truth: what is right, false and missed.

Colours and lines say the same: ground truth is dashed, detections are solid.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.core.frames import IGNORE_INDEX
from sightline.draw.lettering import Tag, write_tags
from sightline.draw.shapes import Colour, outline_box, outline_rings, tint
from sightline.draw.view import Picture, View
from sightline.evaluate import DetectionImage
from sightline.ops import rle

__all__ = ["DETECTION_KEY", "JUDGED", "PIXEL_KEY", "JudgedBox"]
__all__ += ["draw_judged", "error_parts", "judge", "tint_found", "tint_judged"]

Bools: TypeAlias = npt.NDArray[np.bool_]

JUDGED: dict[str, Colour] = {
    "right": (64, 156, 255),
    "wrong": (255, 98, 56),
    "missed": (255, 221, 51),
    "truth": (255, 255, 255),
    "boundary": (204, 121, 230),
}
"""RGB of what a prediction turned out to be. They stay apart, in hue or lightness, for every kind of colour vision."""
DETECTION_KEY = (
    (JUDGED["right"], "solid blue: detection that is right"),
    (JUDGED["wrong"], "solid red: detection that is false"),
    (JUDGED["missed"], "dashed yellow: object that was missed"),
    (JUDGED["truth"], "dashed white: object that was found"),
)
PIXEL_KEY = (
    (JUDGED["right"], "blue: foreground found"),
    (JUDGED["wrong"], "red: background reported as foreground"),
    (JUDGED["missed"], "yellow: foreground missed"),
)
_DIM = 0.85  # so that what is drawn stands out
_TINT = 0.75
_MASK_TINT = 0.4  # under a frame of the same colour


class JudgedBox(NamedTuple):
    """A box in image pixels, what it is (a key of `JUDGED`), its label, and its corners (4, 2) where it is oriented."""

    kind: str
    box_xyxy: npt.NDArray[np.float64]
    label: str = ""
    corners: npt.NDArray[np.float64] | None = None


def judge(image: DetectionImage, class_names: Sequence[str]) -> tuple[list[JudgedBox], list[JudgedBox]]:
    """An image's ground truth (`truth`, or `missed` with its name) and its detections (`right` or `wrong`)."""
    rings = [None] * len(image.truth_xyxy) if image.truth_corners is None else image.truth_corners
    truth = [
        JudgedBox("missed" if missed else "truth", box, class_names[c] if missed else "", ring)
        for box, c, missed, ring in zip(image.truth_xyxy, image.truth_class_ids, image.missed, rings, strict=True)
    ]
    rings = [None] * len(image.boxes_xyxy) if image.corners is None else image.corners
    judged = zip(image.boxes_xyxy, image.class_ids, image.scores, image.right, rings, strict=True)
    found = [
        JudgedBox("right" if right else "wrong", box, f"{class_names[c]} {score:.2f}".strip(), ring)
        for box, c, score, right, ring in judged
    ]
    return truth, found


def tint_found(pixels: Picture, image: DetectionImage, found: Sequence[JudgedBox]) -> None:
    """Tint the masks of an image's detections, where they were matched by masks, in the RGB image itself."""
    size_hw = (pixels.shape[0], pixels.shape[1])
    for counts, box in zip(image.masks_rle or (), found, strict=image.masks_rle is not None):
        tint(pixels, rle.decode(counts, size_hw).astype(np.float32), JUDGED[box.kind], _MASK_TINT)


def draw_judged(pixels: Picture, view: View, boxes: Sequence[JudgedBox]) -> Picture:
    """The RGB image as `view` shows it, a little darker, with the boxes; names only where they hide little.

    Ground truth that was found lies below detections, misses above them.
    """
    scene = _shown(pixels, view)
    order = ("truth", "right", "wrong", "missed")
    boxes = sorted(boxes, key=lambda b: order.index(b.kind))
    placed = view.place_boxes(np.array([b.box_xyxy for b in boxes], np.float64).reshape(-1, 4))
    for drawn, place in zip(boxes, placed.tolist(), strict=True):
        dashed = drawn.kind in ("truth", "missed")
        if drawn.corners is None:
            outline_box(scene, place, JUDGED[drawn.kind], 2, dashed=dashed)
        else:
            outline_rings(scene, [view.place(drawn.corners)], JUDGED[drawn.kind], 2, dashed=dashed)
    named = [(b, place) for b, place in zip(boxes, placed.tolist(), strict=True) if b.label]
    write_tags(scene, [Tag(b.label, (x1, y1, x2, y2), JUDGED[b.kind]) for b, (x1, y1, x2, y2) in named], placed)
    return scene


def error_parts(truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer]) -> dict[str, Bools]:
    """Pixels (H, W) of two classes that are `right`, `wrong` and `missed` foreground; ignored ones are neither."""
    counted = truth != IGNORE_INDEX
    positive, reported = truth == 1, (predicted == 1) & counted
    return {"right": positive & reported, "wrong": reported & ~positive, "missed": positive & ~reported}


def tint_judged(pixels: Picture, view: View, parts: Mapping[str, Bools]) -> Picture:
    """The RGB image as `view` shows it with masks (H, W) of the image tinted by what they are."""
    scene = _shown(pixels, view)
    for kind, where in parts.items():
        tint(scene, view.show_share(where), JUDGED[kind], _TINT)
    return scene


def _shown(pixels: Picture, view: View) -> Picture:
    """A somewhat darker copy in the view's size; enlarged pixels stay sharp."""
    how = cv2.INTER_AREA if view.size_hw[0] < pixels.shape[0] else cv2.INTER_NEAREST_EXACT
    return (cv2.resize(pixels, view.size_hw[::-1], interpolation=how) * _DIM).astype(np.uint8)
