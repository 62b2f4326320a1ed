"""The compiled part of the search among hashes: comparing, joining, keeping witnesses. `hamming` is its door.

Its peer is NumPy, `np.bitwise_count` over every pair: of 8,000 hashes this is 2.5 (random), 7 (clustered) to 30 (all
alike) times as fast, and 200,000, with 625 times the pairs, take it one second. `benchmarks/bench_hamming.py`
would retire this file.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sightline.core.kernels import njit

__all__ = ["CHUNK_VALUES", "PARTS", "Forest", "Index", "Pairing", "merge_into", "scan"]

Hashes: TypeAlias = npt.NDArray[np.uint64]
Ints: TypeAlias = npt.NDArray[np.int32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Details: TypeAlias = npt.NDArray[np.int8]

CHUNK_VALUES = 1 << 16
PARTS = 4
_BLOCK, _SMALL_BLOCK = 128, 16  # hashes compared at once; of a block without a close one only the minimum is looked at
_CROWD = 4096  # candidates from which on it pays to set aside those of a giant component


class Index(NamedTuple):
    """Hashes sorted by one chunk."""

    hashes: Hashes
    rows: Ints
    starts: Ints  # where each chunk value begins
    values: Ints  # those there are


class Forest(NamedTuple):
    """A union-find over the hashes, and for each hash its nearest partner met so far with the bits between the two."""

    parent: Ints
    partner: Ints
    distance: Bytes


class Pairing(NamedTuple):
    """What makes two hashes a pair, and which pairs were compared before."""

    radius: int
    variant: int  # which flip or turn of the asked hashes is compared
    earlier: Ints  # the shares of bits of the chunks searched before
    details: Details
    turn: Ints  # how the variant rearranges the details of the asked
    limit: float


def _declare_popcount(_typing_context: Any, _value: Any) -> Any:
    """The number of ones in a 64-bit word, by the processor's own instruction (vectorised where it has one)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        function = builder.module.declare_intrinsic("llvm.ctpop", [word], ir.FunctionType(word, [word]))
        return builder.call(function, arguments)

    return types.uint64(types.uint64), generate


_popcount: Any = intrinsic(_declare_popcount)


@njit(cache=True, nogil=True)
def _root(parent: Ints, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]  # halve the path
        row = parent[row]
    return row


@njit(cache=True, nogil=True)
def _join(parent: Ints, one: int, other: int) -> int:
    """The root of both, which is the smaller one: it does not depend on the order in which pairs are found."""
    one, other = _root(parent, one), _root(parent, other)
    root = min(one, other)
    parent[one] = parent[other] = root
    return root


@njit(cache=True, nogil=True)
def scan(asked: Index, index: Index, masks: Ints, pairing: Pairing, forest: Forest, part: int) -> None:
    """Compare every asked hash of this part with the hashes whose chunk is close to its own."""
    near, near_rows = np.empty(1024, dtype=np.uint64), np.empty(1024, dtype=np.int32)
    near_roots = np.empty(1024, dtype=np.int32)
    parent, starts = forest.parent, index.starts
    for place in range(part, len(asked.values), PARTS):
        value = asked.values[place]
        begin, end = asked.starts[value], asked.starts[value + 1]
        count = 0
        for mask in masks:
            # Without variants a pair of chunk values is met from both sides: the smaller one asks.
            if pairing.variant > 0 or value ^ mask >= value:
                count += starts[(value ^ mask) + 1] - starts[value ^ mask]
        if count > len(near):
            near, near_rows = np.empty(count * 2, dtype=np.uint64), np.empty(count * 2, dtype=np.int32)
            near_roots = np.empty(count * 2, dtype=np.int32)
        count = 0
        for mask in masks:
            if pairing.variant > 0 or value ^ mask >= value:
                count = _gather(index, starts[value ^ mask], starts[(value ^ mask) + 1], near, near_rows, count)
        _look_up(parent, near_rows[:count], near_roots)
        stop, giant, is_ordered = count, -1, True
        for turn in range(end - begin):
            row = asked.rows[begin + turn]
            if count > _CROWD and turn & (turn - 1) == 0:
                _look_up(parent, near_rows[:count], near_roots)
                stop, giant = _set_aside(near[:count], near_rows[:count], near_roots[:count])
                is_ordered = is_ordered and giant < 0
            # With mask 0 first, the asked hashes' own bucket leads `near`: what stands before has been compared.
            start = turn + 1 if is_ordered and pairing.variant == 0 else 0
            in_giant = giant >= 0 and _root(parent, row) == _root(parent, giant)
            candidates = slice(start, stop if in_giant else count)
            asked_hash = asked.hashes[begin + turn]
            _compare(asked_hash, row, near[candidates], near_rows[candidates], near_roots[candidates], pairing, forest)


@njit(cache=True, nogil=True)
def _gather(index: Index, first: int, last: int, near: Hashes, near_rows: Ints, count: int) -> int:
    """Add the hashes of a bucket to those gathered; how many these are then. For seconds of compiling, no slices."""
    for found in range(first, last):
        near[count], near_rows[count] = index.hashes[found], index.rows[found]
        count += 1
    return count


