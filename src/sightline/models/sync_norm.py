"""Batch normalisation whose statistics are those of the batch of all processes, on any device.

torch's own SyncBatchNorm refuses maps on the CPU; on CUDA it is the faster one and used.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sightline.models.contract import Total

__all__ = ["SynchronousBatchNorm2d", "synchronise_norms"]


class SynchronousBatchNorm2d(nn.BatchNorm2d):
    """As BatchNorm2d; in training mode, mean and variance are taken over the maps (B, C, H, W) of all processes.

    `total` adds a tensor up over the processes; a plain function, so that the module can be copied. A process whose
    share of the batch is empty takes part as well.
    """

    def __init__(self, norm: nn.BatchNorm2d, total: Total) -> None:
        assert norm.affine
        assert norm.momentum is not None
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.training = norm.training
        self._total = total

    def forward(self, x: Tensor) -> Tensor:
        """Normalised maps of the same shape and type."""
        if not self.training:
            return super().forward(x)
        mean, variance, count = _statistics(x, self._total)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps, self._total)
        return out


@torch.no_grad()
def _statistics(x: Tensor, total: Total) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) and the count of values per channel, over all processes."""
    channels = x.shape[1]
    count = x.numel() // channels
    if count:
        spread, centre = (value.double() for value in torch.var_mean(x.float(), (0, 2, 3), correction=0))
    else:
        spread = centre = torch.zeros(channels, dtype=torch.float64, device=x.device)
    # In double precision the mean square may be added up and the squared mean taken off without loss.
    own = torch.cat((centre * count, (spread + centre * centre) * count, centre.new_tensor([count])))
    sums = total(own)
    mean = sums[:channels] / sums[-1]
    variance = (sums[channels:-1] / sums[-1] - mean * mean).clamp(min=0)
    return mean.float(), variance.float(), sums[-1].float()


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        epsilon: float,
        total: Total,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.epsilon, ctx.total = epsilon, total
        return functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=epsilon)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        inverse = (variance + ctx.epsilon).rsqrt()
        gradient = gradient.float()
        normal = (x.float() - _wide(mean)) * _wide(inverse)
        for_bias, for_weight = gradient.sum((0, 2, 3)), (gradient * normal).sum((0, 2, 3))
        # The gradients of weight and bias are this process's share; whoever reduces gradients adds them up.
        mean_bias, mean_weight = (ctx.total(torch.stack((for_bias, for_weight))) / count).unbind(0)
        out = (gradient - _wide(mean_bias) - normal * _wide(mean_weight)) * _wide(weight * inverse)
        return out.to(x.dtype), for_weight, for_bias, None, None, None, None, None


def _wide(per_channel: Tensor) -> Tensor:
    return per_channel[None, :, None, None]


def synchronise_norms(module: nn.Module, total: Total) -> None:
    """Put a synchronous one in the place of every BatchNorm2d of `module`; weights and statistics are kept."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d and child.affine and child.track_running_stats and child.momentum:
                setattr(parent, name, SynchronousBatchNorm2d(child, total))
