"""Boxes of what may be an object, found without learning: an image is cut into even parts, joined step by step.

Source: Uijlings et al., Selective Search for Object Recognition (2013), with one colour space and without its measure
of texture; the parts: Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation (2004).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from sightline.core.kernels import njit

__all__ = ["selective_search"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_BLUR = 0.8  # pixels
_EVENNESS = 100.0  # the larger, the larger the parts
_LEAST_PART = 1e-3  # of the image, smaller parts are joined with their neighbours
_MOST_PARTS = 256
_BINS = 16  # of the histogram of each colour
_SIDE = 160  # longest, of the image that is searched


def selective_search(image: NDArray[np.uint8], most: int) -> NDArray[np.float32]:
    """At most `most` boxes (N, 4) xyxy of an RGB image (H, W, 3), in its pixels, those of the largest unions first.

    Parts that are alike (in colours, in being small, in filling their common box) are joined first, until one is left;
    each part and each union is a box. Equal images give equal boxes. The image is searched at 160 pixels a side.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    smooth = np.asarray(cv2.GaussianBlur(small.astype(np.float32), (0, 0), _BLUR), np.float32)
    parts, count = _parts(smooth, _EVENNESS, max(4, round(small.shape[0] * small.shape[1] * _LEAST_PART)))
    bins = (small.astype(np.int64) * _BINS) // 256
    boxes = _united(parts, count, bins, _BINS)[::-1].astype(np.float32)
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)][:most]
    return boxes * np.tile(np.array([width, height]) / size, 2).astype(np.float32)


def _parts(image: Floats, evenness: float, least: int) -> tuple[Ints, int]:
    """Of each pixel the number of its part (H, W), and how many parts there are, at most `_MOST_PARTS`."""
    height, width = image.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    pairs = [
        (index[:, :-1], index[:, 1:]),
        (index[:-1], index[1:]),
        (index[:-1, :-1], index[1:, 1:]),
        (index[:-1, 1:], index[1:, :-1]),
    ]
    start, end = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in range(2))
    flat = image.reshape(-1, 3)
    weights = np.sqrt(((flat[start] - flat[end]) ** 2).sum(1))
    order = np.argsort(weights, kind="stable")
    roots = _joined(start[order], end[order], weights[order], height * width, evenness, least, _MOST_PARTS)
    values, numbers = np.unique(roots, return_inverse=True)
    return numbers.reshape(height, width).astype(np.int64), len(values)


@njit(cache=True)
def _root(parents: Ints, place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


@njit(cache=True)
def _joined(start: Ints, end: Ints, weights: Floats, count: int, evenness: float, least: int, most: int) -> Ints:
    """Of each pixel one pixel of its part. Edges come lightest first."""
    parents, sizes = np.arange(count), np.ones(count, np.int64)
    limits = np.full(count, evenness)
    left = count
    for k in range(len(start)):
        a, b = _root(parents, start[k]), _root(parents, end[k])
        if a != b and weights[k] <= min(limits[a], limits[b]):
            parents[b] = a
            sizes[a] += sizes[b]
            limits[a] = weights[k] + evenness / sizes[a]
            left -= 1
    smallest = least
    while True:
        for k in range(len(start)):
            a, b = _root(parents, start[k]), _root(parents, end[k])
            if a != b and min(sizes[a], sizes[b]) < smallest:
                parents[b] = a
                sizes[a] += sizes[b]
                left -= 1
        if left <= most:
            break
        smallest *= 2
    roots = np.empty(count, np.int64)
    for place in range(count):
        roots[place] = _root(parents, place)
    return roots


@njit(cache=True)
def _united(parts: Ints, count: int, bins: Ints, bin_count: int) -> Ints:
    """Boxes (2 · count - 1, 4) of the parts and of their unions, in the order in which they come about."""
    height, width = parts.shape
    boxes = np.zeros((2 * count - 1, 4), np.int64)
    boxes[:, 0], boxes[:, 1] = width, height
    sizes = np.zeros(2 * count - 1)
    shades = np.zeros((2 * count - 1, 3 * bin_count))
    near = np.zeros((2 * count - 1, 2 * count - 1), np.bool_)
    for y in range(height):
        for x in range(width):
            own = parts[y, x]
            sizes[own] += 1.0
            boxes[own, 0], boxes[own, 1] = min(boxes[own, 0], x), min(boxes[own, 1], y)
            boxes[own, 2], boxes[own, 3] = max(boxes[own, 2], x + 1), max(boxes[own, 3], y + 1)
            for colour in range(3):
                shades[own, colour * bin_count + bins[y, x, colour]] += 1.0
            if x + 1 < width and parts[y, x + 1] != own:
                near[own, parts[y, x + 1]] = near[parts[y, x + 1], own] = True
            if y + 1 < height and parts[y + 1, x] != own:
                near[own, parts[y + 1, x]] = near[parts[y + 1, x], own] = True
    alike = np.full((2 * count - 1, 2 * count - 1), -1.0)
    whole = float(height * width)
    for a in range(count):
        for b in range(a):
            if near[a, b]:
                alike[a, b] = _likeness(a, b, boxes, sizes, shades, whole)
    for new in range(count, 2 * count - 1):
        best = int(np.argmax(alike[:new, :new]))
        a, b = best // new, best % new
        boxes[new, 0], boxes[new, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
        boxes[new, 2], boxes[new, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])
        sizes[new], shades[new] = sizes[a] + sizes[b], shades[a] + shades[b]
        alike[a, :], alike[:, a], alike[b, :], alike[:, b] = -1.0, -1.0, -1.0, -1.0
        for other in range(new):
            if other not in (a, b) and (near[a, other] or near[b, other]):
                near[new, other] = near[other, new] = True
                near[a, other] = near[other, a] = near[b, other] = near[other, b] = False
                alike[new, other] = _likeness(new, other, boxes, sizes, shades, whole)
    return boxes


@njit(cache=True)
def _likeness(
    a: int, b: int, boxes: Ints, sizes: NDArray[np.float64], shades: NDArray[np.float64], whole: float
) -> float:
    """0..3: how alike in colours, how small, how full their common box two parts are."""
    colour = np.minimum(shades[a] / sizes[a], shades[b] / sizes[b]).sum() / 3
    width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
    height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
    joined = sizes[a] + sizes[b]
    return float(colour + (1 - joined / whole) + (1 - (width * height - joined) / whole))
