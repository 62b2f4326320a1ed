"""Batch normalisation over the images of all processes, so that a divided batch is normalised like a whole one.

torch has this for GPUs (`SyncBatchNorm`); on the CPU `SharedBatchNorm2d` does it with two exchanges a layer.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

__all__ = ["SharedBatchNorm2d", "share_batch_norms"]

_SPACE = (0, 2, 3)  # every dimension but the channels


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` whose statistics in training are those of the whole batch; a process may have no image of it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        """Normalised (B, C, H, W)."""
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        values = input.float()
        count, mean, variance = _whole_statistics(values.detach())
        if self.track_running_stats:
            self._follow(mean, variance * (count / (count - 1).clamp(min=1)))
        out: Tensor = _Normalise.apply(values, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-untyped-call]
        return out.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _whole_statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (scalar), mean and biased variance per channel over all processes, merged as Chan et al. (1979) do."""
    channels = values.shape[1]
    count = values.numel() // channels
    if count:
        variance, mean = torch.var_mean(values, dim=_SPACE, correction=0)
    else:
        variance, mean = values.new_zeros(2, channels).unbind()
    own = torch.cat((mean, variance, values.new_full((1,), float(count))))
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    parts = torch.stack(every).double()
    means, variances, counts = parts[:, :channels], parts[:, channels:-1], parts[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    spread = ((variances + (means - mean) ** 2) * counts).sum(0) / total
    return total.to(values.dtype), mean.to(values.dtype), spread.to(values.dtype)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, whose gradient knows that mean and variance hang on all x."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        values, weight, bias, mean, variance, count, eps = given
        ctx.save_for_backward(values, weight, mean, variance, count)
        ctx.eps = eps
        return functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, weight, mean, variance, count = ctx.saved_tensors
        rate = torch.rsqrt(variance + ctx.eps)
        centred = values - _wide(mean)
        bias_gradient = gradients[0].sum(_SPACE)
        moment = (gradients[0] * centred).sum(_SPACE)
        shared = torch.stack((bias_gradient, moment))
        distributed.all_reduce(shared)
        mean_gradient, mean_moment = (shared / count).unbind()
        inner = gradients[0] - _wide(mean_gradient) - centred * _wide(mean_moment * rate**2)
        values_gradient = inner * _wide(rate if weight is None else rate * weight)
        weight_gradient = None if weight is None else moment * rate
        return values_gradient, weight_gradient, None if weight is None else bias_gradient, None, None, None, None


def _wide(per_channel: Tensor) -> Tensor:
    return per_channel.view(1, -1, 1, 1)


def share_batch_norms(model: nn.Module, device: str) -> None:
    """Make the batch normalisations of a model, in place, those of the whole batch; weights and names stay."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and type(child) is not SharedBatchNorm2d:
                setattr(parent, name, _shared(child, device))


def _shared(norm: nn.modules.batchnorm._BatchNorm, device: str) -> nn.Module:
    if device == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    if not isinstance(norm, nn.BatchNorm2d):
        return norm  # of other shapes: normalised by each process on its own
    made = SharedBatchNorm2d(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device=torch.device("meta")
    )
    made.__dict__.update(norm.__dict__)  # its very parameters and buffers, which optimisers may hold already
    return made
