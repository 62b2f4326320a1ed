"""Batch normalisation and the activation behind it in one go, forward and backward, over channels-last maps.

The maps are seen as (P, C): pixels by channels. Where C is small, several pixels make one wide row, so that the inner
loops are long; per-channel values are repeated to that width. Each kernel is run by all threads of a team at once, each
on its share of the rows, and waits for the others where it needs their sums.

The peer is torch's batch norm followed by its activation: 1.10 to 1.12 times as long a step of training on two cores
with AMX, 1.04 to 1.10 with other work beside it (median of pairs; `benchmarks/bench_norm.py`, which retires these
kernels where it falls below 1.1).
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
from numba import carray, types  # type: ignore[attr-defined] # the stubs lack carray

from sightline.core.kernels import cfunc, njit
from sightline.ops.vector_math import (
    address_to_pointer,
    call_int,
    call_void,
    exp32,
    load,
    prefer_wide_vectors,
    store,
)

__all__ = ["ACTIVATIONS", "FLOATS", "SLOTS", "WIDEST_ROW", "compiled", "row_repeats"]

ACTIVATIONS = {"none": 0, "relu": 1, "silu": 2}
_RELU, _SILU = ACTIVATIONS["relu"], ACTIVATIONS["silu"]
SLOTS = (
    "x", "other", "out", "weight", "bias", "running_mean", "running_var", "mean", "inv_std", "grad_weight", "grad_bias",
    "totals", "rows", "channels", "repeats", "activation", "team_size", "thread_number", "barrier",
)  # fmt: skip
"""What a kernel takes, as int64: addresses of the arrays, sizes, and the addresses of three functions of the team.

forward: `x` -> `out`, `mean` and `inv_std` (C,) float32; moves `running_mean` and `running_var`.
backward: `x` and the gradient `other` -> the gradient `out`, `grad_weight` and `grad_bias` (C,) float32.
`totals` is room for (threads, 2, C * repeats) float64; the team may turn out smaller than was asked.
"""
FLOATS = ("epsilon", "momentum")
"""What follows behind the slots, as float64."""
WIDEST_ROW = 1024
_SLOT_COUNT = len(SLOTS)
_BLOCK_ROWS = 32  # rows whose float32 sums are added before they go to float64
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "cache": True}
_ZERO, _ONE = np.float32(0), np.float32(1)
(_X, _OTHER, _OUT, _WEIGHT, _BIAS, _RUNNING_MEAN, _RUNNING_VAR, _MEAN, _INV_STD, _GRAD_WEIGHT, _GRAD_BIAS) = range(11)
(_TOTALS, _ROWS, _CHANNELS, _REPEATS, _ACTIVATION, _TEAM_SIZE, _THREAD_NUMBER, _BARRIER) = range(11, 19)
Array = Any


def row_repeats(pixels: int, channels: int) -> int:
    """How many pixels make one row: the largest power of two that divides `pixels` and keeps the row in bounds."""
    repeats = 1
    while channels * repeats < WIDEST_ROW and pixels % (2 * repeats) == 0:
        repeats *= 2
    return repeats


@cache
def compiled(kernel: Literal["forward", "backward"], kind: Literal["bfloat16", "float32"]) -> int:
    """The address of a kernel, a C function of one pointer (to `SLOTS` and `FLOATS`); compiled when first asked for."""
    element = {"bfloat16": np.uint16, "float32": np.float32}[kind]
    function = {"forward": _forward_of, "backward": _backward_of}[kernel](element)
    address: int | None = cfunc(types.void(types.voidptr), **_OPTIONS)(function).address
    assert address is not None
    return address


def _forward_of(element: Any) -> Callable[[Any], None]:
    def forward(arguments: Any) -> None:
        slots = carray(arguments, (_SLOT_COUNT,), np.int64)
        shape = (slots[_ROWS], slots[_CHANNELS] * slots[_REPEATS])
        x = carray(address_to_pointer(slots[_X]), shape, element)
        out = carray(address_to_pointer(slots[_OUT]), shape, element)
        _forward(x, out, slots, carray(arguments, (_SLOT_COUNT + 2,), np.float64)[_SLOT_COUNT:])

    return forward


def _backward_of(element: Any) -> Callable[[Any], None]:
    def backward(arguments: Any) -> None:
        slots = carray(arguments, (_SLOT_COUNT,), np.int64)
        shape = (slots[_ROWS], slots[_CHANNELS] * slots[_REPEATS])
        x = carray(address_to_pointer(slots[_X]), shape, element)
        gradient = carray(address_to_pointer(slots[_OTHER]), shape, element)
        out = carray(address_to_pointer(slots[_OUT]), shape, element)
        _backward(x, gradient, out, slots)

    return backward


@njit(**_OPTIONS)
def _vector(slots: Array, slot: int) -> Array:
    return carray(address_to_pointer(slots[slot]), (slots[_CHANNELS],), np.float32)


@njit(**_OPTIONS)
def _place(slots: Array) -> tuple[int, int, int]:
    """This thread's number and its first row, and the row behind its last."""
    number, threads = call_int(slots[_THREAD_NUMBER]), call_int(slots[_TEAM_SIZE])
    rows = slots[_ROWS]
    return number, rows * number // threads, rows * (number + 1) // threads


