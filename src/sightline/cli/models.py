"""`sightline models`."""

from typing import Annotated

import polars as pl
from cyclopts import Parameter, validators

import sightline.models
from sightline.cli.console import JsonFlag, emit_json, show_table

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
    for each in [name] if name is not None else sightline.models.list_models():
        model = sightline.models.build_shapes(each, class_names, {})
        size_hw = (imgsz, imgsz) if imgsz is not None else None
        results.append(sightline.models.describe_model(model, size_hw))
    if json:
        emit_json({"models": results})
    else:
        table = pl.concat([result.to_frame() for result in results])
        show_table(f"for {classes} classes; one MAC is two FLOPs", table.columns, table.rows())
    return 0
