"""Run-length encoded masks in COCO's compressed form, bit-compatible with the reference implementation.

A mask is read column by column; its runs alternate background, foreground, background… starting with background
(possibly of length 0) and sum to height × width. `counts` is COCO's text form of the runs: from the fourth run on, each
is stored as the difference to the run two before it, in groups of 5 bits, least significant first, each group one
character from `0` (48) to `o` (111) whose bit 5 says that more follow (Lin et al. 2014, "Microsoft COCO").

Drawing, packing, merging and overlaps are hotcoco's; what it trusts is checked here first.

Every function that takes `counts` raises RleError where they are malformed or do not fill the mask.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import mask as coco_mask

from sightline.core.errors import DataError
from sightline.ops.boxes import FloatArray
from sightline.ops.runs import box_of, pack, unpack

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_COORDINATE = 1_000_000
"""Largest coordinate, in pixels, of either sign: the outline is walked in fifths of a pixel, so time grows with it."""

_PROBLEMS = {
    1: "a character outside '0'..'o'",
    2: "a number that breaks off at the end",
    3: "a run longer than 2**34 pixels",
    4: "a run of negative length",
}


class RleError(DataError, ValueError):
    """A run-length encoded mask that cannot be read."""


def encode(mask: npt.ArrayLike) -> bytes:
    """Compressed counts of a mask (H, W); every non-zero element is foreground."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise RleError(f"a mask must have the shape (H, W), got {array.shape}")
    return _counts(coco_mask.encode(array if array.dtype == np.bool_ else array != 0))


def decode(counts: bytes | str, size_hw: tuple[int, int]) -> BoolArray:
    """Mask (H, W) of booleans."""
    pixels: npt.NDArray[np.uint8] = coco_mask.decode(_checked(counts, size_hw))
    return pixels.view(np.bool_)


def counts_to_runs(counts: bytes | str, size_hw: tuple[int, int]) -> IntArray:
    """Run lengths (R,), background first, summing to height × width."""
    runs = _unpack_checked(counts)
    _check_total(runs, size_hw)
    return runs


def runs_to_counts(runs: npt.ArrayLike, size_hw: tuple[int, int]) -> bytes:
    """Compressed counts from run lengths, COCO's uncompressed form."""
    array = np.asarray(runs)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise RleError(f"run lengths must be a flat list of integers, got {array.dtype} of shape {array.shape}")
    lengths = array.astype(np.int64)
    if len(lengths) and lengths.min() < 0:
        raise RleError(f"run lengths must be at least 0, got {lengths.min()}")
    _check_total(lengths, size_hw)
    return pack(lengths).tobytes()


def area(counts: bytes | str) -> int:
    """Number of foreground pixels."""
    return int(_unpack_checked(counts)[1::2].sum())


def to_box(counts: bytes | str, size_hw: tuple[int, int]) -> FloatArray:
    """Tight box (4,) `xyxy` around the foreground; four zeros for an empty mask."""
    return box_of(counts_to_runs(counts, size_hw), size_hw[0])


def merge(masks: Sequence[bytes | str], size_hw: tuple[int, int], *, intersect: bool = False) -> bytes:
    """Union (or intersection) of at least one mask of equal size, as compressed counts."""
    if not masks:
        raise RleError("the masks to merge must be at least one, got none")
    return _counts(coco_mask.merge([_checked(counts, size_hw) for counts in masks], intersect=intersect))


def from_polygons(rings: Sequence[npt.ArrayLike], size_hw: tuple[int, int]) -> bytes:
    """Compressed counts of the union of `rings`, each (2·P,) `x0, y0, x1, y1, …` in pixels with P at least 3.

    Bit-identical to pycocotools' `frPyObjects` followed by `merge`. Parts outside the image are cut. Raises RleError
    for a ring with an odd number of values, fewer than three points, or a coordinate that is not finite or too large.
    """
    if len(rings) == 0:
        raise RleError("a polygon must have at least one ring, got none")
    _check_size(size_hw)
    drawn = [coco_mask.frPoly(_checked_ring(ring), *size_hw) for ring in rings]
    return _counts(drawn[0] if len(drawn) == 1 else coco_mask.merge(drawn))


def iou_matrix(
    rles_a: Sequence[bytes | str],
    rles_b: Sequence[bytes | str],
    size_hw: tuple[int, int],
    crowd_b: npt.ArrayLike | None = None,
) -> FloatArray:
    """Intersection over union (A, B) of masks of one image, in 0..1; two empty masks overlap by 0.

    Where `crowd_b` (B,) is true the denominator is the area of `a` alone, as COCO scores against a crowd region.
    """
    crowd = np.zeros(len(rles_b), dtype=np.bool_) if crowd_b is None else np.asarray(crowd_b, dtype=np.bool_)
    if crowd.shape != (len(rles_b),):
        raise DataError(f"crowd_b must have the shape ({len(rles_b)},), got {crowd.shape}")
    ours, theirs = ([_checked(counts, size_hw) for counts in rles] for rles in (rles_a, rles_b))
    if not ours or not theirs:
        return np.zeros((len(ours), len(theirs)))
    matrix: FloatArray = coco_mask.iou(ours, theirs, crowd.tolist())
    return matrix


def _checked_ring(ring: npt.ArrayLike) -> list[float]:
    flat = np.asarray(ring, dtype=np.float64).reshape(-1)
    if len(flat) < 6 or len(flat) % 2:
        raise RleError(f"a polygon ring must be x, y pairs of at least three points, got {len(flat)} values")
    if not np.all(np.abs(flat) <= MAX_COORDINATE):
        raise RleError(
            f"polygon coordinates must be finite and within ±{MAX_COORDINATE} pixels, got {flat[:8].tolist()}"
        )
    points: list[float] = flat.tolist()
    return points


def _counts(code: dict[str, Any]) -> bytes:
    return bytes(code["counts"])


def _checked(counts: bytes | str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """The mask as hotcoco wants it; its functions trust what they are given."""
    counts_to_runs(counts, size_hw)
    return {"size": list(size_hw), "counts": counts.encode("ascii") if isinstance(counts, str) else bytes(counts)}


def _unpack_checked(counts: bytes | str) -> IntArray:
    try:
        raw = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except UnicodeEncodeError:
        raw = b"\x00"
    runs, problem = unpack(np.frombuffer(raw, dtype=np.uint8))
    if problem:
        raise RleError(
            f"mask counts must be COCO's compressed run lengths, got {_PROBLEMS[problem]} in {raw[:24]!r}",
            do="Write the mask again, or list its run lengths uncompressed.",
        )
    return runs


def _check_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    if min(size_hw) < 0:
        raise RleError(f"the size of a mask must be at least 0 × 0, got {size_hw[0]} × {size_hw[1]}")
    return size_hw


def _check_total(runs: IntArray, size_hw: tuple[int, int]) -> None:
    height, width = _check_size(size_hw)
    total = int(runs.sum())
    if total != height * width:
        raise RleError(
            f"the runs of a mask of {height} × {width} must sum to {height * width}, got {total}",
            do="Check that the mask belongs to this image and is given as (height, width).",
        )