@njit(**_OPTIONS)
def _all_totals(slots: Array) -> Array:
    shape = (call_int(slots[_TEAM_SIZE]), 2, slots[_CHANNELS] * slots[_REPEATS])
    return carray(address_to_pointer(slots[_TOTALS]), shape, np.float64)


@njit(**_OPTIONS)
def _fold(slots: Array, channel: int) -> tuple[float, float]:
    """The two sums of a channel over all threads and all pixels of a row."""
    totals = _all_totals(slots)
    first, second = 0.0, 0.0
    for thread in range(len(totals)):
        for repeat in range(slots[_REPEATS]):
            first += totals[thread, 0, repeat * slots[_CHANNELS] + channel]
            second += totals[thread, 1, repeat * slots[_CHANNELS] + channel]
    return first, second


@njit(**_OPTIONS)
def _forward(x: Array, out: Array, slots: Array, floats: Array) -> None:
    number, first, last = _place(slots)
    channels, width = slots[_CHANNELS], x.shape[1]
    weight, bias = _vector(slots, _WEIGHT), _vector(slots, _BIAS)
    mean, inv_std = _vector(slots, _MEAN), _vector(slots, _INV_STD)
    # Sums are taken about the first pixel: squares of values far from zero would lose the variance in rounding.
    centre = np.empty(width, np.float32)
    for c in range(channels):
        for i in range(c, width, channels):
            centre[i] = load(x[0, c])
    _sum_values(x, centre, first, last, _all_totals(slots)[number])
    call_void(slots[_BARRIER])
    if number == 0:
        _finish_statistics(slots, centre, mean, inv_std, floats)
    call_void(slots[_BARRIER])
    scale, shift = np.empty(width, np.float32), np.empty(width, np.float32)
    for c in range(channels):
        for i in range(c, width, channels):
            scale[i] = weight[c] * inv_std[c]
            shift[i] = bias[c] - mean[c] * scale[i]
    _activate(x, out, scale, shift, slots[_ACTIVATION], first, last)


@njit(**_OPTIONS)
def _finish_statistics(slots: Array, centre: Array, mean: Array, inv_std: Array, floats: Array) -> None:
    count = slots[_ROWS] * slots[_REPEATS]
    running_mean, running_var = _vector(slots, _RUNNING_MEAN), _vector(slots, _RUNNING_VAR)
    for c in range(slots[_CHANNELS]):
        total, squares = _fold(slots, c)
        offset = total / count
        variance = max(squares / count - offset * offset, 0.0)
        value = centre[c] + offset
        mean[c] = value
        inv_std[c] = 1.0 / np.sqrt(variance + floats[0])
        running_mean[c] += floats[1] * (value - running_mean[c])
        running_var[c] += floats[1] * (variance * count / max(count - 1, 1) - running_var[c])


@njit(**_OPTIONS)
def _sum_values(x: Array, centre: Array, first: int, last: int, totals: Array) -> None:
    """Into `totals`: the sums of the values less `centre`, and of their squares."""
    prefer_wide_vectors()
    width = x.shape[1]
    sums, squares = np.empty(width, np.float32), np.empty(width, np.float32)
    totals[:] = 0.0
    for start in range(first, last, _BLOCK_ROWS):
        sums[:] = _ZERO
        squares[:] = _ZERO
        for row in range(start, min(start + _BLOCK_ROWS, last)):
            values = x[row]
            for i in range(width):
                value = load(values[i]) - centre[i]
                sums[i] += value
                squares[i] += value * value
        for i in range(width):
            totals[0, i] += sums[i]
            totals[1, i] += squares[i]


@njit(**_OPTIONS)
def _activate(x: Array, out: Array, scale: Array, shift: Array, activation: int, first: int, last: int) -> None:
    prefer_wide_vectors()
    width = x.shape[1]
    for row in range(first, last):
        values, results = x[row], out[row]
        if activation == _SILU:
            for i in range(width):
                z = load(values[i]) * scale[i] + shift[i]
                results[i] = store(z / (_ONE + exp32(-z)), results[i])
        elif activation == _RELU:
            for i in range(width):
                z = load(values[i]) * scale[i] + shift[i]
                results[i] = store(_ZERO if z < _ZERO else z, results[i])  # a NaN stays one
        else:
            for i in range(width):
                results[i] = store(load(values[i]) * scale[i] + shift[i], results[i])


