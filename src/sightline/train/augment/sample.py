"""What an image and its labels are on their way to the network.

Masks of many objects are few label maps, so that memory and warps do not grow with the number of objects.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

__all__ = ["OBJECT_KEYS", "Draw", "Layers", "Sample", "join_objects", "keep_objects"]

_MOST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Layers:
    """The masks of N objects: `maps` uint16 (L, H, W), L ≥ 1, hold 0 or the value of the object that a pixel belongs
    to; objects that overlap lie on different maps.

    `values` uint16 (N,): the value of each object; others in the maps mean nothing. `outlined` bool (N,): whether it
    has an outline, or its mask is its filled box.
    """

    maps: NDArray[np.uint16]
    values: NDArray[np.uint16]
    outlined: NDArray[np.bool_]

    @classmethod
    def draw(cls, pixels: Iterable[NDArray[np.int64]], size_hw: tuple[int, int], outlined: Sequence[bool]) -> "Layers":
        """Objects from the pixels of each, counted column by column as run-length codes do."""
        height, width = size_hw
        maps = [np.zeros(height * width, np.uint16)]
        for value, inside in enumerate(pixels, start=1):
            free = next((m for m in maps if not m[inside].any()), None)
            if free is None:
                free = np.zeros_like(maps[0])
                maps.append(free)
            free[inside] = value
        stacked = np.ascontiguousarray(np.stack(maps).reshape(-1, width, height).transpose(0, 2, 1))
        return cls(stacked, np.arange(1, len(outlined) + 1, dtype=np.uint16), np.array(outlined, np.bool_))

    @classmethod
    def join(cls, parts: Sequence["Layers"]) -> "Layers":
        """The objects of all, of one size, on as few maps as a first fit finds."""
        maps = [np.zeros_like(parts[0].maps[0])]
        first = 1
        for part in parts:
            table = np.zeros(_MOST + 1, np.uint16)
            table[part.values] = np.arange(first, first + len(part))
            first += len(part)
            for labels in table[part.maps]:
                free = next((m for m in maps if not np.logical_and(m, labels).any()), None)
                if free is None:
                    maps.append(labels)
                else:
                    free |= labels
        outlined = np.concatenate([part.outlined for part in parts])
        return cls(np.stack(maps), np.arange(1, first, dtype=np.uint16), outlined)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> "Layers":
        """Those objects alone; the maps stay as they are."""
        return replace(self, values=self.values[kept], outlined=self.outlined[kept])

    def mask(self, index: int) -> NDArray[np.bool_]:
        """The mask (H, W) of one object."""
        mask: NDArray[np.bool_] = np.any(self.maps == self.values[index], axis=0)
        return mask

    def covered(self) -> NDArray[np.bool_]:
        """(H, W): where an object lies."""
        table = np.zeros(_MOST + 1, np.bool_)
        table[self.values] = True
        covered: NDArray[np.bool_] = np.any(table[self.maps], axis=0)
        return covered

    def sizes(self, where: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Pixels (N,) of each object, where `where` (H, W) is true."""
        counted = self.maps.ravel() if where is None else self.maps[:, where].ravel()
        return np.bincount(counted, minlength=_MOST + 1)[self.values].astype(np.float64)

    def boxes(self) -> NDArray[np.float32]:
        """The boxes (N, 4) xyxy that the masks fill exactly; an empty mask gives an empty box."""
        found = find_objects(self.maps)
        boxes = np.zeros((len(self), 4), np.float32)
        for box, value in zip(boxes, self.values.tolist(), strict=True):
            place = found[value - 1] if value <= len(found) else None
            if place is not None:
                _, rows, columns = place
                box[:] = (columns.start, rows.start, columns.stop, rows.stop)
        return boxes

    def changed(self, change: Callable[[NDArray[np.uint16]], NDArray[np.uint16]]) -> "Layers":
        """The objects on maps that `change` makes of each map (H, W)."""
        return replace(self, maps=np.stack([change(labels) for labels in self.maps]))


Sample = dict[str, Any]
"""`image` uint8 (H, W, C), and by the data's task

semantic: `mask` uint8 (H, W) of class ids, `IGNORE_INDEX` where pixels never count;
else: `boxes` float32 (N, 4) xyxy, `labels` int64 (N,), `objects` int64 (N,) (which object of the data set each is, in
the order of rows and object ids); where the data has them `keypoints` float32 (N, K, 3) of x, y, v and `tracks` int64
(N,); where they are asked for `masks`, the `Layers` of all objects, and `corners`
float32 (N, 4, 2) of oriented boxes. All in network pixels.

While a sample is made it also holds `whole` and `left` float64 (N,), the area of each object before any cut and what is
left of it, and for copy_paste `content` uint8 (H, W), 1 where pixels come from an image, 0 where they are padding.
"""
OBJECT_KEYS = ("boxes", "labels", "objects", "corners", "keypoints", "tracks", "masks", "whole", "left")


class Draw(NamedTuple):
    """One image of a batch: which, and everything that chance decides about it."""

    row: int
    seed: int
    epoch_seed: int = 0  # what is drawn once for all images of an epoch comes from this
    size_hw: tuple[int, int] | None = None  # of the network's input, where it is not the usual one
    heavy: bool = True  # whether several images may be put together


def keep_objects(sample: Sample, kept: NDArray[Any]) -> Sample:
    """The sample with the objects that `kept` (booleans or indices) names."""
    return {key: value[kept] if key in OBJECT_KEYS else value for key, value in sample.items()}


def join_objects(first: Sample, *others: Sample) -> Sample:
    """The first sample with the objects of all."""
    joined = dict(first)
    for key in OBJECT_KEYS:
        if key in first:
            parts = [first[key], *(o[key] for o in others)]
            joined[key] = Layers.join(parts) if key == "masks" else np.concatenate(parts)
    return joined
