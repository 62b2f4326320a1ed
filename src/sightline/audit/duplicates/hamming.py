"""Exact near-duplicates among 64-bit hashes: which hashes are joined by chains of pairs a few bits apart.

Multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with multi-index hashing"): the 64
bits are cut into four chunks of 16. Two hashes that differ in at most r bits agree in one of the chunks up to its share
of r, so only hashes whose chunk is that close are compared at all. Pairs are joined in a union-find while they are
found and never stored: memory grows with the hashes, also where a video gives millions of close pairs.

The work is done in a fixed number of parts, whatever the number of threads, so that the result is always the same.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from sightline.audit.duplicates.hamming_kernels import CHUNK_VALUES, PARTS, Forest, Index, Pairing, merge_into, scan

__all__ = ["Components", "hamming_components", "in_order_of_appearance"]

Hashes: TypeAlias = npt.NDArray[np.uint64]
Ints: TypeAlias = npt.NDArray[np.int32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Details: TypeAlias = npt.NDArray[np.int8]
Rows: TypeAlias = npt.NDArray[np.int64]

_CHUNKS = 4
_CHUNK_BITS = 16
_MAX_RADIUS = 15
_FEW = 2000
_FAR = 255
_NO_DETAILS = np.zeros((0, 1), dtype=np.int8)
_NO_TURNS = np.zeros((8, 1), dtype=np.int32)


class Components(NamedTuple):
    """The components of N hashes, and for each hash that has a partner one pair that proves it (a witness)."""

    labels: Rows  # (N,): 0, 1, … in the order of first appearance
    partner: Rows  # (N,): row of a hash within the radius, -1 where there is none
    distance: Rows  # (N,): bits between the two, -1 where there is none


def hamming_components(
    hashes: Hashes,
    radius: int,
    *,
    details: Details | None = None,
    turns: Ints | None = None,
    min_cosine: float = 0.0,
    workers: int = 2,
) -> Components:
    """Which of N hashes are joined by chains of pairs at most `radius` (0..15) bits apart; exact.

    `hashes` is (N,), or (N, 8) with the hashes of a picture's eight flips and turns in the order of
    `image_hash.SYMMETRIES`: a pair then counts when any of the eight of one row is within the radius of the first of
    the other. That costs about 15 times the search without. With `details` (N, P), int8, a pair must also pass a
    second check: the cosine of the two rows, the first rearranged by `turns[symmetry]` (8, P), must reach `min_cosine`.

    >>> hamming_components(np.array([0, 1, 3, 255], dtype=np.uint64), 1).labels.tolist()
    [0, 0, 0, 1]
    """
    variants = np.ascontiguousarray(hashes.reshape(len(hashes), -1 if len(hashes) else 1).astype(np.uint64, copy=False))
    if variants.shape[1] not in {1, 8}:
        raise ValueError(f"hashes must be (N,) or (N, 8), got {hashes.shape}")
    if not 0 <= radius <= _MAX_RADIUS:
        raise ValueError(f"radius must be 0..{_MAX_RADIUS}, got {radius}")
    if len(variants) >= 2**31:
        raise ValueError(f"at most 2,147,483,647 hashes can be compared, got {len(variants)}")
    if details is not None:
        moved = np.arange(details.shape[1], dtype=np.int32)[None] if turns is None else turns
        return _search(variants, radius, details, moved, min_cosine, workers)
    if variants.shape[1] > 1:
        return _search(variants, radius, _NO_DETAILS, _NO_TURNS, 0.0, workers)
    unique, first, inverse = np.unique(variants[:, 0], return_index=True, return_inverse=True)
    found = _search(unique[:, None], radius, _NO_DETAILS, _NO_TURNS, 0.0, workers)
    return _spread(found, first, inverse)


def in_order_of_appearance(values: npt.NDArray[Any]) -> Rows:
    """The values as labels 0, 1, … in the order in which they first appear."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _spread(found: Components, first: Rows, inverse: Rows) -> Components:
    """The components of distinct hashes as those of all rows; a repeated hash has the first of its kind as witness."""
    partner = np.where(found.partner >= 0, first[found.partner], -1)[inverse]
    distance, representative = found.distance[inverse], first[inverse]
    rows = np.arange(len(inverse))
    again = rows != representative
    partner[again], distance[again] = representative[again], 0
    copy = np.full(len(first), -1, dtype=np.int64)
    copy[inverse[again]] = rows[again]
    has_copy = ~again & (copy[inverse] >= 0)
    partner[has_copy], distance[has_copy] = copy[inverse][has_copy], 0
    return Components(in_order_of_appearance(found.labels[inverse]), partner, distance)


