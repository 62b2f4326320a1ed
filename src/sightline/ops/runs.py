"""Kernels on the run lengths of masks: packing into COCO's characters, boxes, unions, overlaps.

Runs alternate background, foreground, … down the columns of a mask, starting with background. `rle` is the door to all
of this and checks what it is given; the kernels trust their input.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from sightline.ops.boxes import FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@njit(cache=True)
def runs_of(flat: npt.NDArray[np.uint8]) -> IntArray:
    """Run lengths of a flat array of zeros and ones, background first."""
    count, value = 1, 0
    for i in range(len(flat)):
        if flat[i] != value:
            count, value = count + 1, int(flat[i])
    runs = np.empty(count, dtype=np.int64)
    slot, value, start = 0, 0, 0
    for i in range(len(flat)):
        if flat[i] != value:
            runs[slot] = i - start
            slot, value, start = slot + 1, int(flat[i]), i
    runs[slot] = len(flat) - start
    return runs


@njit(cache=True)
def pack(runs: IntArray) -> npt.NDArray[np.uint8]:
    """The characters of COCO's compressed counts."""
    out = np.empty(len(runs) * 8, dtype=np.uint8)
    size = 0
    for i in range(len(runs)):
        rest = runs[i] - runs[i - 2] if i > 2 else runs[i]
        more = True
        while more:
            group = rest & 0x1F
            rest >>= 5
            # The last group's bit 4 is the sign, so a number ends where the rest is all sign.
            more = rest != (-1 if group & 0x10 else 0)
            out[size] = 48 + (group | 0x20 if more else group)
            size += 1
    return out[:size].copy()


@njit(cache=True)
def unpack(raw: npt.NDArray[np.uint8]) -> tuple[IntArray, int]:
    """Run lengths and a problem code: 0 sound, 1 character, 2 broken off, 3 too long, 4 negative."""
    runs = np.empty(len(raw), dtype=np.int64)
    count, value, shift = 0, 0, 0
    for char in raw:
        group = int(char) - 48
        if group < 0 or group > 63:
            return runs[:0], 1
        if shift > 30:
            return runs[:0], 3
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value |= -1 << shift
        if count > 2:
            value += int(runs[count - 2])
        if value < 0:
            return runs[:0], 4
        runs[count] = value
        count, value, shift = count + 1, 0, 0
    return runs[:count].copy(), 2 if shift else 0


@njit(cache=True)
def box_of(runs: IntArray, height: int) -> FloatArray:
    """Tight `xyxy` box around the foreground, zeros where there is none."""
    box = np.zeros(4)
    x1, y1, x2, y2 = np.int64(2**62), np.int64(2**62), np.int64(-1), np.int64(-1)
    end = np.int64(0)
    for i in range(len(runs)):
        start, end = end, end + runs[i]
        if i % 2 == 0 or runs[i] == 0:
            continue
        first, last = start // height, (end - 1) // height
        x1, x2 = min(x1, first), max(x2, last)
        if first == last:
            y1, y2 = min(y1, start % height), max(y2, (end - 1) % height)
        else:
            y1, y2 = np.int64(0), np.int64(height - 1)
    if x2 >= 0:
        box[0], box[1], box[2], box[3] = x1, y1, x2 + 1, y2 + 1
    return box


@njit(cache=True)
def merge_runs(a: IntArray, b: IntArray, intersect: bool) -> IntArray:
    """Union or intersection of two masks of one size."""
    out = np.empty(len(a) + len(b) + 1, dtype=np.int64)
    size, i, j, held = 0, 0, 0, np.int64(0)
    left_a, left_b = a[0] if len(a) else 0, b[0] if len(b) else 0
    value = False
    while i < len(a) and j < len(b):
        inside = (i % 2 == 1 and j % 2 == 1) if intersect else (i % 2 == 1 or j % 2 == 1)
        step = min(left_a, left_b)
        if step > 0 and inside != value:
            out[size] = held
            size, held, value = size + 1, np.int64(0), inside
        held += step
        left_a, left_b = left_a - step, left_b - step
        if left_a == 0:
            i += 1
            left_a = a[i] if i < len(a) else 0
        if left_b == 0:
            j += 1
            left_b = b[j] if j < len(b) else 0
    out[size] = held
    return out[: size + 1].copy()


@njit(cache=True)
def common_area(a: IntArray, b: IntArray) -> int:
    """Pixels that are foreground in both of two masks of one size, which is not 0."""
    i, j, common = 0, 0, 0
    end_a, end_b, at = int(a[0]), int(b[0]), 0
    while True:
        step_end = min(end_a, end_b)
        if i % 2 == 1 and j % 2 == 1:
            common += step_end - at
        at = step_end
        if end_a == at:
            i += 1
            if i == len(a):
                return common
            end_a += int(a[i])
        else:
            j += 1
            if j == len(b):
                return common
            end_b += int(b[j])


@njit(cache=True)
def iou_of_runs(
    runs_a: IntArray, starts_a: IntArray, runs_b: IntArray, starts_b: IntArray, crowd_b: BoolArray, height: int
) -> FloatArray:
    """IoU (A, B) of masks laid end to end; mask `i` is `runs[starts[i]:starts[i + 1]]`."""
    """IoU (A, B) of masks laid end to end; mask `i` is `runs[starts[i]:starts[i + 1]]`."""
    out = np.zeros((len(starts_a) - 1, len(starts_b) - 1))
    boxes_b, areas_b = np.empty((out.shape[1], 4)), np.empty(out.shape[1])
    for j in range(out.shape[1]):
        b = runs_b[starts_b[j] : starts_b[j + 1]]
        boxes_b[j], areas_b[j] = box_of(b, height), b[1::2].sum()
    for i in range(out.shape[0]):
        a = runs_a[starts_a[i] : starts_a[i + 1]]
        box, area_a = box_of(a, height), a[1::2].sum()
        for j in range(out.shape[1]):
            if max(box[0], boxes_b[j, 0]) >= min(box[2], boxes_b[j, 2]):
                continue
            if max(box[1], boxes_b[j, 1]) >= min(box[3], boxes_b[j, 3]):
                continue
            common = common_area(a, runs_b[starts_b[j] : starts_b[j + 1]])
            union = area_a if crowd_b[j] else area_a + areas_b[j] - common
            out[i, j] = common / union if common > 0 else 0.0
    return out
