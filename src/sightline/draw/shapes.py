"""Lines, tints and hatching on an RGB picture. Coordinates are those of pixel edges; fractions are kept where it shows.

Every function draws into the picture it is given.
"""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sightline.draw.view import Picture

__all__ = [
    "DARK",
    "LIGHT",
    "Place",
    "bracket",
    "dot",
    "hatch",
    "join",
    "outline_box",
    "outline_mask",
    "outline_rings",
    "tint",
]

Colour: TypeAlias = tuple[int, int, int]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Place: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in a picture."""

DARK: Colour = (16, 16, 16)
LIGHT: Colour = (255, 255, 255)
DASH_PX, GAP_PX = 6, 4
_FRACTION_BITS = 4  # OpenCV's coordinates in sixteenths of a pixel
_RIM = 0.55
_HATCH_STEP, _HATCH_WIDTH = 9, 2
_FAR = 1 << 20


def outline_box(picture: Picture, box_xyxy: Sequence[float], colour: Colour, width: int, *, dashed: bool) -> None:
    """A frame whose line lies on the box's edges, with a dark rim that sets it off from any ground."""
    corners = np.clip(np.asarray(box_xyxy, np.float64), -_FAR, _FAR)
    x1, y1, x2, y2 = (round(float(v)) for v in corners)
    before = width // 2
    outer = (x1 - before, y1 - before, x2 - before + width, y2 - before + width)
    rim = (outer[0] - 1, outer[1] - 1, outer[2] + 1, outer[3] + 1)
    _frame(picture, rim, 1, DARK, opacity=_RIM)
    if not dashed:
        _frame(picture, outer, width, colour)
        return
    _frame(picture, outer, width, DARK, opacity=_RIM)
    _frame(picture, outer, width, colour, dashed=True)


def outline_rings(picture: Picture, rings_xy: Sequence[Floats], colour: Colour, width: int, *, dashed: bool) -> None:
    """Closed lines through the points (P, 2) of each ring."""
    lines = [_fixed(ring) for ring in rings_xy]
    cv2.polylines(picture, lines, True, DARK, width + 2, cv2.LINE_AA, _FRACTION_BITS)
    if dashed:
        pieces = [_fixed(piece) for ring in rings_xy for piece in _dashes(ring)]
        cv2.polylines(picture, pieces, False, colour, width, cv2.LINE_AA, _FRACTION_BITS)
    else:
        cv2.polylines(picture, lines, True, colour, width, cv2.LINE_AA, _FRACTION_BITS)


def outline_mask(picture: Picture, covered: Bools, colour: Colour, width: int, *, dashed: bool) -> None:
    """The mask's outermost pixels, those around its holes too: the line lies inside the mask."""
    line = covered & ~_shrunk(covered, width)
    rim = _grown(covered, 1) & ~covered
    picture[rim] = _mixed(picture[rim], DARK, _RIM)
    if dashed:
        y, x = np.nonzero(line)
        gap = (x + y) % (DASH_PX + GAP_PX) >= DASH_PX
        picture[y[gap], x[gap]] = DARK
        y, x = y[~gap], x[~gap]
        picture[y, x] = colour
    else:
        picture[line] = colour


def tint(picture: Picture, share: npt.NDArray[np.float32], colour: Colour, opacity: float) -> None:
    """Mix the colour in where `share` (H, W), 0..1, says that the thing is."""
    here = share > 0
    weights = share[here][:, None] * opacity
    picture[here] = (picture[here] * (1 - weights) + np.array(colour, np.float32) * weights + 0.5).astype(np.uint8)


def hatch(picture: Picture, covered: Bools, colour: Colour) -> None:
    """Diagonal stripes with a dark edge over a mask (H, W)."""
    y, x = np.nonzero(covered)
    phase = (x + y) % _HATCH_STEP
    for stripe, ink, opacity in ((phase < _HATCH_WIDTH, colour, 0.85), (phase == _HATCH_WIDTH, DARK, _RIM)):
        rows, columns = y[stripe], x[stripe]
        picture[rows, columns] = _mixed(picture[rows, columns], ink, opacity)


