"""Size and cost of a model: parameters, multiply-accumulates and floating-point operations at one input size."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sightline.models.blocks import count_fused_parameters
from sightline.models.contract import Decoded, Model
from sightline.models.costs import ModelComplexity

__all__ = ["ShapesOnly", "count_parameters", "describe_model"]


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Number of parameters; buffers such as running statistics are not parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


class ShapesOnly(TorchFunctionMode):
    """Fills no tensors without memory, neither with random numbers nor ranges: torch would load its compiler for it."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if function in {Tensor.normal_, Tensor.uniform_}:
            return arguments[0]
        if function is torch.linspace and "device" not in (named or {}):
            # Networks read single values of these while they are made.
            return function(*arguments, **(named or {}), device="cpu")
        if function is torch.arange:
            return torch.empty_like(function(*arguments, **((named or {}) | {"device": "cpu"})), device="meta")
        return function(*arguments, **(named or {}))


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what torch's formulas say of each operation; torch's own counter also keeps a tally of every module."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        out = function(*arguments, **named)
        formula = flop_registry.get(function._overloadpacket)
        self.total += formula(*arguments, **named, out_val=out) if formula is not None else 0
        return out


def describe_model(model: Model, size_hw: tuple[int, int] | None = None) -> ModelComplexity:
    """Parameters, MACs and FLOPs of a model at `size_hw` (its own preprocessing's size where None).

    FLOPs are two per multiply-accumulate of convolutions and matrix products, attention included, as torch's counter
    sees them; normalisation, activations, pooling and additions are not counted (published figures differ by those:
    YOLO11n at 640 is stated as 6.5 fused and 6.6 with its normalisation). Nothing is computed: shapes only.
    """
    assert isinstance(model, nn.Module)
    height, width = size_hw or model.preprocess.size_hw
    is_whole = any(p.device.type != "meta" for p in model.parameters())
    shadow = (copy.deepcopy(model).to("meta") if is_whole else model).eval()
    images = torch.empty(1, model.preprocess.channel_count, height, width, device="meta")
    with _FlopCounter() as counter, ShapesOnly(), torch.no_grad():  # type: ignore[no-untyped-call]
        Decoded(shadow)(images)
    flops = counter.total
    return ModelComplexity(
        name=model.name,
        task=model.task,
        classes=len(model.class_names),
        height=height,
        width=width,
        parameters=count_parameters(model),
        trainable_parameters=count_parameters(model, trainable_only=True),
        fused_parameters=count_fused_parameters(model),
        macs=flops // 2,
        flops=flops,
        weights_mb=sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6,
        conventions={
            "flops": "2 per multiply-accumulate of convolutions and matrix products; nothing else counted",
            "batch": 1,
            "counter": "the formulas of torch.utils.flop_counter",
        },
    )
