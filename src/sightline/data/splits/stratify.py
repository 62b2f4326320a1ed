"""Dividing units into shares so that every label is in every share: iterative stratification, in a stable order.

After Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data" (2011): the label that fewest
unassigned units have is dealt with first, each share getting what it still lacks of it. Where the paper hands out unit
by unit to the neediest share, here the units of a label stand in a fixed order (a hash of their names) and the shares
are consecutive stretches of it. The amounts are the same to within one unit, and a unit that is added shifts the ends
of the stretches by a little instead of changing every choice after it.

What that leaves over, most of all in the number of images and where units are few and large, is lowered by moving
single units (and exchanging pairs where there are few) as long as each step pays.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from sightline.core.kernels import njit

# mypy: allow-untyped-calls

__all__ = ["Labels", "divide_units", "label_imbalance"]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = "csr_array[Any, Any]"

_SLACK = 1e-9
_FEWEST_MOVES, _MOVED_SHARE = 20, 0.02
"""A move must lower the squared error by one part in so many, or in this share of the units where that is more: many
tiny moves would cost stability and gain nothing."""
_PAIR_LIMIT = 400
_ROUNDS = 20


def divide_units(sizes: Floats, labels: Labels, shares: Floats, fixed: Ints | None = None) -> Ints:
    """For each unit the index of the share it goes to, int64 (U,).

    `sizes` (U,) are the images of the units in their fixed order, `labels` (U, K) how much of each label a unit has,
    `shares` (J,) are positive and sum to 1; `fixed` (U,) is the share of units that must stay, -1 for the others. Every
    share gets a unit where there are enough. Without labels the shares are consecutive stretches of all units, each
    ending at the unit whose middle lies nearest to the share's end.
    """
    slots: Ints = np.full(len(sizes), -1, dtype=np.int64) if fixed is None else fixed.copy()
    movable = slots < 0
    wanted = shares * sizes.sum() - np.bincount(slots[~movable], weights=sizes[~movable], minlength=len(shares))
    if labels.nnz == 0:
        slots[movable] = _stretches(sizes[movable], np.maximum(wanted, 0), every_share=fixed is None)
    else:
        _assign_by_label(slots, sizes, labels, shares, wanted)
        totals = np.asarray(labels.sum(axis=0)).ravel()
        used = np.flatnonzero(totals > 0)
        scaled = csr_array(labels[:, used] * (1.0 / totals[used])[None, :] / len(used))
        columns = scaled.indptr.astype(np.int64), scaled.indices.astype(np.int64), scaled.data.astype(np.float64)
        _improve(sizes / sizes.sum(), *columns, len(used), shares, slots, movable)
    _fill_empty(slots, sizes, movable, len(shares))
    return slots


def label_imbalance(sizes: Floats, labels: Labels, shares: Floats, slots: Ints) -> float:
    """How far off the shares are, 0 (best) to 1: the mean over images and labels of the share that is in the wrong
    place, half the sum over the shares of |what it has - what it should have| (the total variation distance).
    """
    member = csr_array((np.ones(len(slots)), (slots, np.arange(len(slots)))), shape=(len(shares), len(slots)))
    has = np.column_stack([np.asarray(member @ sizes), (member @ labels).toarray()])
    totals = has.sum(axis=0)
    there = totals > 0
    return float(np.abs(has[:, there] / totals[there] - shares[:, None]).sum(axis=0).mean() / 2)


def _stretches(weights: Floats, wanted: Floats, *, every_share: bool = False) -> Ints:
    """The share of each unit: the one in whose stretch of the summed weights its middle lies."""
    total = weights.sum()
    ends = np.cumsum(wanted)[:-1] / max(wanted.sum(), _SLACK) * total
    slots: Ints = np.searchsorted(ends - _SLACK, np.cumsum(weights) - weights / 2, side="right").astype(np.int64)
    if every_share:
        _reach_every_share(slots, len(wanted))
    return slots


@njit(cache=True)
def _reach_every_share(slots: Ints, shares: int) -> None:
    """Jump over no share and keep as many units back as there are shares to come, in place."""
    reached = -1
    for i in range(len(slots)):
        reached = max(min(slots[i], reached + 1), shares - len(slots) + i, 0)
        slots[i] = reached


def _assign_by_label(slots: Ints, sizes: Floats, labels: Labels, shares: Floats, wanted_size: Floats) -> None:
    """Assign every unit with slot -1, in place; the label that fewest of them have comes first."""
    by_label = csc_array(labels)
    free = slots < 0
    wanted = np.outer(shares, _column_sums(labels))
    _place_units(wanted, wanted_size, np.flatnonzero(~free), slots, labels, np.zeros_like(sizes))
    left = np.bincount(csr_array(labels[np.flatnonzero(free)]).indices, minlength=labels.shape[1])
    while left.any():
        label = int(np.argmin(np.where(left > 0, left, len(slots) + 1)))
        column = slice(by_label.indptr[label], by_label.indptr[label + 1])
        order = np.argsort(by_label.indices[column], kind="stable")
        units, amounts = by_label.indices[column][order].astype(np.int64), by_label.data[column][order]
        units, amounts = units[free[units]], amounts[free[units]]
        slots[units] = _stretches(amounts, _lacking(wanted[:, label], wanted_size, shares))
        free[units] = False
        _place_units(wanted, wanted_size, units, slots, labels, sizes)
        left -= np.bincount(csr_array(labels[units]).indices, minlength=len(left))
    rest = np.flatnonzero(free)
    slots[rest] = _stretches(sizes[rest], _lacking(wanted_size, shares, shares))


def _lacking(wanted: Floats, otherwise: Floats, shares: Floats) -> Floats:
    """What the shares still lack; where none lacks any, what they lack otherwise; at last the shares themselves."""
    for values in (wanted, otherwise):
        positive = np.maximum(values, 0.0)
        if positive.sum() > _SLACK:
            return positive
    return shares


def _place_units(wanted: Floats, wanted_size: Floats, units: Ints, slots: Ints, labels: Labels, sizes: Floats) -> None:
    """Take what the shares have been given off what they want."""
    for j in range(len(wanted)):
        mine = units[slots[units] == j]
        wanted[j] -= _column_sums(labels[mine])
        wanted_size[j] -= sizes[mine].sum()


def _column_sums(labels: Labels) -> Floats:
    return np.asarray(labels.sum(axis=0), dtype=np.float64).ravel()


@njit(cache=True)
def _improve(sizes, indptr, indices, data, label_count, shares, slots, movable):  # type: ignore[no-untyped-def]
    """Lower the squared error over images and labels by moves and exchanges, in place; first improvement, in order."""
    units, count = len(sizes), len(shares)
    off = np.empty((count, label_count + 1))
    for j in range(count):
        off[j, :label_count] = -shares[j] / max(label_count, 1)
        off[j, label_count] = -shares[j]
    for u in range(units):
        _add(off, slots[u], u, sizes, indptr, indices, data, label_count, 1.0)
    exchange = movable.sum() <= _PAIR_LIMIT
    worth = 1.0 / max(_FEWEST_MOVES, _MOVED_SHARE * units)
    for _ in range(_ROUNDS):
        before = (off * off).sum()
        for u in range(units):
            if movable[u]:
                _best_move(off, u, worth, sizes, indptr, indices, data, label_count, slots)
        if exchange:
            _exchange_pairs(off, worth, sizes, indptr, indices, data, label_count, slots, movable)
        if (off * off).sum() > before * (1.0 - 1.0 / _FEWEST_MOVES):
            break


@njit(cache=True)
def _add(off, slot, u, sizes, indptr, indices, data, label_count, sign):  # type: ignore[no-untyped-def]
    for i in range(indptr[u], indptr[u + 1]):
        off[slot, indices[i]] += sign * data[i]
    off[slot, label_count] += sign * sizes[u]


@njit(cache=True)
def _best_move(off, u, worth, sizes, indptr, indices, data, label_count, slots):  # type: ignore[no-untyped-def]
    here, best, gain = slots[u], slots[u], 0.0
    for there in range(len(off)):
        if there == here:
            continue
        # (x - m)² - x² + (y + m)² - y², summed over images and labels
        change = 2.0 * sizes[u] * (sizes[u] + off[there, label_count] - off[here, label_count])
        for i in range(indptr[u], indptr[u + 1]):
            change += 2.0 * data[i] * (data[i] + off[there, indices[i]] - off[here, indices[i]])
        if change < gain:
            best, gain = there, change
    if gain < 0.0 and gain < -worth * (off * off).sum():
        _add(off, here, u, sizes, indptr, indices, data, label_count, -1.0)
        _add(off, best, u, sizes, indptr, indices, data, label_count, 1.0)
        slots[u] = best


@njit(cache=True)
def _exchange_pairs(off, worth, sizes, indptr, indices, data, label_count, slots, movable):  # type: ignore[no-untyped-def]
    for u in range(len(sizes)):
        for v in range(u):
            if not (movable[u] and movable[v]) or slots[u] == slots[v]:
                continue
            before = (off * off).sum()
            _swap(off, u, v, sizes, indptr, indices, data, label_count, slots)
            if (off * off).sum() > before * (1.0 - worth):
                _swap(off, u, v, sizes, indptr, indices, data, label_count, slots)


@njit(cache=True)
def _swap(off, u, v, sizes, indptr, indices, data, label_count, slots):  # type: ignore[no-untyped-def]
    for one, other in ((u, slots[v]), (v, slots[u])):
        _add(off, slots[one], one, sizes, indptr, indices, data, label_count, -1.0)
        _add(off, other, one, sizes, indptr, indices, data, label_count, 1.0)
    slots[u], slots[v] = slots[v], slots[u]


def _fill_empty(slots: Ints, sizes: Floats, movable: NDArray[np.bool_], count: int) -> None:
    """Give every share that has no unit the smallest one that another can spare."""
    for j in range(count):
        held = np.bincount(slots, minlength=count)
        spare = np.flatnonzero(movable & (held[slots] > 1))
        if held[j] == 0 and len(spare):
            slots[spare[np.argmin(sizes[spare])]] = j
