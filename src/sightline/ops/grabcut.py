"""An object's mask from its box alone, by what the picture looks like inside and outside of it (GrabCut).

Rother, Kolmogorov and Blake (2004), OpenCV's implementation: colours of foreground and background are mixtures of
Gaussians, and a graph cut finds the border that follows edges. No training, no weights.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sightline.ops.instance_masks import MaskCrop

__all__ = ["LEAST_SIDE", "grabcut_mask"]

LEAST_SIDE = 4
"""Pixels a side that a box must have: of fewer no colours can be learnt."""
_AROUND = 0.25  # of the box's side, on each side: what the background looks like
_LEAST_AROUND = 6
_WORKED_ON = (96, 224)  # pixels of the longer side: smaller ones are enlarged, or borders have no room to be found
_ROUNDS = 4
_LEAST_SHARE = 0.05  # of its box: what covers less is no object's mask
_MOVES = (0.06, 0.12)  # of the box's side, by which its edges are moved out for the confidence; in would cut the object


def grabcut_mask(image: npt.NDArray[np.uint8], box_xyxy: Sequence[float]) -> tuple[MaskCrop | None, float]:
    """The mask of the object in a box of an RGB image (H, W, 3), and how sure it is, 0..1.

    The mask lies within the box. Its confidence is the mean IoU with the masks from two boxes that are a little
    larger: where the border follows edges of the picture, the box hardly matters. (None, 0) for a box below
    `LEAST_SIDE`, and where nothing is found or hardly anything.
    """
    box = np.clip(np.asarray(box_xyxy, np.float64).reshape(2, 2), 0, image.shape[1::-1]).reshape(4)
    sides = box[2:] - box[:2]
    if min(sides) < LEAST_SIDE:
        return None, 0.0
    around = np.maximum(sides * _AROUND, _LEAST_AROUND)
    size_wh = image.shape[1::-1]
    low, high = np.floor(np.maximum(box[:2] - around, 0)), np.ceil(np.minimum(box[2:] + around, size_wh))
    x1, y1, x2, y2 = (int(v) for v in (*low, *high))
    longer = max(x2 - x1, y2 - y1)
    scale = float(np.clip(longer, *_WORKED_ON) / longer)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = np.asarray(cv2.resize(image[y1:y2, x1:x2], None, fx=scale, fy=scale, interpolation=how), np.uint8)
    # Of dark pictures all colours are one to the mixtures, whose least spread is fixed.
    shown = np.asarray(cv2.normalize(shown, np.empty_like(shown), 0, 255, cv2.NORM_MINMAX), np.uint8)
    placed = (box - (x1, y1, x1, y1)) * scale
    found = _cut(shown, placed)
    if not found.any():
        return None, 0.0
    moves = [_cut(shown, placed + np.tile(placed[2:] - placed[:2], 2) * move * (-1, -1, 1, 1)) for move in _MOVES]
    sure = float(np.mean([(found & other).sum() / max((found | other).sum(), 1) for other in moves]))
    whole = cv2.resize(found.astype(np.float32), (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) >= 0.5
    left, top, right, bottom = (round(v) for v in (*box[:2], *box[2:]))
    pixels = np.ascontiguousarray(whole[top - y1 : bottom - y1, left - x1 : right - x1])
    return (MaskCrop(left, top, pixels), sure) if pixels.mean() >= _LEAST_SHARE else (None, 0.0)


def _cut(shown: npt.NDArray[np.uint8], box: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    height, width = shown.shape[:2]
    x1, y1, x2, y2 = np.clip(box, 0, (width, height, width, height)).round().astype(int).tolist()
    labels = np.full((height, width), cv2.GC_BGD, np.uint8)
    labels[y1:y2, x1:x2] = cv2.GC_PR_FGD
    if (labels == cv2.GC_BGD).sum() < LEAST_SIDE**2 or x2 - x1 < 2 or y2 - y1 < 2:
        return np.asarray(labels == cv2.GC_PR_FGD)  # nothing beside it, or too little in it, to learn colours from
    cv2.setRNGSeed(0)
    background, foreground = (np.zeros((1, 65), np.float64) for _ in range(2))
    cv2.grabCut(shown[..., ::-1].copy(), labels, (0, 0, 0, 0), background, foreground, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray(labels == cv2.GC_PR_FGD)
