"""Exponential moving average of a model's weights (Polyak averaging), with a decay that ramps up from zero."""

import copy
import math
from typing import Any

import torch
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """A copy of `model` whose weights follow it as `average = d * average + (1 - d) * current`.

    `d = decay * (1 - exp(-step / ramp_steps))`: early on the average forgets quickly, so that it is never behind by the
    random initial weights. Buffers (batch-norm statistics) are averaged alike; integer buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float, ramp_steps: int) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.ramp_steps = ramp_steps
        self.steps = 0

    def follow(self, model: nn.Module, steps: int) -> None:
        """Take in the current weights if the optimiser has stepped since: between accumulated batches it has not."""
        if steps > self.steps:
            self.update(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's current weights."""
        self.steps += 1
        decay = self.decay * (1.0 - math.exp(-self.steps / self.ramp_steps))
        averages, currents = [], []
        for average, current in zip(self._tensors(self.module), self._tensors(model), strict=True):
            if average.dtype.is_floating_point:
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)
        torch._foreach_lerp_(averages, currents, 1.0 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Weights and step count."""
        return {"steps": self.steps, "weights": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps = int(state["steps"])
        self.module.load_state_dict(state["weights"])

    @staticmethod
    def _tensors(module: nn.Module) -> list[torch.Tensor]:
        return [*module.parameters(), *module.buffers()]
