"""A selective state space (Gu and Dao 2023, Mamba) over a sequence, with a scan that trains on CPU and GPU and exports.

The state of each channel is a linear recurrence h[t] = a[t] h[t - 1] + b[t]. Training and running step through it with
a backward pass of its own, so that nothing but the states is kept; in an exported graph it is a scan of log2(T) steps
of the whole sequence, as graphs cannot step. Both agree up to rounding.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["SelectiveStateSpace", "linear_scan"]

_STATES = 16
_KERNEL = 4
_EXPANSION = 2
_CHANNELS_PER_RANK = 16
_STEP_LOW, _STEP_HIGH = 1e-3, 1e-1  # of the time steps at the start, as the paper initialises them


class _SteppedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor) -> Tensor:
        states = torch.empty_like(drive)
        state = torch.zeros_like(drive[0])
        for t in range(len(drive)):
            state = torch.addcmul(drive[t], decay[t], state, out=states[t])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        to_drive = torch.empty_like(states)
        carried = torch.zeros_like(states[0])
        for t in reversed(range(len(states))):
            total = torch.add(gradient[t], carried, out=to_drive[t])
            carried = decay[t] * total
        to_decay = torch.zeros_like(states)
        torch.mul(to_drive[1:], states[:-1], out=to_decay[1:])
        return to_decay, to_drive


def _doubled_scan(decay: Tensor, drive: Tensor) -> Tensor:
    """The scan by Hillis and Steele (1986): after step k each state has taken in the 2^k before it."""
    length, reach = len(drive), 1
    while reach < length:
        padding = [0, 0] * (drive.ndim - 1) + [reach, 0]
        drive = drive + decay * functional.pad(drive[:-reach], padding)
        decay = decay * functional.pad(decay[:-reach], padding, value=1.0)
        reach *= 2
    return drive


def linear_scan(decay: Tensor, drive: Tensor) -> Tensor:
    """h[t] = decay[t] h[t - 1] + drive[t] from h[-1] = 0; all (T, ...)."""
    if torch.compiler.is_exporting() or drive.device.type == "meta":
        return _doubled_scan(decay, drive)
    stepped: Tensor = _SteppedScan.apply(decay, drive)
    return stepped


class SelectiveStateSpace(nn.Module):
    """Mamba's block: (B, T, C) -> (B, T, C); causal, linear in T.

    Twice the channels, a causal convolution of 4, a state of 16 for each channel whose step, input and output depend on
    the sequence, a gate, and back to C. The scan is in float32 whatever the autocast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, self.rank = _EXPANSION * channels, math.ceil(channels / _CHANNELS_PER_RANK)
        self.enter = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, _KERNEL, padding=_KERNEL - 1, groups=inner)
        self.select = nn.Linear(inner, self.rank + 2 * _STATES, bias=False)
        self.step = nn.Linear(self.rank, inner)
        rates = torch.arange(1, _STATES + 1, dtype=torch.float32).log()
        self.log_rates = nn.Parameter(rates.repeat(inner, 1))
        self.through = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, channels, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Steps between 0.001 and 0.1, evenly in their logarithm: the bias is the inverse of softplus of them."""
        bound = self.rank**-0.5
        nn.init.uniform_(self.step.weight, -bound, bound)
        with torch.no_grad():
            low, high = math.log(_STEP_LOW), math.log(_STEP_HIGH)
            steps = nn.init.uniform_(torch.empty_like(self.step.bias), low, high).exp()
            self.step.bias.copy_(steps + (-torch.expm1(-steps)).log())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to the same shape."""
        inside, gate = self.enter(x).chunk(2, dim=-1)
        inside = self.conv(inside.transpose(1, 2))[..., : x.shape[1]]
        inside = functional.silu(inside).transpose(1, 2)
        out = self._scanned(inside, *self.select(inside).split((self.rank, _STATES, _STATES), dim=-1))
        left: Tensor = self.leave(out.to(gate.dtype) * functional.silu(gate))
        return left

    def _scanned(self, x: Tensor, low_rank: Tensor, into: Tensor, out_of: Tensor) -> Tensor:
        """(B, T, 2C) float32, of the sequence and what it selects: steps (B, T, R), input and output (B, T, N)."""
        x, into, out_of = x.float(), into.float(), out_of.float()
        step = functional.softplus(self.step(low_rank).float())
        decay = torch.exp(-step.unsqueeze(-1) * self.log_rates.exp())
        drive = (step * x).unsqueeze(-1) * into.unsqueeze(2)
        states = linear_scan(decay.transpose(0, 1), drive.transpose(0, 1)).transpose(0, 1)
        return (states * out_of.unsqueeze(2)).sum(-1) + x * self.through
