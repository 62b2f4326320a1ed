"""`sightline models`."""

from typing import Annotated

import polars as pl
import torch
from cyclopts import Parameter, validators

from sightline.cli.console import JsonFlag, emit_json, show_table
from sightline.models import create, describe_model, list_models

__all__ = ["models"]


def models(
    name: str | None = None,
    *,
    imgsz: Annotated[int | None, Parameter(validator=validators.Number(gte=32, lte=4096))] = None,
    classes: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10_000))] = 80,
    json: JsonFlag = False,
) -> int:
    """List the registered models with parameters, MACs and FLOPs, or describe one of them.

    Parameters
    ----------
    name
        A model's name; all models without it.
    imgsz
        Side of the input in pixels; the model's own default without it.
    classes
        Number of classes the model is built for.
    """
    class_names = tuple(f"class-{i}" for i in range(classes))
    results = []
    for each in [name] if name is not None else list_models():
        with torch.device("meta"):  # shapes are all that counts here
            model = create(each, class_names=class_names)
        size_hw = (imgsz, imgsz) if imgsz is not None else None
        results.append(describe_model(model, size_hw))
    if json:
        emit_json({"models": results})
    else:
        table = pl.concat([result.to_frame() for result in results])
        show_table(f"for {classes} classes; one MAC is two FLOPs", table.columns, table.rows())
    return 0
