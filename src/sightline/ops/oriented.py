"""Oriented boxes: centre, size and angle, their corners, and how much two of them overlap.

The one convention: `cx, cy, w, h, angle`, pixels and radians. The side `w` runs from the x axis towards the y axis by
`angle` (clockwise as seen, for y points down), the side `h` at a right angle to it; 0 <= angle < pi / 2, so that an
upright box has the angle 0 and its usual width and height, whichever side is longer. Corners are (4, 2), in that turn:
the first is the one at -w / 2, -h / 2.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.typing import NDArray

from sightline.core.kernels import njit

__all__ = ["box_corners", "canonical", "clip_corners", "corners_iou", "corners_over_smaller", "fit_boxes"]
__all__ += ["grouped_oriented_iou", "oriented_boxes", "oriented_iou", "upright"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_CORNERS = 16  # of two rectangles' intersection there are at most 8
_EPS = 1e-12


def canonical(boxes: npt.ArrayLike) -> Floats:
    """Boxes (N, 5) whose angle may be any as the same rectangles with 0 <= angle < pi / 2."""
    given = np.asarray(boxes, np.float64).reshape(-1, 5)
    quarters = np.floor(given[:, 4] / (np.pi / 2))
    angle = given[:, 4] - quarters * (np.pi / 2)
    full = angle >= np.pi / 2  # by rounding
    angle, quarters = np.where(full, 0.0, angle), quarters + full
    sides = np.where((quarters % 2 == 1)[:, None], given[:, [3, 2]], given[:, [2, 3]])
    return np.concatenate([given[:, :2], sides, np.maximum(angle, 0.0)[:, None]], axis=1)


def box_corners(boxes: npt.ArrayLike) -> Floats:
    """The corners (N, 4, 2) of boxes (N, 5)."""
    given = np.asarray(boxes, np.float64).reshape(-1, 5)
    along = np.stack([np.cos(given[:, 4]), np.sin(given[:, 4])], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    w, h = given[:, 2:3] / 2 * along, given[:, 3:4] / 2 * across
    corners: Floats = given[:, None, :2] + np.stack([-w - h, w - h, w + h, h - w], axis=1)
    return corners


def upright(corners: NDArray[np.floating]) -> Floats:
    """The boxes (N, 4) xyxy around corners (N, P, 2)."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float64)


def fit_boxes(corners: NDArray[np.floating]) -> Floats:
    """The smallest boxes (N, 5) around sets of points (N, P, 2); of a rectangle's corners they are the rectangle.

    One of its sides lies along a side of the points' hull (Freeman and Shapira 1975).
    """
    return canonical(_fit_all(np.ascontiguousarray(corners, np.float64)))


def oriented_boxes(objects: pl.DataFrame) -> Floats:
    """The oriented boxes (N, 5) of rows of an objects table: the smallest around an outline, else the box itself."""
    upright_xyxy = objects.select("x1", "y1", "x2", "y2").to_numpy()
    boxes = np.zeros((len(objects), 5))
    boxes[:, :2], boxes[:, 2:4] = (
        (upright_xyxy[:, :2] + upright_xyxy[:, 2:]) / 2,
        upright_xyxy[:, 2:] - upright_xyxy[:, :2],
    )
    for row, rings in enumerate(objects["polygon"].to_list()):
        if rings:
            points = np.concatenate([np.asarray(ring, np.float64) for ring in rings]).reshape(1, -1, 2)
            boxes[row] = fit_boxes(points)[0]
    return boxes


def clip_corners(corners: NDArray[np.floating], size_hw: tuple[int, int]) -> Floats:
    """Corners (N, 4, 2) of the smallest boxes around what lies inside an image of that size; zeros where nothing does.

    Boxes that lie inside stay exactly as they are.
    """
    given = np.ascontiguousarray(corners, np.float64).reshape(-1, 4, 2)
    out = (given < 0).any((1, 2)) | (given > (size_hw[1], size_hw[0])).any((1, 2))
    cut = given.copy()
    for row in np.flatnonzero(out).tolist():
        frame = np.array([[0, 0], [size_hw[1], 0], [size_hw[1], size_hw[0]], [0, size_hw[0]]], np.float64)
        inside = _intersection(given[row], frame)
        cut[row] = box_corners(canonical(_fit(inside)[None]))[0] if len(inside) > 2 else 0.0
    return cut


def oriented_iou(boxes_a: npt.ArrayLike, boxes_b: npt.ArrayLike) -> Floats:
    """Exact intersection over union of all boxes (N, 5) with all boxes (M, 5) -> (N, M), 0..1."""
    a, b = (np.ascontiguousarray(np.asarray(given, np.float64).reshape(-1, 5)) for given in (boxes_a, boxes_b))
    ends_a, ends_b = (np.array([0, len(part)], np.int64) for part in (a, b))
    return grouped_oriented_iou(a, ends_a, b, ends_b, np.zeros(len(b), np.bool_)).reshape(len(a), len(b))


def grouped_oriented_iou(
    detections: Floats, detection_starts: Ints, truth: Floats, truth_starts: Ints, crowd: NDArray[np.bool_]
) -> Floats:
    """As `grouped_iou` of upright boxes: exact IoU of all detections with all ground truth of their image, image by
    image and row by row; against a crowd the denominator is the detection's area.
    """
    corners = np.ascontiguousarray(box_corners(detections)), np.ascontiguousarray(box_corners(truth))
    return np.asarray(_groups(*corners, detection_starts, truth_starts, crowd))


