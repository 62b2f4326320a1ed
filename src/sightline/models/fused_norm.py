"""Batch normalisation with its activation: one pass of our own on the CPU while training, torch's operations elsewhere.

Training on a CPU spends a third of its time in these two, which are bound by reading and writing the maps. Done
together they read and write them half as often and keep one map less for the backward pass.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sightline.ops.norm_kernels import ACTIVATIONS, SLOTS, compiled, row_repeats

__all__ = ["Activation", "norm_act"]

Activation = Literal["none", "relu", "silu"]
_KINDS: dict[torch.dtype, Literal["bfloat16", "float32"]] = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def norm_act(x: Tensor, norm: nn.Module, activation: Activation) -> Tensor:
    """`activation(norm(x))` for maps (B, C, H, W); equal to torch's up to rounding, statistics included."""
    if _can_fuse(x, norm):
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        out: Tensor = _NormAct.apply(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, activation
        )
        return out
    out = norm(x)
    alone = torch.is_inference_mode_enabled()  # nobody else reads what a convolution or its normalisation gave
    if activation == "silu":
        return functional.silu(out, inplace=alone)
    return functional.relu(out, inplace=alone) if activation == "relu" else out


def _can_fuse(x: Tensor, norm: nn.Module) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype in _KINDS
        and norm.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and _team() is not None
    )


class _Team(NamedTuple):
    """torch's own OpenMP threads: a second team would fight with them for the cores."""

    parallel: Any  # GOMP_parallel(function, data, threads, flags)
    size: int  # addresses of functions without arguments
    thread_number: int
    barrier: int


@cache
def _team() -> _Team | None:
    """The team of the OpenMP library that torch is linked to, or None where it speaks another dialect."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not library.is_file():
        return None
    try:
        # A symbol asked of a library is looked for in those it was linked to.
        names = ctypes.CDLL(str(library))
        parallel = names.GOMP_parallel
        others = (names.omp_get_num_threads, names.omp_get_thread_num, names.GOMP_barrier)
    except (OSError, AttributeError):
        return None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return _Team(parallel, *(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in others))


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        epsilon: float,
        activation: Activation,
    ) -> Tensor:
        out = torch.empty_like(x)
        mean, inv_std = torch.empty_like(running_mean), torch.empty_like(running_var)
        arrays = {"x": x, "out": out, "weight": weight, "bias": bias, "mean": mean, "inv_std": inv_std}
        arrays |= {"running_mean": running_mean, "running_var": running_var}
        _run("forward", activation, arrays, (epsilon, momentum))
        ctx.save_for_backward(x, weight, bias, mean, inv_std)
        ctx.activation = activation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inv_std = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out, grad_weight, grad_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        arrays = {"x": x, "other": gradient, "out": out, "weight": weight, "bias": bias, "mean": mean}
        arrays |= {"inv_std": inv_std, "grad_weight": grad_weight, "grad_bias": grad_bias}
        _run("backward", ctx.activation, arrays, (0.0, 0.0))
        return out, grad_weight, grad_bias, None, None, None, None, None


def _run(
    kernel: Literal["forward", "backward"],
    activation: Activation,
    arrays: dict[str, Tensor],
    floats: tuple[float, float],
) -> None:
    """Run a kernel on maps that lie channels last; `arrays` by the name of their slot."""
    team = _team()
    assert team is not None
    x = arrays["x"]
    batch, channels, height, width = x.shape
    repeats = row_repeats(batch * height * width, channels)
    threads = torch.get_num_threads()
    totals = torch.empty(threads * 2 * channels * repeats, dtype=torch.float64)
    values = {name: array.data_ptr() for name, array in arrays.items()}
    values |= {"totals": totals.data_ptr(), "rows": batch * height * width // repeats, "channels": channels}
    values |= {"repeats": repeats, "activation": ACTIVATIONS[activation], "team_size": team.size}
    values |= {"thread_number": team.thread_number, "barrier": team.barrier}
    arguments = np.array([values.get(slot, 0) for slot in SLOTS] + [0] * len(floats), np.int64)
    arguments[len(SLOTS) :].view(np.float64)[:] = floats
    team.parallel(compiled(kernel, _KINDS[x.dtype]), arguments.ctypes.data, threads, 0)
