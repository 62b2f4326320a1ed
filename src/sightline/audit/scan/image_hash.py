"""Perceptual hashing: a 64-bit hash of a picture's coarse shape, and the hashes of its eight flips and turns.

The hash of a 32 × 32 luma thumbnail is defined as: its two-dimensional DCT-II (without the orthonormal form's factor
for frequency 0), of which the 8 × 8 coefficients of the lowest frequencies are compared with their own median;
coefficient (u, v), u being the vertical frequency, sets bit 63 - (8 u + v) when it is greater. That is
`imagehash.phash` of the thumbnail. Re-encoding, resizing, a light blur or a crop of a few percent change a few bits;
unrelated pictures differ in about 32 of the 64 (Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions").

Mirroring a picture changes the sign of its DCT's odd frequencies along that axis and turning it by a quarter transposes
the coefficients, so all eight hashes follow from one transform, without error.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.core.kernels import njit

__all__ = [
    "HASH_BITS",
    "SYMMETRIES",
    "THUMBNAIL",
    "apply_symmetry",
    "hash_thumbnails",
    "hash_thumbnails_symmetric",
    "shrink",
    "shrink_rows",
    "symmetry_indices",
    "thumbnail_details",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float64]
Planes: TypeAlias = npt.NDArray[np.float32]
Hashes: TypeAlias = npt.NDArray[np.uint64]

HASH_BITS = 64
THUMBNAIL = 32
"""Side of the luma thumbnail a hash is made of."""

SYMMETRIES = (
    "as it is",
    "mirrored left to right",
    "mirrored top to bottom",
    "turned by 180°",
    "mirrored along its diagonal",
    "turned by 90° to the right",
    "turned by 90° to the left",
    "mirrored along its other diagonal",
)
"""The eight symmetries by number: bit 2 transposes first, then bit 0 mirrors left to right and bit 1 top to bottom."""

_LOW = 8
_ZERO = 1e-6  # of a DCT of 0..255: far below any picture, far above rounding
_LEAST = 0.05  # of details, in steps of luma: one pixel that differs by one step leaves 0.2
_BATCH = 4096


def apply_symmetry(picture: npt.NDArray[Any], symmetry: int) -> npt.NDArray[Any]:
    """A view of a picture (H, W, ...) after symmetry number 0..7 (`SYMMETRIES`)."""
    turned = picture.swapaxes(0, 1) if symmetry & 4 else picture
    turned = turned[:, ::-1] if symmetry & 1 else turned
    return turned[::-1] if symmetry & 2 else turned


def symmetry_indices(side: int = THUMBNAIL) -> npt.NDArray[np.int32]:
    """For each symmetry, where each pixel of the flattened square result comes from: (8, side²)."""
    grid = np.arange(side * side, dtype=np.int32).reshape(side, side)
    return np.stack([apply_symmetry(grid, s).ravel() for s in range(8)])


@njit(cache=True, nogil=True)
def shrink(plane: npt.NDArray[Any], height: int, width: int) -> Planes:
    """A plane (H, W) resized by area: every result is the mean of what its rectangle covers. Symmetric in both axes."""
    rows = shrink_rows(plane, height)
    return shrink_rows(np.ascontiguousarray(rows.T), width).T


@njit(cache=True, nogil=True)
def shrink_rows(plane: npt.NDArray[Any], count: int) -> Planes:
    """`shrink` along the first axis only."""
    size, width = plane.shape
    out = np.zeros((count, width), dtype=np.float32)
    step = size / count
    for row in range(count):
        start, stop = row * step, (row + 1) * step
        for source in range(int(start), min(int(np.ceil(stop - 1e-9)), size)):
            share = np.float32((min(stop, source + 1) - max(start, source)) / step)
            for x in range(width):
                out[row, x] += share * np.float32(plane[source, x])
    return out


def hash_thumbnails(thumbnails: Bytes) -> Hashes:
    """The hashes (N,) of luma thumbnails (N, 32, 32), uint8.

    >>> hash_thumbnails(np.zeros((1, 32, 32), dtype=np.uint8))
    array([0], dtype=uint64)
    """
    return _hashes(thumbnails, 1)[:, 0]


def hash_thumbnails_symmetric(thumbnails: Bytes) -> Hashes:
    """The hashes (N, 8) of luma thumbnails (N, 32, 32) after each of the `SYMMETRIES`; column 0 is the plain hash."""
    return _hashes(thumbnails, len(SYMMETRIES))


def _hashes(thumbnails: Bytes, symmetries: int) -> Hashes:
    if thumbnails.shape[1:] != (THUMBNAIL, THUMBNAIL):
        raise ValueError(f"thumbnails must be (N, {THUMBNAIL}, {THUMBNAIL}), got {thumbnails.shape}")
    basis = _dct_basis()
    out = np.empty((len(thumbnails), symmetries), dtype=np.uint64)
    for start in range(0, len(thumbnails), _BATCH):
        block = thumbnails[start : start + _BATCH].astype(np.float64)
        _threshold(basis @ block @ basis.T, out[start : start + _BATCH])
    return out


def _dct_basis() -> Floats:
    """The eight lowest rows of the DCT-II matrix: (8, 32)."""
    position, frequency = np.arange(THUMBNAIL) + 0.5, np.arange(_LOW)[:, None]
    return np.asarray(np.cos(np.pi * frequency * position / THUMBNAIL) * np.sqrt(2 / THUMBNAIL))


@njit(cache=True, nogil=True)
def _threshold(low: Floats, out: Hashes) -> None:
    """Each block of coefficients (N, 8, 8), under each symmetry, against its median."""
    values, ordered = np.empty(64), np.empty(64)
    for image in range(len(low)):
        for symmetry in range(out.shape[1]):
            _turn(low[image], symmetry, values)
            _order(values, ordered)
            median = (ordered[31] + ordered[32]) / 2
            bits = np.uint64(0)
            for place in range(64):
                bits = (bits << np.uint64(1)) | np.uint64(values[place] > median)
            out[image, symmetry] = bits


@njit(cache=True, nogil=True)
def _order(values: Floats, ordered: Floats) -> None:
    """The values in ascending order, by insertion: of 64 as fast as numba's sort, which takes seconds to compile."""
    for place in range(len(values)):
        value, hole = values[place], place
        while hole > 0 and ordered[hole - 1] > value:
            ordered[hole] = ordered[hole - 1]
            hole -= 1
        ordered[hole] = value


