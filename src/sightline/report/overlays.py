"""Ground truth and prediction on a thumbnail: solid boxes for detections, dashed ones for truth, tints for pixels."""

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from sightline.core.frames import IGNORE_INDEX
from sightline.draw import JUDGED, PALETTE
from sightline.media import as_rgb8

__all__ = [
    "DETECTION_KEY",
    "PIXEL_KEY",
    "DrawnBox",
    "class_colour",
    "draw_boxes",
    "jpeg_uri",
    "thumbnail",
    "tint_classes",
    "tint_errors",
    "tint_masks",
]

Pixels = NDArray[np.uint8]
Point = tuple[float, float]
THUMBNAIL_SIDE = 560
THUMBNAIL_MIN_SIDE = 480
_JPEG_QUALITY = 82
_MAX_LABELLED = 40
_MAX_LETTERS = 24
_LETTER_PX, _LABEL_PX = 12, 16
_DARK = (0, 0, 0)


def _hex(kind: str) -> str:
    return "#" + bytes(JUDGED[kind]).hex()


DETECTION_KEY = (
    (_hex("right"), "solid blue: detection that is right"),
    (_hex("wrong"), "solid red: detection that is false"),
    (_hex("missed"), "dashed yellow: object that was missed"),
    (_hex("truth"), "dashed white: object that was found"),
)
PIXEL_KEY = (
    (_hex("right"), "blue: foreground found"),
    (_hex("wrong"), "red: background reported as foreground"),
    (_hex("missed"), "yellow: foreground missed"),
)


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box in thumbnail pixels, what it is (a key of `JUDGED`) and its label."""

    box_xyxy: tuple[float, float, float, float]
    kind: str
    label: str = ""

    @property
    def dashed(self) -> bool:
        """Ground truth is dashed, detections are solid."""
        return self.kind in ("missed", "truth")


def thumbnail(
    image: NDArray[Any], max_side: int = THUMBNAIL_SIDE, min_side: int = THUMBNAIL_MIN_SIDE
) -> tuple[Pixels, float]:
    """The picture as RGB uint8, its longer side within `min_side`..`max_side` pixels, and the scale that took."""
    pixels = as_rgb8(image)
    height, width = pixels.shape[:2]
    longer = max(height, width)
    # Small images are enlarged as well, or lines and letters would cover them.
    scale = max_side / longer if longer > max_side else max(1.0, min_side / longer)
    if scale != 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(
            cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8
        )
    return np.ascontiguousarray(pixels), scale


def draw_boxes(pixels: Pixels, boxes: Sequence[DrawnBox]) -> Pixels:
    """The boxes on a darkened copy, ground truth below detections; labels only while there is room for them."""
    scene = np.ascontiguousarray((pixels * 0.88).astype(np.uint8))
    order = {"truth": 0, "right": 1, "wrong": 2, "missed": 3}
    for drawn in sorted(boxes, key=lambda b: order[b.kind]):
        _outline(scene, drawn)
    if len(boxes) <= _MAX_LABELLED:
        font = cv2.FontFace("sans")  # carried by OpenCV itself, with letters of many scripts
        for drawn in boxes:
            if drawn.label:
                _label(scene, drawn, font)
    return scene


def _outline(scene: Pixels, drawn: DrawnBox) -> None:
    x1, y1, x2, y2 = drawn.box_xyxy
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for start, stop in itertools.pairwise(corners):
        if not drawn.dashed:
            _line(scene, start, stop, JUDGED[drawn.kind], 2)
            continue
        _line(scene, start, stop, _DARK, 3)
        for a, b in _dashes(start, stop):
            _line(scene, a, b, JUDGED[drawn.kind], 2)


def _line(scene: Pixels, start: Point, stop: Point, colour: tuple[int, int, int], width: int) -> None:
    ends = [(round(start[0]), round(start[1])), (round(stop[0]), round(stop[1]))]
    cv2.line(scene, ends[0], ends[1], colour, width)


def _dashes(start: Point, stop: Point, length: float = 5.0) -> list[tuple[Point, Point]]:
    whole = float(np.hypot(stop[0] - start[0], stop[1] - start[1]))
    count = max(1, round(whole / (2 * length)))
    ends = np.linspace(0.0, 1.0, 2 * count + 1)

    def at(share: float) -> Point:
        return start[0] + (stop[0] - start[0]) * share, start[1] + (stop[1] - start[1]) * share

    return [(at(ends[2 * i]), at(ends[2 * i + 1])) for i in range(count)]


def _label(scene: Pixels, drawn: DrawnBox, font: Any) -> None:
    height, width = scene.shape[:2]
    text = drawn.label if len(drawn.label) <= _MAX_LETTERS else drawn.label[: _MAX_LETTERS - 1] + "…"
    text_width = cv2.getTextSize((width, height), text, (0, 0), font, _LETTER_PX)[2]
    x = round(min(max(0.0, drawn.box_xyxy[0] - 1), max(0.0, width - text_width - 6)))
    above = round(drawn.box_xyxy[1]) - _LABEL_PX
    y = above if above >= 0 else max(0, min(round(drawn.box_xyxy[1]), height - _LABEL_PX))
    cv2.rectangle(scene, (x, y), (x + text_width + 5, y + _LABEL_PX - 1), JUDGED[drawn.kind], -1)
    cv2.putText(scene, text, (x + 3, y + _LABEL_PX - 4), _DARK, font, _LETTER_PX)


def tint_errors(pixels: Pixels, truth: NDArray[Any], prediction: NDArray[Any]) -> Pixels:
    """Two classes: pixels found, wrongly reported and missed in three colours; what is ignored does not count.

    Class maps are (H, W) at thumbnail size.
    """
    counted = truth != IGNORE_INDEX
    scene = pixels.astype(np.float32) * 0.8
    for kind, where in (
        ("right", (truth == 1) & (prediction == 1)),
        ("wrong", (truth == 0) & (prediction == 1)),
        ("missed", (truth == 1) & (prediction == 0)),
    ):
        _blend(scene, where & counted, JUDGED[kind], 0.75)
    return scene.round().astype(np.uint8)


def tint_masks(pixels: Pixels, masks: Sequence[NDArray[np.bool_]], kinds: Sequence[str]) -> Pixels:
    """Masks (H, W) tinted with the colour of their kind."""
    scene = pixels.astype(np.float32)
    for mask, kind in zip(masks, kinds, strict=True):
        _blend(scene, mask, JUDGED[kind], 0.4)
    return scene.round().astype(np.uint8)


def tint_classes(pixels: Pixels, class_ids: NDArray[Any]) -> Pixels:
    """Many classes: each pixel tinted with its class's colour; pixels that do not count are left dark."""
    scene = pixels.astype(np.float32)
    scene[class_ids == IGNORE_INDEX] *= 0.3
    for class_id in np.unique(class_ids[class_ids != IGNORE_INDEX]):
        colour = ImageColor.getrgb(class_colour(int(class_id)))
        _blend(scene, class_ids == class_id, (colour[0], colour[1], colour[2]), 0.55)
    return scene.round().astype(np.uint8)


def class_colour(class_id: int) -> str:
    """A colour `#rrggbb` for a class id, repeated when there are more classes than colours."""
    return str(PALETTE.by_idx(class_id).as_hex())


def _blend(scene: NDArray[np.float32], where: NDArray[np.bool_], colour: tuple[int, int, int], opacity: float) -> None:
    scene[where] = scene[where] * (1 - opacity) + np.array(colour, np.float32) * opacity


def jpeg_uri(pixels: Pixels) -> str:
    """The picture as a JPEG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