def _search(variants: Hashes, radius: int, details: Details, turns: Ints, limit: float, workers: int) -> Components:
    count = len(variants)
    forests = [
        Forest(
            np.arange(count, dtype=np.int32), np.full(count, -1, dtype=np.int32), np.full(count, _FAR, dtype=np.uint8)
        )
        for _ in range(PARTS)
    ]
    # Of few hashes each is compared with each: that is one chunk of no bits.
    shares = [_chunk_radius(radius, c) for c in range(_CHUNKS)]
    chunks = [-1] if count <= _FEW else [c for c in range(_CHUNKS) if shares[c] >= 0]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for chunk in chunks:
            index, masks = _index(variants[:, 0], chunk), _masks(0 if chunk < 0 else shares[chunk])
            earlier = np.array(shares[: max(chunk, 0)], dtype=np.int32)
            for variant in range(variants.shape[1]):
                asked = index if variant == 0 else _index(variants[:, variant], chunk)
                pairing = Pairing(radius, variant, earlier, details, turns[variant], limit)
                list(pool.map(partial(scan, asked, index, masks, pairing), forests, range(PARTS)))
            _merge(forests)
    parent, partner, bits = forests[0]
    distance = np.where(partner >= 0, bits.astype(np.int64), -1)
    return Components(in_order_of_appearance(parent), partner.astype(np.int64), distance)


def _chunk_radius(radius: int, chunk: int) -> int:
    """How many bits may differ within a chunk: with shares that sum to radius - 3, one chunk of four keeps its own.

    Were every chunk to differ in more than its share, the hashes would differ in at least radius + 1 bits. A share
    below 0 means that the chunk need not be looked at.
    """
    total = radius - (_CHUNKS - 1)
    return total // _CHUNKS + (1 if chunk < total % _CHUNKS else 0)


def _masks(bits: int) -> Ints:
    """All chunk values with at most that many bits set, 0 first."""
    values = np.arange(CHUNK_VALUES, dtype=np.uint32)
    ones = np.bitwise_count(values)
    return values[ones <= bits][np.argsort(ones[ones <= bits], kind="stable")].astype(np.int32)


def _index(hashes: Hashes, chunk: int) -> Index:
    if chunk < 0:
        rows = np.arange(len(hashes), dtype=np.int32)
        return Index(hashes.copy(), rows, np.array([0, len(hashes)], dtype=np.int32), np.zeros(1, dtype=np.int32))
    keys = ((hashes >> np.uint64(chunk * _CHUNK_BITS)) & np.uint64(CHUNK_VALUES - 1)).astype(np.uint16)
    rows = np.argsort(keys, kind="stable").astype(np.int32)  # a radix sort for 16 bits
    starts = np.zeros(CHUNK_VALUES + 1, dtype=np.int32)
    starts[1:] = np.cumsum(np.bincount(keys, minlength=CHUNK_VALUES))
    return Index(hashes[rows], rows, starts, np.flatnonzero(np.diff(starts)).astype(np.int32))


def _merge(forests: list[Forest]) -> None:
    """All forests become the one that knows what each knows; the parent of every row is its root."""
    first, *others = forests
    for other in others:
        merge_into(first, other)
    for other in others:
        other.parent[:], other.partner[:], other.distance[:] = first
