"""What a review shows of an image: its map of ids with colours of its own, and which pixels are wrong in which way."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from sightline.core.frames import IGNORE_INDEX
from sightline.draw.detections import palette_colour
from sightline.draw.judged import JUDGED
from sightline.draw.shapes import Colour, outline_box, outline_mask, tint
from sightline.draw.view import Picture, View, view_around

__all__ = ["BAND", "MAP_KEY", "TWO_CLASS_KEY", "draw_masked_box", "draw_objects", "id_picture", "map_errors"]

Bools = npt.NDArray[np.bool_]

BAND = 2
"""Pixels by which an edge may be off for a wrong pixel beside it to be an error of the boundary."""
_BOUNDARY = (JUDGED["boundary"], f"purple: right but for an edge that is off by up to {BAND} pixels")
TWO_CLASS_KEY = (
    (JUDGED["right"], "blue: foreground found"),
    (JUDGED["wrong"], "red: background reported as foreground"),
    (JUDGED["missed"], "yellow: foreground missed"),
    _BOUNDARY,
)
MAP_KEY = ((JUDGED["wrong"], "red: another class than the labels"), _BOUNDARY)
_LINE = 0.45


def map_errors(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], class_count: int
) -> dict[str, Bools]:
    """Pixels (H, W) by what they are, each in one at most: `wrong`, `missed`, `boundary`, and of two classes `right`.

    An error of the boundary has the predicted class in the labels, and its true class in the prediction, within `BAND`
    pixels. Of two classes `wrong` is background reported as foreground and `missed` the opposite, `right` foreground
    that was found; of more all other errors are `wrong`. Ignored pixels are none of them.
    """
    counted = truth != IGNORE_INDEX
    error = counted & (truth != predicted)
    near = np.zeros(truth.shape, bool)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1, 2 * BAND + 1))
    for class_id in np.unique(predicted[error]).tolist():
        labelled = cv2.dilate((truth == class_id).astype(np.uint8), disk).astype(bool)
        near |= error & (predicted == class_id) & labelled
    boundary = np.zeros(truth.shape, bool)
    for class_id in np.unique(truth[near]).tolist():
        found = cv2.dilate((predicted == class_id).astype(np.uint8), disk).astype(bool)
        boundary |= near & (truth == class_id) & found
    apart = error & ~boundary
    if class_count != 2:
        return {"wrong": apart, "boundary": boundary}
    return {
        "right": counted & (truth == 1) & (predicted == 1),
        "wrong": apart & (predicted == 1),
        "missed": apart & (truth == 1),
        "boundary": boundary,
    }


def id_picture(ids: npt.NDArray[np.integer], colours: Sequence[Colour]) -> Image.Image:
    """A map (H, W) as an indexed picture whose values are the ids; gray of 16 bits where there are more than 256."""
    if len(colours) > 256:
        return Image.fromarray(ids.astype(np.uint16))
    picture = Image.fromarray(ids.astype(np.uint8))
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def draw_objects(pixels: Picture, view: View, masks: Mapping[int, Bools]) -> Picture:
    """The RGB image as `view` shows it with each object's mask (H, W) tinted and outlined in its number's colour."""
    scene = view.show(pixels)
    for number, mask in masks.items():
        share, colour = view.show_share(mask), palette_colour(number)
        tint(scene, share, colour, _LINE)
        outline_mask(scene, share >= 0.5, colour, 1, dashed=False)
    return scene


def draw_masked_box(
    pixels: Picture, box_xyxy: Sequence[float], mask: Bools | None, cell_hw: tuple[int, int]
) -> Picture:
    """What lies around a box of an RGB image, with the box dashed and the mask (H, W) of its object tinted."""
    view = view_around(box_xyxy, (pixels.shape[0], pixels.shape[1]), cell_hw, context=1.6, least_px=24)
    scene = view.show(pixels)
    if mask is not None:
        share = view.show_share(mask)
        tint(scene, share, JUDGED["right"], _LINE)
        outline_mask(scene, share >= 0.5, JUDGED["right"], 1, dashed=False)
    outline_box(scene, view.place_boxes([box_xyxy])[0].tolist(), JUDGED["truth"], 1, dashed=True)
    return scene
