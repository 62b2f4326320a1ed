"""Names beside the objects they belong to: set where they hide least, left out where there is no room."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sightline.draw.shapes import DARK, LIGHT, Colour, Place
from sightline.draw.text import fit_text, text_width, write_text
from sightline.draw.view import Picture

__all__ = ["Tag", "write_corner", "write_tags"]

LETTER_PX, TAG_PX, PADDING_PX = 12, 15, 3
MAX_TAG_SHARE = 0.6
"""A name takes at most this share of the picture's width."""
MAX_HIDDEN = 0.2
"""A name that would hide more than this share of any object is not written."""
_BRIGHT = 130.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tag:
    """A name, the box in the picture it belongs to, and its ground."""

    text: str
    box_xyxy: tuple[float, float, float, float]
    colour: Colour

    @property
    def area_px2(self) -> int:
        """What its letters and their ground cover."""
        return (text_width(self.text, LETTER_PX) + 2 * PADDING_PX) * TAG_PX


def write_tags(picture: Picture, tags: Sequence[Tag], boxes_xyxy: Floats, taken: Sequence[Place] = ()) -> None:
    """Write the tags that find room, given all objects' boxes (N, 4) in the picture and the places that are `taken`.

    Small objects come first: their names have the fewest places.
    """
    taken = list(taken)
    for tag in sorted(tags, key=lambda t: _area(t.box_xyxy)):
        text = fit_text(tag.text, round(picture.shape[1] * MAX_TAG_SHARE), LETTER_PX)
        size = text_width(text, LETTER_PX) + 2 * PADDING_PX, TAG_PX
        place = _best_place(tag.box_xyxy, size, picture.shape[:2], boxes_xyxy, np.array(taken).reshape(-1, 4))
        if place is not None:
            _write(picture, text, place, tag.colour)
            taken.append(place)


def write_corner(picture: Picture, text: str) -> None:
    """A short text in the lower left corner, white on black."""
    line = fit_text(text, picture.shape[1] - 2 * PADDING_PX, LETTER_PX)
    height = picture.shape[0]
    place = 0, height - TAG_PX, text_width(line, LETTER_PX) + 2 * PADDING_PX, height
    _write(picture, line, place, DARK)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _best_place(
    box: Sequence[float], size_wh: tuple[int, int], picture_hw: Any, boxes: Floats, taken: Floats
) -> Place | None:
    """Of the places along the box's top and bottom, outside before inside, the one that hides least; None if all do."""
    width, height = size_wh
    x1, y1, x2, y2 = (round(v) for v in box)
    left, right = x1 - 1, x2 + 1 - width
    spots = [
        (x, y)
        for y in (y1 - height - 1, y2 + 2, y1 + 2, y2 - height - 1)
        for x in dict.fromkeys((left, right, max(left, 0), min(right, picture_hw[1] - width)))
    ]
    best, least = None, MAX_HIDDEN
    for order, (x, y) in enumerate(spots):
        if x < 0 or y < 0 or x + width > picture_hw[1] or y + height > picture_hw[0]:
            continue
        place = float(x), float(y), float(x + width), float(y + height)
        if len(taken) and _overlap(place, taken).max() > 0:
            continue
        hidden = _overlap(place, boxes)
        share = float((hidden / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0)).max(initial=0.0))
        if share + 0.002 * order < least:
            best, least = place, share + 0.002 * order
    return best


def _overlap(place: Sequence[float], boxes: Floats) -> Floats:
    """Area that a place shares with each box."""
    low = np.maximum(boxes[:, :2], place[:2])
    high = np.minimum(boxes[:, 2:], place[2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=1), np.float64)


def _write(picture: Picture, text: str, place: Sequence[float], colour: Colour) -> None:
    x1, y1, x2, y2 = (round(v) for v in place)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > _BRIGHT
    write_text(picture, text, (x1 + PADDING_PX, y2 - 4), DARK if bright else LIGHT, LETTER_PX)
