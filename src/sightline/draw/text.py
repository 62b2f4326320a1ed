"""Many pictures as one: text, captions and grids. RGB uint8 in and out."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw_caption", "fit_text", "lay_out", "text_width", "write_text"]

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

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
