"""What numba has no word for, as LLVM instructions: bfloat16, a float's exponent, calls through an address.

Used inside compiled loops only. bfloat16 values are uint16 arrays here: the upper half of a float32.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic as _intrinsic

from sightline.core.kernels import njit

__all__ = ["address_to_pointer", "call_int", "call_void", "exp32", "load", "prefer_wide_vectors", "store"]

intrinsic: Any = _intrinsic  # its types say that the compiler's context is the caller's to give
_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
_HALF, _ROUND, _NAN = _I32(16), _I32(0x7FFF), _I32(0x7FC0)
_MANTISSA_BITS = _I32(23)

# e ** x = 2 ** n * e ** r with |r| <= ln(2) / 2; polynomial of Cephes' expf (Moshier, 1989), 2 ulp at most.
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_TO_WHOLE = np.float32(1.5 * 2**23)  # added and taken away, it rounds to a whole number
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(87.0)
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(0.5)
_ONE = np.float32(1.0)


@intrinsic
def load(_: Any, value: Any) -> Any:
    """The float32 of an element: of bfloat16 bits (uint16), or the float32 itself."""

    def widen(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(arguments[0], _I32), _HALF), _F32)

    def same(_: Any, __: Any, ___: Any, arguments: Any) -> Any:
        return arguments[0]

    return types.float32(value), (widen if value == types.uint16 else same)


@intrinsic
def store(_: Any, value: Any, like: Any) -> Any:
    """A float32 as an element of the kind of `like`; bfloat16 bits are rounded to the nearest, ties to even."""

    def narrow(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _I32)
        odd = builder.and_(builder.lshr(bits, _HALF), _I32(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, _ROUND)), _HALF)
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        return builder.trunc(builder.select(is_nan, _NAN, rounded), _I16)

    def same(_: Any, __: Any, ___: Any, arguments: Any) -> Any:
        return arguments[0]

    return like(types.float32, like), (narrow if like == types.uint16 else same)


@intrinsic
def _times_power_of_two(_: Any, value: Any, whole: Any) -> Any:
    """`value * 2 ** n` for `whole = n + 1.5 * 2 ** 23`, whose lowest bits are n; the result must be a normal number."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        steps = builder.shl(builder.bitcast(arguments[1], _I32), _MANTISSA_BITS)
        return builder.bitcast(builder.add(builder.bitcast(arguments[0], _I32), steps), _F32)

    return types.float32(types.float32, types.float32), generate


@njit(error_model="numpy", inline="always")
def exp32(x: np.float32) -> np.float32:
    """e to the power of x, float32, relative error below 2e-7; x is held within -87 and 87. Vectorised by LLVM."""
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    whole = x * _LOG2E + _TO_WHOLE
    n = whole - _TO_WHOLE
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power: np.float32 = _times_power_of_two(p * r * r + r + _ONE, whole)
    return power


@intrinsic
def prefer_wide_vectors(_: Any) -> Any:
    """Let LLVM use 512-bit vectors in the function this stands in, where the processor has them."""

    def generate(context: Any, builder: Any, __: Any, ___: Any) -> Any:
        # llvmlite knows no attributes with values; the set writes whatever text it holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call_int(_: Any, address: Any) -> Any:
    """The int that the C function without arguments at `address` returns."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.call(builder.inttoptr(arguments[0], ir.FunctionType(_I32, []).as_pointer()), [])

    return types.int32(types.int64), generate


@intrinsic
def call_void(_: Any, address: Any) -> Any:
    """Call the C function without arguments or result at `address`."""

    def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
        builder.call(builder.inttoptr(arguments[0], ir.FunctionType(ir.VoidType(), []).as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def address_to_pointer(_: Any, address: Any) -> Any:
    """The pointer that `carray` takes, of an address."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], voidptr_t)

    return types.voidptr(types.int64), generate