@njit(cache=True, nogil=True)
def _look_up(parent: Ints, rows: Ints, roots: Ints) -> None:
    for place in range(len(rows)):
        roots[place] = _root(parent, rows[place])


@njit(cache=True, nogil=True)
def _set_aside(near: Hashes, rows: Ints, roots: Ints) -> tuple[int, int]:
    """Move the candidates of the component that most of them belong to, if there is one, behind the others.

    Where many hashes are alike, as of black frames, nearly all candidates of a hash soon are of its own component and
    need no comparison. Returns how many others there are, and a row of that component (-1: there is none).
    """
    giant, votes = -1, 0
    for root in roots:  # the majority vote of Boyer and Moore
        if votes == 0:
            giant = root
        votes += 1 if root == giant else -1
    if 2 * np.sum(roots == giant) <= len(rows):
        return len(rows), -1
    stop = 0
    for place in range(len(rows)):
        if roots[place] != giant:
            near[stop], near[place] = near[place], near[stop]
            rows[stop], rows[place] = rows[place], rows[stop]
            roots[stop], roots[place] = roots[place], roots[stop]
            stop += 1
    return stop, giant


@njit(cache=True, nogil=True)
def _compare(
    asked: int, row: int, near: Hashes, near_rows: Ints, near_roots: Ints, pairing: Pairing, forest: Forest
) -> None:
    """One hash against a list of candidates, of which only blocks that hold a close stranger are gone through singly.

    `near_roots` may be behind the joins made since it was looked up; that costs a look, never a pair.
    """
    radius, root = pairing.radius, _root(forest.parent, row)
    for block in range(0, len(near), _BLOCK):
        if _nearest(asked, root, near[block : block + _BLOCK], near_roots[block : block + _BLOCK]) > radius:
            continue
        for begin in range(block, min(block + _BLOCK, len(near)), _SMALL_BLOCK):
            part = slice(begin, min(begin + _SMALL_BLOCK, block + _BLOCK))
            if _nearest(asked, root, near[part], near_roots[part]) <= radius:
                root = _compare_each(asked, row, near[part], near_rows[part], pairing, forest)


@njit(cache=True, nogil=True, inline="always")  # a call with this many arrays costs more than the comparisons
def _compare_each(asked: int, row: int, near: Hashes, near_rows: Ints, pairing: Pairing, forest: Forest) -> int:
    """Join the hash with the close candidates of other components; returns its root."""
    parent, details = forest.parent, pairing.details
    root = _root(parent, row)
    for place in range(len(near)):
        difference = asked ^ near[place]
        bits, other = _popcount(difference), near_rows[place]
        if bits > pairing.radius or _met_before(difference, pairing.earlier) or _root(parent, other) == root:
            continue
        if len(details) and not _alike(details[row], details[other], pairing.turn, pairing.limit):
            continue
        _note(forest, row, other, bits)
        root = _join(parent, root, other)
    return root


@njit(cache=True, nogil=True)
def _met_before(difference: int, earlier: Ints) -> bool:
    """Whether the chunks searched earlier, each up to its own share of bits, have led to this pair already."""
    for chunk in range(len(earlier)):
        if _popcount((difference >> np.uint64(16 * chunk)) & np.uint64(0xFFFF)) <= earlier[chunk]:
            return True
    return False


@njit(cache=True, nogil=True)
def _nearest(asked: int, root: int, near: Hashes, roots: Ints) -> int:
    """The fewest bits to a candidate of another component."""
    least = np.uint64(64)
    for place in range(len(near)):
        bits = _popcount(asked ^ near[place])
        least = min(least, np.uint64(64) if roots[place] == root else bits)
    return int(least)


@njit(cache=True, nogil=True)
def _note(forest: Forest, row: int, other: int, bits: int) -> None:
    """Keep the pair as witness of both, where it is the nearer one."""
    if bits < forest.distance[row]:
        forest.partner[row], forest.distance[row] = other, bits
    if bits < forest.distance[other]:
        forest.partner[other], forest.distance[other] = row, bits


@njit(cache=True, nogil=True)
def _alike(one: Details, other: Details, turn: Ints, limit: float) -> bool:
    """Whether the cosine of two vectors, the first rearranged, reaches the limit. Vectors of zeros are never alike."""
    products, first, second = np.int64(0), np.int64(0), np.int64(0)
    for place in range(len(one)):
        a, b = np.int64(one[turn[place]]), np.int64(other[place])
        products += a * b
        first += a * a
        second += b * b
    return bool(first > 0 and second > 0 and products >= limit * np.sqrt(float(first) * float(second)))


@njit(cache=True, nogil=True)
def merge_into(forest: Forest, other: Forest) -> None:
    """Add what another forest knows; every row's parent becomes its root."""
    parent = forest.parent
    for row in range(len(parent)):
        _join(parent, row, other.parent[row])
        if other.distance[row] < forest.distance[row]:
            forest.partner[row], forest.distance[row] = other.partner[row], other.distance[row]
    for row in range(len(parent)):
        parent[row] = _root(parent, row)
