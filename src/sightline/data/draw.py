"""Drawing labels and predictions onto images: boxes, masks, names; and grids of pictures. RGB uint8 in and out."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray

__all__ = ["PALETTE", "detections_of_rows", "draw_caption", "draw_detections", "draw_semantic", "tile"]

Image = NDArray[np.uint8]
PALETTE = sv.ColorPalette.from_hex(
    ["#E6194B", "#1F9BDE", "#F5A623", "#3CB44B", "#9B59F0", "#00B8A9", "#F032E6", "#A0C61D", "#FF7A59", "#5B6CFF"]
)
"""Colours by class id (or track id), repeated when there are more."""


def draw_detections(image: Image, detections: sv.Detections, *, captions: Sequence[str] | None = None) -> Image:
    """A copy with boxes (and masks, where there are any), coloured by track where tracked, else by class.

    `captions` has a text for each box; None draws none. Line and text sizes follow the image's size.
    """
    scene = np.ascontiguousarray(image).copy()
    if len(detections) == 0:
        return scene
    size_wh = (image.shape[1], image.shape[0])
    tracked = detections.tracker_id is not None
    lookup = sv.ColorLookup.TRACK if tracked else sv.ColorLookup.CLASS
    thickness = max(1, round(min(size_wh) / 350))
    if detections.mask is not None:
        scene = sv.MaskAnnotator(color=_rgb_palette(), opacity=0.4, color_lookup=lookup).annotate(scene, detections)
    scene = sv.BoxAnnotator(color=_rgb_palette(), thickness=thickness, color_lookup=lookup).annotate(scene, detections)
    if captions is not None:
        labels = sv.LabelAnnotator(
            color=_rgb_palette(),
            text_scale=max(0.32, min(size_wh) / 1300),
            text_thickness=1,
            text_padding=max(2, round(min(size_wh) / 200)),
            color_lookup=lookup,
        )
        scene = labels.annotate(scene, detections, labels=list(captions))
    return np.asarray(scene, np.uint8)


def draw_semantic(image: Image, class_ids: NDArray[np.integer], *, opacity: float = 0.5, background: int = 0) -> Image:
    """A copy with every class but `background` tinted in its colour; ids of 255 (ignored) are left as they are."""
    scene = image.astype(np.float32)
    for class_id in np.unique(class_ids):
        if class_id in (background, 255):
            continue
        colour = np.array(PALETTE.by_idx(int(class_id)).as_rgb(), np.float32)
        where = class_ids == class_id
        scene[where] = scene[where] * (1 - opacity) + colour * opacity
    return scene.round().astype(np.uint8)


def draw_caption(image: Image, text: str) -> Image:
    """A copy with a line of text on a dark strip above the image."""
    strip = np.full((22, image.shape[1], 3), 24, np.uint8)
    cv2.putText(strip, text, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def tile(images: Sequence[Image], columns: int, cell_hw: tuple[int, int]) -> Image:
    """The images in a grid, each scaled to fit a cell, on a light ground."""
    rows = math.ceil(len(images) / columns)
    gap = 4
    height, width = cell_hw
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 244, np.uint8)
    for i, image in enumerate(images):
        factor = min(height / image.shape[0], width / image.shape[1])
        size_wh = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        top = gap + (i // columns) * (height + gap) + (height - size_wh[1]) // 2
        left = gap + (i % columns) * (width + gap) + (width - size_wh[0]) // 2
        sheet[top : top + size_wh[1], left : left + size_wh[0]] = small
    return sheet


def detections_of_rows(rows: Any) -> sv.Detections:
    """Rows of an objects or predictions table (one image) as detections; scores and track ids where they are there."""
    if rows.is_empty():
        return sv.Detections.empty()
    tracked = "track_id" in rows.columns and rows["track_id"].null_count() == 0
    return sv.Detections(
        xyxy=rows.select("x1", "y1", "x2", "y2").to_numpy().astype(np.float64),
        class_id=rows["class_id"].to_numpy().astype(int),
        confidence=rows["score"].to_numpy() if "score" in rows.columns else None,
        tracker_id=rows["track_id"].to_numpy().astype(int) if tracked else None,
    )


def _rgb_palette() -> sv.ColorPalette:
    # supervision draws in OpenCV's channel order; our images are RGB, so the colours are turned round instead.
    return sv.ColorPalette([sv.Color(r=c.b, g=c.g, b=c.r) for c in PALETTE.colors])