@njit(**_OPTIONS)
def _backward(x: Array, gradient: Array, out: Array, slots: Array) -> None:
    number, first, last = _place(slots)
    channels, width = slots[_CHANNELS], x.shape[1]
    weight, bias = _vector(slots, _WEIGHT), _vector(slots, _BIAS)
    mean, inv_std = _vector(slots, _MEAN), _vector(slots, _INV_STD)
    scale, shift = np.empty(width, np.float32), np.empty(width, np.float32)
    unit, unit_shift = np.empty(width, np.float32), np.empty(width, np.float32)
    for c in range(channels):
        for i in range(c, width, channels):
            unit[i] = inv_std[c]
            unit_shift[i] = -mean[c] * inv_std[c]
            scale[i] = weight[c] * inv_std[c]
            shift[i] = bias[c] - mean[c] * scale[i]
    totals = _all_totals(slots)[number]
    _sum_gradients(x, gradient, out, scale, shift, unit, unit_shift, slots[_ACTIVATION], first, last, totals)
    call_void(slots[_BARRIER])
    # From here on `scale` stays, and the gradient is `scale * slope + x * by_value + constant`.
    by_value, constant = unit, unit_shift
    count = slots[_ROWS] * slots[_REPEATS]
    for c in range(channels):
        slope_sum, weighted_sum = _fold(slots, c)
        pull = scale[c] * inv_std[c] * weighted_sum / count
        for i in range(c, width, channels):
            by_value[i] = -pull
            constant[i] = pull * mean[c] - scale[c] * slope_sum / count
        if number == 0:
            _vector(slots, _GRAD_WEIGHT)[c] = weighted_sum
            _vector(slots, _GRAD_BIAS)[c] = slope_sum
    _finish_gradients(x, out, scale, by_value, constant, first, last)


@njit(**_OPTIONS)
def _sum_gradients(
    x: Array,
    gradient: Array,
    out: Array,
    scale: Array,
    shift: Array,
    unit: Array,
    unit_shift: Array,
    activation: int,
    first: int,
    last: int,
    totals: Array,
) -> None:
    """Into `out`: the gradient before the activation; into `totals`: its sum, and its sum by the normalised value.

    Separate short loops, for LLVM vectorises none that writes several arrays and reads many.
    """
    prefer_wide_vectors()
    width = x.shape[1]
    slopes, sums, weighted = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    totals[:] = 0.0
    for start in range(first, last, _BLOCK_ROWS):
        sums[:] = _ZERO
        weighted[:] = _ZERO
        for row in range(start, min(start + _BLOCK_ROWS, last)):
            values, results = x[row], out[row]
            _slopes(values, gradient[row], scale, shift, activation, slopes)
            for i in range(width):
                results[i] = store(slopes[i], results[i])
            for i in range(width):
                sums[i] += slopes[i]
            for i in range(width):
                weighted[i] += slopes[i] * (load(values[i]) * unit[i] + unit_shift[i])
        for i in range(width):
            totals[0, i] += sums[i]
            totals[1, i] += weighted[i]


@njit(**_OPTIONS)
def _slopes(values: Array, gradient: Array, scale: Array, shift: Array, activation: int, slopes: Array) -> None:
    prefer_wide_vectors()
    width = len(slopes)
    if activation == _SILU:
        for i in range(width):
            z = load(values[i]) * scale[i] + shift[i]
            sigmoid = _ONE / (_ONE + exp32(-z))
            slopes[i] = load(gradient[i]) * (sigmoid * (_ONE + z * (_ONE - sigmoid)))
    elif activation == _RELU:
        for i in range(width):
            z = load(values[i]) * scale[i] + shift[i]
            slopes[i] = _ZERO if z <= _ZERO else load(gradient[i])
    else:
        for i in range(width):
            slopes[i] = load(gradient[i])


@njit(**_OPTIONS)
def _finish_gradients(
    x: Array, out: Array, scale: Array, by_value: Array, constant: Array, first: int, last: int
) -> None:
    prefer_wide_vectors()
    width = x.shape[1]
    for row in range(first, last):
        values, results = x[row], out[row]
        for i in range(width):
            results[i] = store(scale[i] * load(results[i]) + load(values[i]) * by_value[i] + constant[i], results[i])
