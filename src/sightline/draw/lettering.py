"""Text on pictures: captions, grids of pictures, and names beside the objects they belong to. RGB uint8 in and out.

Names are set where they hide least, and left out where there is no room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sightline.draw.shapes import DARK, LIGHT, Colour, Place
from sightline.draw.view import Picture

__all__ = ["Tag", "draw_caption", "fit_text", "lay_out", "text_width", "write_corner", "write_tags", "write_text"]


GROUND, INK, MUTED = (250, 250, 250), (27, 31, 36), (89, 98, 110)
TITLE_PX, CAPTION_PX, SMALL_PX = 20, 13, 13
_GAP, _MARGIN = 10, 16
_STRIP_PX = 22
_MAX_LINES = 3


@lru_cache(maxsize=1)
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")  # carried by OpenCV itself, with letters of many scripts


@lru_cache(maxsize=4096)
def text_width(text: str, size_px: int) -> int:
    """Width of a line of text in pixels."""
    return int(cv2.getTextSize((1, 1), text, (0, 0), _font(), size_px)[2])


def fit_text(text: str, width_px: int, size_px: int, *, keep_end: bool = False) -> str:
    """The text on one line, shortened with an ellipsis at its end (or start) to fit the width."""
    line = "".join(c if c.isprintable() else " " for c in text)
    if text_width(line, size_px) <= width_px:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(_shortened(line, middle, keep_end), size_px) <= width_px:
            low = middle
        else:
            high = middle - 1
    return _shortened(line, low, keep_end)


def write_text(picture: Picture, text: str, at_xy: tuple[int, int], colour: Colour, size_px: int) -> None:
    """Draw a line of text into the picture, its baseline starting at `at_xy`."""
    cv2.putText(picture, text, at_xy, colour, _font(), size_px)


def draw_caption(image: Picture, text: str) -> Picture:
    """A copy with a line of text on a dark strip above the image."""
    strip = np.full((_STRIP_PX, image.shape[1], 3), 24, np.uint8)
    write_text(strip, fit_text(text, image.shape[1] - 12, CAPTION_PX), (6, 16), (235, 235, 235), CAPTION_PX)
    return np.concatenate([strip, image])


def lay_out(
    pictures: Sequence[tuple[Picture, Sequence[str]]],
    *,
    title: str,
    note: str = "",
    key: Sequence[tuple[Colour, str]] = (),
    columns: int,
) -> Picture:
    """A page of pictures at their own size, each above its lines of caption, with a title, a note and a colour key.

    All columns are as wide as the widest picture, each row as high as its highest.
    """
    widest = max((p.shape[1] for p, _ in pictures), default=320)
    columns = max(1, min(columns, len(pictures)))
    width = max(2 * _MARGIN + columns * widest + (columns - 1) * _GAP, 2 * _MARGIN + 480)
    head = _head(title, note, key, width)
    rows = [_row(pictures[i : i + columns], widest, width) for i in range(0, len(pictures), columns)]
    foot = np.full((_MARGIN - _GAP // 2, width, 3), GROUND, np.uint8)
    return np.concatenate([head, *rows, foot])


def _shortened(line: str, letters: int, keep_end: bool) -> str:
    return f"…{line[len(line) - letters :]}" if keep_end else f"{line[:letters].rstrip()}…"


def _head(title: str, note: str, key: Sequence[tuple[Colour, str]], width: int) -> Picture:
    room = width - 2 * _MARGIN
    notes = _wrapped(note, room, SMALL_PX)
    chips = _chip_rows(key, room)
    height = _MARGIN + TITLE_PX + 8 + (SMALL_PX + 6) * len(notes) + 22 * len(chips) + 8
    head = np.full((height, width, 3), GROUND, np.uint8)
    write_text(head, fit_text(title, room, TITLE_PX), (_MARGIN, _MARGIN + TITLE_PX - 4), INK, TITLE_PX)
    y = _MARGIN + TITLE_PX + 8
    for line in notes:
        write_text(head, line, (_MARGIN, y + SMALL_PX - 1), MUTED, SMALL_PX)
        y += SMALL_PX + 6
    for row in chips:
        for x, colour, text in row:
            cv2.rectangle(head, (_MARGIN + x, y + 3), (_MARGIN + x + 13, y + 16), colour, cv2.FILLED)
            cv2.rectangle(head, (_MARGIN + x, y + 3), (_MARGIN + x + 13, y + 16), MUTED, 1)
            write_text(head, text, (_MARGIN + x + 19, y + 14), INK, SMALL_PX)
        y += 22
    return head


def _chip_rows(key: Sequence[tuple[Colour, str]], room: int) -> list[list[tuple[int, Colour, str]]]:
    rows: list[list[tuple[int, Colour, str]]] = []
    x = room + 1
    for colour, name in key:
        text = fit_text(name, room // 3, SMALL_PX)
        width = 19 + text_width(text, SMALL_PX)
        if x + width > room:
            rows.append([])
            x = 0
        rows[-1].append((x, colour, text))
        x += width + 18
    return rows


def _row(cells: Sequence[tuple[Picture, Sequence[str]]], widest: int, width: int) -> Picture:
    lines = [_caption(captions, widest) for _, captions in cells]
    step = CAPTION_PX + 5
    height = max(picture.shape[0] + step * len(caption) for (picture, _), caption in zip(cells, lines, strict=True))
    row = np.full((height + _GAP, width, 3), GROUND, np.uint8)
    for i, ((picture, _), caption) in enumerate(zip(cells, lines, strict=True)):
        left = _MARGIN + i * (widest + _GAP)
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        for n, line in enumerate(caption):
            baseline = picture.shape[0] + step * (n + 1) - 2
            write_text(row, line, (left, baseline), INK if n == 0 else MUTED, CAPTION_PX)
    return row


def _caption(captions: Sequence[str], width_px: int) -> list[str]:
    """The title on one line, of a path its end, and up to three lines of the rest; nothing where nothing is said."""
    if not captions:
        return []
    title, *rest = captions
    lines = [line for text in rest for line in _wrapped(text, width_px, CAPTION_PX)]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], fit_text(" ".join(lines[_MAX_LINES - 1 :]), width_px, CAPTION_PX)]
    return [fit_text(title, width_px, CAPTION_PX, keep_end=True), *lines]


def _wrapped(text: str, width_px: int, size_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size_px) <= width_px:
            lines[-1] = longer
        else:
            lines.append(fit_text(word, width_px, size_px))
    return lines


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


def write_tags(
    picture: Picture,
    tags: Sequence[Tag],
    boxes_xyxy: Floats,
    taken: Sequence[Place] = (),
    *,
    letter_px: int = LETTER_PX,
) -> None:
    """Write the tags that find room, given all objects' boxes (N, 4) in the picture and the places that are `taken`.

    Small objects come first: their names have the fewest places.
    """
    taken = list(taken)
    padding, height = _around(letter_px)
    for tag in sorted(tags, key=lambda t: _area(t.box_xyxy)):
        text = fit_text(tag.text, round(picture.shape[1] * MAX_TAG_SHARE), letter_px)
        size = text_width(text, letter_px) + 2 * padding, height
        place = _best_place(tag.box_xyxy, size, picture.shape[:2], boxes_xyxy, np.array(taken).reshape(-1, 4))
        if place is not None:
            _write(picture, text, place, tag.colour, letter_px)
            taken.append(place)


def _around(letter_px: int) -> tuple[int, int]:
    """Room beside the letters of a tag and its height, in pixels, for letters of a size."""
    return max(2, round(letter_px * PADDING_PX / LETTER_PX)), round(letter_px * TAG_PX / LETTER_PX)


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
    across = dict.fromkeys((left, right, max(left, 0), min(right, picture_hw[1] - width)))
    spots = np.array([(x, y) for y in (y1 - height - 1, y2 + 2, y1 + 2, y2 - height - 1) for x in across], np.float64)
    places = np.concatenate([spots, spots + size_wh], axis=1)
    inside = (spots >= 0).all(axis=1) & (places[:, 2:] <= picture_hw[::-1]).all(axis=1)
    free = inside & (_overlaps(places, taken).max(axis=1, initial=0.0) == 0)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0)
    shares = (_overlaps(places, boxes) / areas).max(axis=1, initial=0.0) + 0.002 * np.arange(len(places))
    best = int(np.where(free, shares, np.inf).argmin())
    if not (free[best] and shares[best] < MAX_HIDDEN):
        return None
    left, top, right, bottom = places[best].tolist()
    return left, top, right, bottom


def _overlaps(places: Floats, boxes: Floats) -> Floats:
    """Area (S, N) that each place shares with each box."""
    low = np.maximum(places[:, None, :2], boxes[None, :, :2])
    high = np.minimum(places[:, None, 2:], boxes[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2), np.float64)


def _write(picture: Picture, text: str, place: Sequence[float], colour: Colour, letter_px: int = LETTER_PX) -> None:
    x1, y1, x2, y2 = (round(v) for v in place)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > _BRIGHT
    baseline = y2 - round(letter_px / 3)
    write_text(picture, text, (x1 + _around(letter_px)[0], baseline), DARK if bright else LIGHT, letter_px)
