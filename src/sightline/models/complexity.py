"""Size and cost of a model: parameters, multiply-accumulates and floating-point operations at one input size."""

import copy
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.core.results import Result
from sightline.models.blocks import fuse
from sightline.models.contract import Decoded, Model

__all__ = ["ModelComplexity", "count_parameters", "describe_model"]


@dataclass(frozen=True)
class ModelComplexity(Result):
    """Cost of one image through a model, its decoding included."""

    name: str
    task: str
    classes: int
    height: int
    width: int
    parameters: int
    trainable_parameters: int
    fused_parameters: int
    macs: int
    flops: int
    weights_mb: float
    conventions: dict[str, Any]

    def to_frame(self) -> pl.DataFrame:
        """One row: name, task, input size, parameters, GMACs, GFLOPs and the weights' size in megabytes."""
        return pl.DataFrame(
            {
                "model": [self.name],
                "task": [self.task],
                "input": [f"{self.height}x{self.width}"],
                "parameters": [self.parameters],
                "fused": [self.fused_parameters],
                "GMACs": [self.macs / 1e9],
                "GFLOPs": [self.flops / 1e9],
                "MB": [self.weights_mb],
            }
        )


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Number of parameters; buffers such as running statistics are not parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def describe_model(model: Model, size_hw: tuple[int, int] | None = None) -> ModelComplexity:
    """Parameters, MACs and FLOPs of a model at `size_hw` (its own preprocessing's size where None).

    FLOPs are two per multiply-accumulate of convolutions and matrix products, attention included, as torch's counter
    sees them; normalisation, activations, pooling and additions are not counted (published figures differ by those:
    YOLO11n at 640 is stated as 6.5 fused and 6.6 with its normalisation). Nothing is computed: shapes only.
    """
    assert isinstance(model, nn.Module)
    height, width = size_hw or model.preprocess.size_hw
    shadow = fuse(copy.deepcopy(model).to("meta"))  # normalisation is not counted, and slow to trace
    images = torch.empty(1, model.preprocess.channel_count, height, width, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        Decoded(shadow)(images)
    flops = counter.get_total_flops()
    return ModelComplexity(
        name=model.name,
        task=model.task,
        classes=len(model.class_names),
        height=height,
        width=width,
        parameters=count_parameters(model),
        trainable_parameters=count_parameters(model, trainable_only=True),
        fused_parameters=count_parameters(shadow),
        macs=flops // 2,
        flops=flops,
        weights_mb=sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6,
        conventions={
            "flops": "2 per multiply-accumulate of convolutions and matrix products; nothing else counted",
            "batch": 1,
            "counter": f"torch.utils.flop_counter, torch {torch.__version__}",
        },
    )