def bracket(picture: Picture, box_xyxy: Sequence[float]) -> list[Place]:
    """White corners around a box, off its edges: what to look at. A box too small to see gets them all the same.

    Returns what the corners cover.
    """
    height, width = picture.shape[:2]
    x1, x2 = sorted((box_xyxy[0], box_xyxy[2]))
    y1, y2 = sorted((box_xyxy[1], box_xyxy[3]))
    # Kept inside the picture, so that a box as large as the image has its corners too.
    left, top = max(round(x1) - 7, 2), max(round(y1) - 7, 2)
    right, bottom = min(round(x2) + 7, width - 3), min(round(y2) + 7, height - 3)
    left, top = min(left, right - 8), min(top, bottom - 8)
    reach = max(6, min(22, (right - left) // 3, (bottom - top) // 3))
    for ink, thick in ((DARK, 5), (LIGHT, 3)):
        for x, toward_x in ((left, 1), (right, -1)):
            for y, toward_y in ((top, 1), (bottom, -1)):
                cv2.line(picture, (x, y), (x + toward_x * reach, y), ink, thick)
                cv2.line(picture, (x, y), (x, y + toward_y * reach), ink, thick)
    return [
        (
            min(x, x + a * reach) - 2.0,
            min(y, y + b * reach) - 2.0,
            max(x, x + a * reach) + 3.0,
            max(y, y + b * reach) + 3.0,
        )
        for x, a in ((left, 1), (right, -1))
        for y, b in ((top, 1), (bottom, -1))
    ]


def dot(picture: Picture, point_xy: Sequence[float], colour: Colour, radius: int, *, hollow: bool) -> None:
    """A round mark with a dark rim; hollow for what is there but not seen."""
    centre = _fixed(np.array([point_xy], np.float64))[0].tolist()
    fixed = 1 << _FRACTION_BITS
    if not hollow:
        cv2.circle(picture, centre, (radius + 1) * fixed, DARK, cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)
        cv2.circle(picture, centre, radius * fixed, colour, cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)
        return
    cv2.circle(picture, centre, radius * fixed, DARK, 4, cv2.LINE_AA, _FRACTION_BITS)
    cv2.circle(picture, centre, radius * fixed, colour, 2, cv2.LINE_AA, _FRACTION_BITS)


def join(picture: Picture, start_xy: Sequence[float], stop_xy: Sequence[float], colour: Colour, width: int) -> None:
    """A line from point to point with a dark rim."""
    start, stop = _fixed(np.array([start_xy, stop_xy], np.float64)).tolist()
    cv2.line(picture, start, stop, DARK, width + 2, cv2.LINE_AA, _FRACTION_BITS)
    cv2.line(picture, start, stop, colour, width, cv2.LINE_AA, _FRACTION_BITS)


def _frame(
    picture: Picture,
    outer: tuple[int, int, int, int],
    width: int,
    colour: Colour,
    *,
    opacity: float = 1.0,
    dashed: bool = False,
) -> None:
    """The pixels of a frame between its outer edges and `width` pixels inside, clipped to the picture."""
    x1, y1, x2, y2 = outer
    for left, top, right, bottom in (
        (x1, y1, x2, min(y1 + width, y2)),
        (x1, max(y2 - width, y1), x2, y2),
        (x1, y1, min(x1 + width, x2), y2),
        (max(x2 - width, x1), y1, x2, y2),
    ):
        rows = np.arange(max(top, 0), min(bottom, picture.shape[0]))
        columns = np.arange(max(left, 0), min(right, picture.shape[1]))
        if not len(rows) or not len(columns):
            continue
        if dashed:  # counted from the box's corner, so that dashes do not crawl when the view moves
            along = columns - x1 if right - left > bottom - top else rows - y1
            kept = along % (DASH_PX + GAP_PX) < DASH_PX
            rows, columns = (rows, columns[kept]) if right - left > bottom - top else (rows[kept], columns)
        where = np.ix_(rows, columns)
        picture[where] = colour if opacity >= 1 else _mixed(picture[where], colour, opacity)


def _mixed(pixels: Picture, colour: Colour, opacity: float) -> Picture:
    return (pixels * (1 - opacity) + np.array(colour, np.float32) * opacity).astype(np.uint8)


def _fixed(points_xy: Floats) -> npt.NDArray[np.int32]:
    """Edge coordinates as OpenCV counts them, from the centre of the first pixel, in fractions of a pixel."""
    near = np.clip(points_xy, -_FAR, _FAR) - 0.5
    return np.round(near * (1 << _FRACTION_BITS)).astype(np.int32)


def _dashes(ring_xy: Floats) -> list[Floats]:
    """The ring's line cut into dashes, each as its points."""
    closed = np.concatenate([ring_xy, ring_xy[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    starts = np.arange(0.0, min(along[-1], 1e5), DASH_PX + GAP_PX)
    pieces = []
    for start in starts.tolist():
        stop = min(start + DASH_PX, float(along[-1]))
        between = along[(along > start) & (along < stop)]
        steps = np.concatenate([[start], between, [stop]])
        pieces.append(np.stack([np.interp(steps, along, closed[:, i]) for i in (0, 1)], axis=1))
    return pieces


def _shrunk(covered: Bools, width: int) -> Bools:
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    # The picture's border is no outline: a mask that goes on there stays open.
    return np.asarray(cv2.erode(covered.astype(np.uint8), kernel, borderValue=1) > 0)


def _grown(covered: Bools, width: int) -> Bools:
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(covered.astype(np.uint8), kernel) > 0)
