"""What a model costs, and the costs of our own as they are at their usual size: known without torch."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
import polars as pl

from sightline.core.results import Result

__all__ = ["STATED_CLASSES", "ModelComplexity", "stated_costs"]

STATED_CLASSES = 80
_FILE = "costs.json"


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


def stated_costs() -> dict[str, ModelComplexity]:
    """Every model of ours by name, at its own input size and for `STATED_CLASSES`, sorted by name.

    Written by `benchmarks/count_models.py`; a test counts all of them again.
    """
    rows = msgspec.json.decode(files("sightline.models").joinpath(_FILE).read_bytes(), type=list[ModelComplexity])
    return {row.name: row for row in rows}
