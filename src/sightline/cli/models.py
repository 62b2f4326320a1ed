"""`sightline models`."""

from typing import TYPE_CHECKING, Annotated, Literal

import polars as pl
from cyclopts import Parameter, validators

import sightline.models
from sightline.cli.console import JsonFlag, emit_json, note, show_table
from sightline.core.errors import ConfigError, MissingExtraError
from sightline.core.files import plain
from sightline.core.plugins import list_plugins

if TYPE_CHECKING:
    from sightline.models import ModelComplexity

__all__ = ["models"]


def models(
    name: str | None = None,
    *,
    task: Literal["detect", "instance", "obb", "pose", "semantic", "segment"] | None = None,
    imgsz: Annotated[int | None, Parameter(validator=validators.Number(gte=32, lte=4096))] = None,
    classes: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10_000))] = 80,
    json: JsonFlag = False,
) -> int:
    """List the registered models with parameters, MACs and FLOPs, or describe one of them.

    Parameters
    ----------
    name
        A model's name; all models without it.
    task
        Models of this task alone; segment for all that give masks or label maps.
    imgsz
        Side of the input in pixels; the model's own default without it.
    classes
        Number of classes the model is built for.
    """
    stated = sightline.models.stated_costs() if imgsz is None and classes == sightline.models.STATED_CLASSES else {}
    added = any(kind == "model" for plugin in list_plugins() for kind, _ in plugin.adds)
    if name is not None:
        names = [name]
    else:
        names = list(stated) if stated and not added else sightline.models.list_models()
    results = []
    for each in names:
        try:
            results.append(stated.get(each) or _counted(each, imgsz, classes))
        except MissingExtraError as error:
            if name is not None:
                raise
            note(f"left out: {error}")
    wanted = ("instance", "semantic") if task == "segment" else (task,)
    results = [result for result in results if task is None or result.task in wanted]
    if not results:
        raise ConfigError(f"a model named with --task must be of it, got '{name}' for '{task}'")
    if json:
        emit_json({"models": [plain(result) | plain(sightline.models.origin_of(result.name)) for result in results]})
    else:
        table = pl.concat([result.to_frame() for result in results])
        if classes == sightline.models.STATED_CLASSES:
            table = table.with_columns(pl.Series("published", list(map(_beside_published, results))))
        show_table(f"for {classes} classes; one MAC is two FLOPs", table.columns, table.rows())
    return 0


def _beside_published(result: "ModelComplexity") -> str:
    """How the count of parameters is to the published one."""
    published = sightline.models.origin_of(result.name).published_parameters
    if published is None:
        return "–"
    return "exact" if published == result.parameters else f"{result.parameters / published:.4f}"


def _counted(name: str, imgsz: int | None, classes: int) -> "ModelComplexity":
    model = sightline.models.build_shapes(name, tuple(f"class-{i}" for i in range(classes)), {})
    return sightline.models.describe_model(model, None if imgsz is None else (imgsz, imgsz))
