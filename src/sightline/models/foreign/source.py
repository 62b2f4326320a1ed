"""What a checkpoint says of its model: the tensors by the names they have there, classes, size, licence and origin."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sightline.core.errors import ModelError
from sightline.core.files import file_sha256
from sightline.core.text import printable, well_formed
from sightline.models.foreign.checkpoint import Checkpoint
from sightline.models.foreign.pickled import Record, TensorRef

__all__ = ["ForeignModel", "find_model"]

_HOLDERS = ("ema", "model", "model_ema", "state_dict", "model_state_dict", "net", "weights")
"""Where tools keep the model, the better weights first: the moving average is what they evaluate and publish."""
_MAX_DEPTH = 64
_MAX_VISITS = 200_000
_TEXT_LIMIT = 200
_ULTRALYTICS_LICENCE = "AGPL-3.0"


@dataclass(frozen=True)
class ForeignModel:
    """A model of another tool as data. `module` is the class its tool would make, None of bare tensors."""

    tensors: dict[str, Tensor]
    module: str | None
    task: str | None
    table: str  # its tool's name of the network, as we write it, or nothing
    class_names: tuple[str, ...] | None
    imgsz: int | tuple[int, int] | None
    strides: tuple[float, ...] | None
    norm_eps: frozenset[float]
    licence: str | None
    origin: dict[str, Any] = field(default_factory=dict)


def find_model(checkpoint: Checkpoint) -> ForeignModel:
    """The model in a checkpoint: a saved module, or tensors by name alone; ModelError where there is none."""
    values, where = checkpoint.values, str(checkpoint.path)
    outer = values if isinstance(values, dict) else {}
    for holder in (*_HOLDERS, None):
        held = values if holder is None else outer.get(holder)
        if not _is_model(held):
            continue
        eps: set[float] = set()
        refs = dict(_walk(held, eps, where)) if isinstance(held, Record) else _named_tensors(_mapping(held))
        state = held.state if isinstance(held, Record) else {}
        tensors = checkpoint.tensors(refs)
        stride = state.get("stride")
        strides = checkpoint.tensors({"s": stride})["s"].flatten().tolist() if isinstance(stride, TensorRef) else None
        return ForeignModel(
            tensors=tensors,
            module=held.name if isinstance(held, Record) else None,
            task=_text(state.get("task")) or None,
            table=_text(_mapping(state.get("yaml")).get("yaml_file")).removesuffix(".yaml").replace("yolov", "yolo"),
            class_names=_class_names(state.get("names", outer.get("names"))),
            imgsz=_imgsz(_settings(outer.get("train_args")), _settings(state.get("args"))),
            strides=None if strides is None else tuple(map(float, strides)),
            norm_eps=frozenset(eps),
            licence=_licence(outer, held),
            origin=_origin(checkpoint, outer, holder),
        )
    raise ModelError(
        "a checkpoint must hold a model or its tensors by name, got neither",
        where=where,
        do="give the file the tool calls weights, as best.pt",
    )


def _is_model(value: Any) -> bool:
    if isinstance(value, Record):
        return isinstance(value.state, dict) and isinstance(value.state.get("_modules"), dict)
    return isinstance(value, dict) and any(isinstance(v, TensorRef) for v in value.values())


def _named_tensors(value: Mapping[Any, Any]) -> dict[str, TensorRef]:
    return {name: ref for name, ref in value.items() if isinstance(name, str) and isinstance(ref, TensorRef)}


def _walk(root: Record, eps: set[float], where: str) -> Iterator[tuple[str, TensorRef]]:
    """The parameters and kept buffers of a module and of those within it, by their paths, in their order."""
    waiting: list[tuple[str, Any, int]] = [("", root, 0)]
    visits = 0
    while waiting:
        prefix, module, depth = waiting.pop()
        visits += 1
        state = module.state if isinstance(module, Record) else None
        if depth > _MAX_DEPTH or visits > _MAX_VISITS:  # a module within itself, or shared without end
            message = f"a model must have at most {_MAX_VISITS} parts, {_MAX_DEPTH} in each other, got more"
            raise ModelError(message, where=where)
        if not isinstance(state, dict):
            continue
        if isinstance(module, Record) and module.name.startswith("torch.nn.modules.batchnorm."):
            eps.add(float(state["eps"]) if isinstance(state.get("eps"), (int, float)) else 0.0)
        for name, ref in _kept(state):
            yield prefix + name, ref
        children = [(n, m) for n, m in _mapping(state.get("_modules")).items() if isinstance(n, str)]
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in reversed(children)]


def _kept(state: Mapping[Any, Any]) -> Iterator[tuple[str, TensorRef]]:
    """The parameters of one module, and the buffers that it saves."""
    yield from _named_tensors(_mapping(state.get("_parameters"))).items()
    dropped = state.get("_non_persistent_buffers_set")
    arguments = dropped.arguments if isinstance(dropped, Record) else ()
    skipped = {name for part in arguments if isinstance(part, (list, tuple)) for name in part if isinstance(name, str)}
    for name, ref in _named_tensors(_mapping(state.get("_buffers"))).items():
        if name not in skipped:
            yield name, ref


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _settings(value: Any) -> Mapping[Any, Any]:
    """A mapping, or the fields of a namespace of settings."""
    return _mapping(value.state) if isinstance(value, Record) else _mapping(value)


def _text(value: Any) -> str:
    return printable(str(well_formed(value)))[:_TEXT_LIMIT] if isinstance(value, str) else ""


def _class_names(names: Any) -> tuple[str, ...] | None:
    if isinstance(names, dict) and names and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if isinstance(names, list) and names and all(isinstance(n, str) for n in names):
        return tuple(_text(n) for n in names)
    return None


def _imgsz(*settings: Mapping[Any, Any]) -> int | tuple[int, int] | None:
    for value in (s.get("imgsz", s.get("img_size")) for s in settings):
        sides = value if isinstance(value, (list, tuple)) else [value]
        if all(type(side) is int and 0 < side <= 16_384 for side in sides) and 1 <= len(sides) <= 2:
            return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])
    return None


def _licence(outer: Mapping[Any, Any], held: Any) -> str | None:
    stated = _text(outer.get("license", outer.get("licence")))
    if stated:
        # "AGPL-3.0 License (https://...)": the name of the licence is what others look for.
        named = re.match(r"[A-Za-z]+-\d[\w.]*(-\w+)*|MIT\b|ISC\b", stated)
        return named[0] if named else stated
    name = held.name if isinstance(held, Record) else ""
    return _ULTRALYTICS_LICENCE if name.startswith("ultralytics.") else None


def _short(value: Any) -> str:
    """The last two parts of a path: where somebody's home is says nothing about the weights."""
    return "/".join(re.split(r"[/\\\\]", _text(value))[-2:])


def _origin(checkpoint: Checkpoint, outer: Mapping[Any, Any], holder: str | None) -> dict[str, Any]:
    """Where the weights are from, as the file states it: for `training` in the metadata."""
    arguments = _settings(outer.get("train_args"))
    stated: dict[str, Any] = {
        "file": _text(checkpoint.path.name),
        "sha256": file_sha256(checkpoint.path),
        "weights": holder or "the file itself",
        "tool_version": _text(outer.get("version")),
        "date": _text(outer.get("date")),
        "trained_on": _short(arguments.get("data")),
        "started_from": _short(arguments.get("pretrained")) or _short(arguments.get("model")),
        "docs": _text(outer.get("docs")),
    }
    if type(outer.get("epoch")) is int and outer["epoch"] >= 0:
        stated["epoch"] = min(outer["epoch"], 2**53)
    return {key: value for key, value in stated.items() if value != ""}
