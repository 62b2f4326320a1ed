"""Kernels on the run lengths of masks: COCO's characters, and boxes.

Runs alternate background, foreground, … down the columns of a mask, starting with background. `rle` is the door to all
of this and checks what it is given; the kernels trust their input.
"""

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit
from sightline.ops.boxes import FloatArray

IntArray = npt.NDArray[np.int64]


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