@njit(cache=True)
def _groups(found: Floats, truth: Floats, found_starts: Ints, truth_starts: Ints, crowd: NDArray[np.bool_]) -> Floats:
    total = 0
    for image in range(len(truth_starts) - 1):
        total += (found_starts[image + 1] - found_starts[image]) * (truth_starts[image + 1] - truth_starts[image])
    out, place = np.empty(total), 0
    for image in range(len(truth_starts) - 1):
        for d in range(found_starts[image], found_starts[image + 1]):
            area = abs(_area(found[d], 4))
            for g in range(truth_starts[image], truth_starts[image + 1]):
                common = _common_area(found[d], truth[g])
                union = area if crowd[g] else area + abs(_area(truth[g], 4)) - common
                out[place] = min(1.0, common / union) if union > 0.0 else 0.0
                place += 1
    return out


@njit(cache=True)
def _common_area(a: Floats, b: Floats) -> float:
    """The area of the intersection of two convex outlines (4, 2), square pixels."""
    if min(a[:, 0].max(), b[:, 0].max()) <= max(a[:, 0].min(), b[:, 0].min()):
        return 0.0
    if min(a[:, 1].max(), b[:, 1].max()) <= max(a[:, 1].min(), b[:, 1].min()):
        return 0.0
    both = _intersection(a, b)
    return abs(_area(both, len(both)))


@njit(cache=True)
def corners_iou(a: Floats, b: Floats) -> float:
    """IoU of two convex outlines (4, 2)."""
    common = _common_area(a, b)
    union = abs(_area(a, 4)) + abs(_area(b, 4)) - common
    return common / union if common > 0.0 and union > 0.0 else 0.0


@njit(cache=True)
def corners_over_smaller(a: Floats, b: Floats) -> float:
    """Intersection over the smaller of two convex outlines (4, 2)."""
    smaller = min(abs(_area(a, 4)), abs(_area(b, 4)))
    return _common_area(a, b) / smaller if smaller > 0.0 else 0.0


@njit(cache=True)
def _area(ring: Floats, count: int) -> float:
    """Signed, relative to the first corner: outlines far from the origin lose no digits."""
    total = 0.0
    for i in range(1, count - 1):
        ax, ay = ring[i, 0] - ring[0, 0], ring[i, 1] - ring[0, 1]
        bx, by = ring[i + 1, 0] - ring[0, 0], ring[i + 1, 1] - ring[0, 1]
        total += ax * by - ay * bx
    return total / 2


@njit(cache=True)
def _intersection(subject: Floats, clip: Floats) -> Floats:
    """The outline (P, 2) of what two convex outlines have in common (Sutherland and Hodgman 1974)."""
    turn = 1.0 if _area(clip, len(clip)) >= 0 else -1.0
    ring, count = np.empty((_MOST_CORNERS, 2)), len(subject)
    ring[:count] = subject
    for e in range(len(clip)):
        x, y = clip[e]
        dx, dy = clip[(e + 1) % len(clip), 0] - x, clip[(e + 1) % len(clip), 1] - y
        kept, left = np.empty((_MOST_CORNERS, 2)), 0
        for i in range(count):
            here, after = ring[i], ring[(i + 1) % count]
            side = turn * (dx * (here[1] - y) - dy * (here[0] - x))
            next_side = turn * (dx * (after[1] - y) - dy * (after[0] - x))
            if side >= 0 and left < _MOST_CORNERS:
                kept[left] = here
                left += 1
            if side * next_side < 0 and left < _MOST_CORNERS:
                share = side / (side - next_side)
                kept[left] = here + share * (after - here)
                left += 1
        ring, count = kept, left
        if count == 0:
            break
    return ring[:count].copy()


@njit(cache=True)
def _fit_all(points: Floats) -> Floats:
    boxes = np.empty((len(points), 5))
    for i in range(len(points)):
        boxes[i] = _fit(points[i])
    return boxes


@njit(cache=True)
def _fit(points: Floats) -> Floats:
    """The smallest box around points (P, 2). All pairs of them are tried: a side of their hull is one; P is small."""
    best, least = np.array([points[0, 0], points[0, 1], 0.0, 0.0, 0.0]), np.inf
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            dx, dy = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1]
            length = np.hypot(dx, dy)
            if length <= _EPS:
                continue
            ux, uy = dx / length, dy / length
            # Measured from the first point: far from the origin, products would lose digits.
            along = (points[:, 0] - points[0, 0]) * ux + (points[:, 1] - points[0, 1]) * uy
            across = (points[:, 1] - points[0, 1]) * ux - (points[:, 0] - points[0, 0]) * uy
            w, h = along.max() - along.min(), across.max() - across.min()
            if w * h < least - _EPS * least if least < np.inf else True:
                least = w * h
                u, v = (along.max() + along.min()) / 2, (across.max() + across.min()) / 2
                cx, cy = points[0, 0] + u * ux - v * uy, points[0, 1] + u * uy + v * ux
                best = np.array([cx, cy, w, h, np.arctan2(uy, ux)])
    return best
