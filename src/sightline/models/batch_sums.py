"""Sums over a batch that several processes hold parts of: what makes a loss the same however the batch is divided."""

from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["batch_sum"]


def batch_sum(local: Tensor) -> Tensor:
    """The sum over the whole batch, from each process's sum over its own images; `local` itself in one process.

    A loss that is a function of such sums has the same value in every process, and the mean of the processes' gradients
    (what data-parallel training takes) is the gradient of that value. Without a gradient nothing is shared: a loss that
    is only measured is one of the images at hand.
    """
    if not local.requires_grad or not distributed.is_available() or not distributed.is_initialized():
        return local
    return _AllReduced.apply(local)  # type: ignore[no-any-return, no-untyped-call]


class _AllReduced(torch.autograd.Function):
    """Sum over processes; backwards, times their number, since the mean over processes follows."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * distributed.get_world_size()
