"""Which arithmetic and device a run uses, and why: measured facts of the machine, stated in words."""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from sightline.core.errors import ConfigError

__all__ = ["Arithmetic", "choose_arithmetic"]

_LIGHTNING_NAMES: dict[str, Literal["bf16-mixed", "16-mixed", "32-true"]] = {
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "fp32": "32-true",
}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The device, the precision of the network's forward and backward pass, and the reason for the choice."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]
    reason: str

    @property
    def lightning(self) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
        """The name Lightning's trainer knows the precision by; fp16 comes with dynamic loss scaling."""
        return _LIGHTNING_NAMES[self.precision]

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which the network runs in this precision."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=torch.bfloat16 if self.precision == "bf16" else torch.float16)


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