@njit(cache=True, nogil=True)
def _turn(low: Floats, symmetry: int, values: Floats) -> None:
    """The coefficients (8, 8) of a picture as those of the flipped or turned one, row by row into `values`."""
    for u in range(8):
        for v in range(8):
            value = low[v, u] if symmetry & 4 else low[u, v]
            is_odd = (symmetry & 1 and v & 1) != (symmetry & 2 and u & 1)
            value = -value if is_odd else value
            values[u * 8 + v] = 0.0 if abs(value) < _ZERO else value


def thumbnail_details(thumbnails: Bytes) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """What is left of thumbnails (N, 32, 32) without their broad shape: (N, 1024) int8, and its strength (N,).

    Pictures of one kind (skies, retinas, microscope fields) share their broad light and dark, and so their hashes, but
    not their details. Each thumbnail is smoothed (1, 2, 1), its mean over 7 × 7 pixels is taken away, and the rest is
    scaled so that its greatest value is 127; the strength is the standard deviation before that, in steps of luma. The
    cosine of two such vectors is their correlation.
    """
    out = np.empty((len(thumbnails), THUMBNAIL * THUMBNAIL), dtype=np.int8)
    strength = np.empty(len(thumbnails), dtype=np.float32)
    smooth = _filter((0.25, 0.5, 0.25))
    broad = _filter((1 / 7,) * 7) @ smooth
    for start in range(0, len(thumbnails), _BATCH):
        block = thumbnails[start : start + _BATCH].astype(np.float32)
        detail = (smooth @ block @ smooth.T - broad @ block @ broad.T).reshape(len(block), -1)
        detail -= detail.mean(axis=1, keepdims=True)
        strength[start : start + _BATCH] = detail.std(axis=1)
        greatest = np.abs(detail).max(axis=1, keepdims=True)
        out[start : start + _BATCH] = np.rint(detail * (127 / np.maximum(greatest, _LEAST)))
    return out, strength


def _filter(weights: tuple[float, ...]) -> Planes:
    """The matrix (32, 32) that filters a column of a thumbnail, its ends repeated outwards."""
    reach, matrix = len(weights) // 2, np.zeros((THUMBNAIL, THUMBNAIL), dtype=np.float32)
    for row in range(THUMBNAIL):
        for shift, weight in enumerate(weights):
            matrix[row, min(max(row + shift - reach, 0), THUMBNAIL - 1)] += weight
    return matrix
