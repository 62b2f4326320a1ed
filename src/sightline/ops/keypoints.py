"""How alike the keypoints of two objects are: the object keypoint similarity by which COCO matches poses."""

import numpy as np
from numpy.typing import NDArray

from sightline.core.kernels import njit

__all__ = ["grouped_oks"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SPACING = float(np.spacing(1))  # as the reference has it: objects without area are then unlike everything


def grouped_oks(
    detections: Floats,
    detection_starts: Ints,
    truth: Floats,
    truth_starts: Ints,
    boxes_xywh: Floats,
    areas: Floats,
    sigmas: Floats,
) -> Floats:
    """OKS of all detections (D, K, 3) with all objects (G, K, 3) of their image, 0..1 and 1 at best, image by image and
    row by row, as `grouped_iou` gives IoU.

    The mean over the labelled keypoints (v > 0) of exp(-d² / (2 area (2 sigma)²)). Of an object without any, which can
    only be ignored, all points count by their distance from its box, enlarged by its own size on each side.
    `boxes_xywh` (G, 4) and `areas` (G,) are the objects'; only x and y of the detections count.

    Source: the COCO keypoint evaluation (2016) and its reference implementation.
    """
    spread = np.square(2 * np.asarray(sigmas, np.float64))
    return np.asarray(_oks(detections, detection_starts, truth, truth_starts, boxes_xywh, areas, spread))


@njit(cache=True)
def _oks(
    detections: Floats,
    detection_starts: Ints,
    truth: Floats,
    truth_starts: Ints,
    boxes_xywh: Floats,
    areas: Floats,
    spread: Floats,
) -> Floats:
    total = 0
    for image in range(len(truth_starts) - 1):
        total += (detection_starts[image + 1] - detection_starts[image]) * (
            truth_starts[image + 1] - truth_starts[image]
        )
    alike, place = np.empty(total), 0
    for image in range(len(truth_starts) - 1):
        for d in range(detection_starts[image], detection_starts[image + 1]):
            for g in range(truth_starts[image], truth_starts[image + 1]):
                alike[place] = _pair(detections[d], truth[g], boxes_xywh[g], areas[g], spread)
                place += 1
    return alike


@njit(cache=True)
def _pair(found: Floats, labelled: Floats, box_xywh: Floats, area: float, spread: Floats) -> float:
    x, y, width, height = box_xywh
    count, summed = 0, 0.0
    for k in range(len(spread)):
        if labelled[k, 2] > 0:
            count += 1
    for k in range(len(spread)):
        if count > 0 and labelled[k, 2] <= 0:
            continue
        if count > 0:
            dx, dy = found[k, 0] - labelled[k, 0], found[k, 1] - labelled[k, 1]
        else:
            dx = max(0.0, x - width - found[k, 0]) + max(0.0, found[k, 0] - (x + 2 * width))
            dy = max(0.0, y - height - found[k, 1]) + max(0.0, found[k, 1] - (y + 2 * height))
        summed += np.exp(-(dx * dx + dy * dy) / spread[k] / (area + _SPACING) / 2)
    return summed / (count if count > 0 else len(spread))
