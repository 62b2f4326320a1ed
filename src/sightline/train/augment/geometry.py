"""Moving an image and its labels by one matrix: (3, 3), from source to target pixels.

Points are measured from the top-left corner of the top-left pixel. OpenCV measures from that pixel's centre, so its
matrix is moved by half a pixel on both sides.
"""

import math
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sightline.core.frames import IGNORE_INDEX
from sightline.core.keypoints import PERSON, mirrored
from sightline.ops.oriented import upright
from sightline.train.augment.sample import Sample

__all__ = [
    "IDENTITY",
    "Matrix",
    "affine",
    "flip",
    "invert",
    "map_boxes",
    "map_points",
    "move_objects",
    "scale",
    "swap_sides",
    "translate",
    "warp",
    "warp_sample",
]

Matrix = NDArray[np.float64]
IDENTITY: Matrix = np.eye(3)


def translate(x: float, y: float) -> Matrix:
    """A shift to the right and down."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def scale(x: float, y: float) -> Matrix:
    """Scaling about the origin; -1 mirrors."""
    return np.diag([x, y, 1.0])


def affine(size_hw: tuple[int, int], zoom: float, degrees: float, shear_xy: tuple[float, float]) -> Matrix:
    """Zoom, rotation (counter-clockwise as seen) and shear (in degrees) about the middle of an image."""
    height, width = size_hw
    angle, (shear_x, shear_y) = math.radians(degrees), (math.tan(math.radians(s)) for s in shear_xy)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    slant = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
    to_middle, back = translate(-width / 2, -height / 2), translate(width / 2, height / 2)
    moved: Matrix = back @ turn @ slant @ scale(zoom, zoom) @ to_middle
    return moved


def flip(size_hw: tuple[int, int], left_right: bool, up_down: bool) -> Matrix:
    """Mirroring inside an image."""
    height, width = size_hw
    matrix = IDENTITY
    if left_right:
        matrix = translate(width, 0) @ scale(-1, 1) @ matrix
    if up_down:
        matrix = translate(0, height) @ scale(1, -1) @ matrix
    return matrix


def invert(matrix: Matrix) -> Matrix:
    """The way back."""
    back: Matrix = np.linalg.inv(matrix).astype(np.float64)
    return back


def map_points(points_xy: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float64]:
    """Points (..., 2) → the points they go to."""
    moved: NDArray[np.float64] = points_xy @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def map_boxes(boxes_xyxy: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float64]:
    """Boxes (N, 4) → the boxes around where their four corners go, not cut at the image."""
    x1, y1, x2, y2 = boxes_xyxy.reshape(-1, 4).T.astype(np.float64)
    corners = np.stack([np.stack([x, y], -1) for x in (x1, x2) for y in (y1, y2)], 1)
    moved = map_points(corners, matrix)
    return np.concatenate([moved.min(1), moved.max(1)], -1)


def warp_sample(
    sample: Sample, matrix: Matrix, size_hw: tuple[int, int], pad_value: int, sides: NDArray[np.int64] | None
) -> Sample:
    """The sample as it lies on a canvas of `size_hw`; boxes and points may reach beyond it."""
    same = size_hw == sample["image"].shape[:2] and np.array_equal(matrix, IDENTITY)
    if same:
        return dict(sample)
    moved = move_objects(sample, matrix, sides)
    moved["image"] = warp(sample["image"], matrix, size_hw, cv2.INTER_LINEAR, pad_value)
    for key, fill in (("mask", IGNORE_INDEX), ("content", 0)):
        if key in sample:
            moved[key] = warp(sample[key], matrix, size_hw, cv2.INTER_NEAREST, fill)
    if "masks" in sample:
        moved["masks"] = sample["masks"].changed(lambda labels: warp(labels, matrix, size_hw, cv2.INTER_NEAREST, 0))
    return moved


def move_objects(sample: Sample, matrix: Matrix, sides: NDArray[np.int64] | None) -> Sample:
    """The sample with its boxes, corners and keypoints where the matrix takes them; nothing else has moved.

    `sides` (C, K) is the order of each class's keypoints after a mirror (left and right change places), None where
    there is none.
    """
    moved = dict(sample)
    if "boxes" in sample:
        moved["boxes"] = map_boxes(sample["boxes"], matrix).astype(np.float32)
    if "corners" in sample:  # of what is sheared no rectangle: the target is the smallest around it
        moved["corners"] = map_points(sample["corners"], matrix).astype(np.float32)
        moved["boxes"] = upright(moved["corners"]).astype(np.float32)
    if "keypoints" in sample:
        points = sample["keypoints"].copy()
        points[..., :2] = map_points(sample["keypoints"][..., :2], matrix)
        points[points[..., 2] == 0] = 0.0
        if sides is not None and np.linalg.det(matrix[:2, :2]) < 0:
            points = np.take_along_axis(points, sides[sample["labels"]][..., None], 1)
        moved["keypoints"] = points
    return moved


def warp(pixels: NDArray[Any], matrix: Matrix, size_hw: tuple[int, int], interpolation: int, fill: int) -> NDArray[Any]:
    """(H, W) or (H, W, C) pixels moved onto a canvas; what comes from outside is `fill`."""
    about_centres = translate(-0.5, -0.5) @ matrix @ translate(0.5, 0.5)
    value = (fill,) * 4
    out: NDArray[Any] = cv2.warpAffine(
        pixels, about_centres[:2], size_hw[::-1], flags=interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=value
    )
    return out if out.ndim == pixels.ndim else out[..., None]


def swap_sides(classes: pl.DataFrame, count: int) -> NDArray[np.int64]:
    """The order (C, `count`) of each class's keypoints in a mirror, as the classes table says it, else their names; 17
    without either are COCO's.
    """
    orders = np.tile(np.arange(count), (classes.height, 1))
    said = classes.select("mirror", "keypoint_names").iter_rows()
    for order, (mirror, names) in zip(orders, said, strict=True):
        unsaid = PERSON.mirror if count == len(PERSON) else ()
        own = mirror or (mirrored(tuple(names)) if names else unsaid)
        if len(own) <= count:
            order[: len(own)] = own
    return orders
