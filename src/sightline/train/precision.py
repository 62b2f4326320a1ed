"""Which arithmetic and device a run uses, and why: measured facts of the machine, stated in words."""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from sightline.core.errors import ConfigError

__all__ = ["Arithmetic", "choose_arithmetic"]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The device, the precision of the network's forward and backward pass, and the reason for the choice."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which the network runs in this precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        # A pass uses each weight once: kept copies would only take memory.
        return torch.autocast(self.device, dtype=dtype, cache_enabled=False)


def choose_arithmetic(
    device: Literal["auto", "cpu", "cuda"], precision: Literal["auto", "fp32", "bf16", "fp16"]
) -> Arithmetic:
    """What the user asked for, or what this machine gains from: bf16 where the hardware multiplies it, else fp32.

    Raises ConfigError when a GPU is asked for and none can be used.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("device must be one that is present, got 'cuda' where torch finds no CUDA device")
    chosen: Literal["cpu", "cuda"] = "cuda" if has_cuda and device != "cpu" else "cpu"
    if precision == "fp16" and chosen == "cpu":
        raise ConfigError("precision 'fp16' needs a CUDA device, got the CPU", do="use bf16 or fp32")
    if precision != "auto":
        return Arithmetic(chosen, precision, "asked for")
    if chosen == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic(chosen, "bf16", "the GPU multiplies bf16")
        return Arithmetic(chosen, "fp32", "the GPU has no bf16 arithmetic")
    if torch.cpu._is_amx_tile_supported():
        return Arithmetic(chosen, "bf16", "the CPU multiplies bf16 in AMX tiles")
    if torch.cpu._is_avx512_bf16_supported():
        return Arithmetic(chosen, "bf16", "the CPU multiplies bf16 in AVX-512")
    return Arithmetic(chosen, "fp32", "the CPU has no bf16 arithmetic")
