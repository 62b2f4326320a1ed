"""What changes the weights: stages that are trained or frozen, the optimisers, and the average of the weights.

Weights are in groups by decay and depth; Muon takes convolutions beside AdamW for the rest.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sightline.core.errors import ConfigError
from sightline.train.config import OptimizerConfig

__all__ = ["MuonWithAdamW", "WeightAverage", "build_optimizer", "freeze_stages", "parameter_groups", "stages_of"]


def stages_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of each part with weights, from the input to the head: the model's children, lists taken apart.

    Of a model that is a network with a contract around it they are the network's.
    """
    children = [(name, child) for name, child in model.named_children() if any(True for _ in child.parameters())]
    if len(children) == 1:
        name, inner = children[0]
        return [(f"{name}.{stage}", part) for stage, part in stages_of(inner)]
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        parts = child.named_children() if isinstance(child, (nn.ModuleList, nn.Sequential)) else [("", child)]
        found += [(f"{name}.{index}".rstrip("."), part) for index, part in parts]
    return [(name, part) for name, part in found if any(True for _ in part.parameters())]


def freeze_stages(model: nn.Module, count: int) -> list[nn.Module]:
    """Take the first `count` stages out of training and return them; ConfigError when none would be left to train."""
    stages = stages_of(model)
    if count >= len(stages):
        names = ", ".join(name for name, _ in stages)
        raise ConfigError(f"freeze must leave a stage to train, got {count} of {len(stages)} ({names})")
    frozen = [part for _, part in stages[:count]]
    for part in frozen:
        part.requires_grad_(False)
    return frozen


_MUON_HEAD = "head"  # classifiers are left to AdamW, as the method's author advises (Jordan et al., 2024)


def _is_head(stage: str) -> bool:
    return _MUON_HEAD in stage.split(".")


def build_optimizer(model: nn.Module, config: OptimizerConfig, *, fused: bool = True) -> torch.optim.Optimizer:
    """The optimiser of a configuration over the model's trainable weights; ConfigError for one this torch lacks."""
    groups = parameter_groups(model, config)
    betas = (config.momentum, 0.999)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.peak_lr, betas=betas, fused=fused)
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"optimizer 'muon' needs torch 2.9 or later, got {torch.__version__}", do="use adamw or sgd")
    return MuonWithAdamW(groups, lr=config.peak_lr, momentum=config.momentum)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of one decay and one rate each: weights of convolutions and matrices decay, biases and norms do not.

    With `layer_decay` below 1, a stage k steps before the last learns at `layer_decay ** k` of the rate. Each group has
    `lr`, `weight_decay`, `params`, and `matrices`: whether Muon may take it.
    """
    groups: list[dict[str, Any]] = []
    stages = stages_of(model)
    by_stage = [(name, list(part.parameters())) for name, part in stages]
    known = {id(p) for _, parameters in by_stage for p in parameters}
    by_stage.append(("", [p for p in model.parameters() if id(p) not in known]))  # outside every stage: the full rate
    if config.layer_decay == 1.0:
        by_stage = [
            ("body", [p for name, several in by_stage for p in several if not _is_head(name)]),
            (_MUON_HEAD, [p for name, several in by_stage for p in several if _is_head(name)]),
        ]
    depth = len(stages)
    for position, (name, parameters) in enumerate(by_stage, start=1):
        rate = config.peak_lr * config.layer_decay ** max(0, depth - position)
        trained = [p for p in parameters if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        for chosen, decay in ((matrices, config.decay), (vectors, 0.0)):
            if chosen:
                muon = decay > 0 and not _is_head(name)
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "matrices": muon})
    return groups


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon on the kernels of convolutions, seen as matrices (out, in x h x w), and AdamW on everything else.

    Muon takes two-dimensional weights alone, so it is given views that share the kernels' memory. Its steps are scaled
    to the size of AdamW's (`match_rms_adamw`, Liu et al., 2025), so that one learning rate serves both.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        matrices = [group for group in groups if group["matrices"]]
        others = [group for group in groups if not group["matrices"]]
        self._kernels: list[tuple[nn.Parameter, nn.Parameter]] = []
        viewed = [{**group, "params": [self._as_matrix(p) for p in group["params"]]} for group in matrices]
        self._parts: list[torch.optim.Optimizer] = []
        if viewed:
            self._parts.append(torch.optim.Muon(viewed, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=(momentum, 0.999)))
        super().__init__([{"params": [p for g in groups for p in g["params"]]}], {"lr": lr})
        self._share_groups()

    def _as_matrix(self, kernel: nn.Parameter) -> nn.Parameter:
        view = nn.Parameter(kernel.detach().view(kernel.shape[0], -1))
        self._kernels.append((kernel, view))
        return view

    def _share_groups(self) -> None:
        """One list of groups for schedules to write into: the parts' own."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the kernels, their views, and everything else."""
        for kernel, view in self._kernels:
            view.grad = None
            kernel.grad = None
        for part in self._parts:
            part.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for kernel, view in self._kernels:
            view.grad = None if kernel.grad is None else kernel.grad.reshape(view.shape)
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


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
