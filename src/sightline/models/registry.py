"""The models there are, by name, and how one is made."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import torch

from sightline.core.errors import ConfigError, ModelError, unknown_name, value_sentence
from sightline.core.keypoints import Keypoints
from sightline.core.plugins import open_registry
from sightline.models.backbone import read_backbone, start_backbone
from sightline.models.complexity import ShapesOnly
from sightline.models.contract import Model
from sightline.models.published import find_weights
from sightline.models.regions.classics import CLASSIC_MODELS
from sightline.models.segment.builders import SEGMENTERS
from sightline.models.segment.smp import SMP_MODELS, build_smp
from sightline.models.torchvision_models import TORCHVISION_MODELS
from sightline.models.torchvision_regions import REGION_MODELS
from sightline.models.transformers.detectors import TRANSFORMERS_MODELS
from sightline.models.transformers.eomt import EOMT_MODELS
from sightline.models.transformers.mask2former import MASK2FORMER_MODELS
from sightline.models.transformers.query_maps import QUERY_MAP_MODELS
from sightline.models.transformers.rfdetr import RFDETR_MODELS
from sightline.models.transformers.segformer import SEGFORMER_MODELS
from sightline.models.weights_file import load_tensors, read_weights
from sightline.models.yolo.builders import YOLOS

__all__ = ["MODELS", "Builder", "build", "build_shapes", "create", "find_builder", "list_models", "takes_argument"]

Builder = Callable[..., Model]
"""`builder(class_names, *, imgsz=…, …)`: keyword arguments annotated and with defaults."""


MODELS: dict[str, Builder] = open_registry(
    "model",
    {
        **SEGMENTERS,
        **SMP_MODELS,
        **YOLOS,
        **CLASSIC_MODELS,
        **TORCHVISION_MODELS,
        **REGION_MODELS,
        **TRANSFORMERS_MODELS,
        **RFDETR_MODELS,
        **MASK2FORMER_MODELS,
        **EOMT_MODELS,
        **QUERY_MAP_MODELS,
        **SEGFORMER_MODELS,
    },
)
"""Every model by name. A plug-in's builder comes by `register_model`; what it builds must pass `check_model`."""


def list_models() -> list[str]:
    """The names `create` knows, sorted; of segmentation-models-pytorch's examples alone, as any pair is a name."""
    return sorted(MODELS)


def find_builder(name: str) -> Builder | None:
    """The builder of a name, None where there is none; that of `smp:…` knows when it makes one whether there is."""
    return MODELS.get(name) or (partial(build_smp, name) if name.startswith("smp:") else None)


def create(name: str, *, class_names: Sequence[str], weights: str | Path | None = None, **arguments: Any) -> Model:
    """A new model in training mode, initialised from torch's global generator.

    `arguments` are those of the model's builder (`imgsz` for all): an unknown one or a wrong value is a ConfigError.
    `weights`, a path, an address with checksum or a name that `sightline weights` knows, starts it from a file of the
    same architecture: all tensors where the class names are equal, else all but the class branch. A file of the same
    YOLO for another task (`yolo11n` for `yolo11n-seg`) gives what both have: trunk, neck, boxes and classes; one of a
    trunk alone starts the networks that have it. `started` of the model then says what is from where and what is new.
    Raises ModelError for an unknown name or unusable weights.

    >>> create("unet-small", class_names=["background", "crack"], imgsz=320).task
    'semantic'
    """
    model = build(name, class_names, arguments)
    if weights is not None:
        _start_from(model, weights)
    return model


def build(name: str, class_names: Sequence[str], arguments: Mapping[str, Any]) -> Model:
    """As `create` with the builder's arguments only: what metadata of a file may ask for."""
    builder = find_builder(name)
    if builder is None:
        is_file = Path(name).suffix in (".pt", ".pth", ".safetensors", ".onnx", ".yaml", ".yml")
        do = "name the network, as yolo11n, and give what it starts from with weights=FILE.safetensors"
        raise ModelError(unknown_name("model", name, MODELS), do=do if is_file else "a plug-in's needs --plugin FILE")
    checked = _checked_arguments(name, builder, arguments)
    try:
        return builder(_checked_names(class_names), **checked)
    except pydantic.ValidationError as error:  # a size that no network input has
        raise ConfigError(f"model '{name}' cannot be made: {value_sentence(error.errors()[0])}") from None


def takes_argument(name: str, argument: str) -> bool:
    """Whether the builder of a registered model takes an argument of this name beside the class names."""
    builder = find_builder(name)
    return builder is not None and argument in inspect.signature(builder).parameters


def build_shapes(name: str, class_names: Sequence[str], arguments: Mapping[str, Any]) -> Model:
    """As `build`, with tensors that have a shape and no memory: for counting, and for comparing with what is read."""
    with torch.device("meta"), ShapesOnly():
        return build(name, class_names, arguments)


def _checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(class_names)
    if isinstance(class_names, str) or not names or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(f"class_names must be a sequence of one or more names, got {class_names!r}")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"class_names must differ, got '{twice}' twice")
    return names


def _checked_arguments(name: str, builder: Builder, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        key: parameter.annotation
        for key, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    checked = {}
    for key, value in arguments.items():
        if key not in known:
            raise ConfigError(unknown_name(f"argument of model '{name}'", key, known))
        try:
            checked[key] = pydantic.TypeAdapter(known[key]).validate_python(value)
        except pydantic.ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise ConfigError(f"argument '{key}' of model '{name}': {message}, got {value!r}") from None
    return checked


def _names_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the keypoints, for a model that gives any."""
    return Keypoints.load(dict(arguments["keypoints"])).names if "keypoints" in arguments else ()


_FOR_TASK = re.compile(r"-(seg|pose|obb)$")
_BOXES_WITHIN = re.compile(r"^head\.boxes\.")
"""Where a head that gives more than boxes has the one that gives them."""


def _start_from(model: Any, weights: str | Path) -> None:
    path = find_weights(weights)
    if path.is_file() and (trunk := read_backbone(path)) is not None:
        start_backbone(model, *trunk, str(path))
        model.started = f"started from {path.name}: the trunk {trunk[0].name}; all else is new"
        return
    meta, tensors = read_weights(path)
    own = model.state_dict()
    if meta.architecture != model.name:
        if _FOR_TASK.sub("", meta.architecture) != _FOR_TASK.sub("", model.name):
            raise ModelError(f"weights must be of '{model.name}', got '{meta.architecture}'", where=str(path))
        places = {_BOXES_WITHIN.sub("head.", key): tensor for key, tensor in tensors.items()}
        tensors = {key: places[p] for key in own if (p := _BOXES_WITHIN.sub("head.", key)) in places}
    points = {_names_of(meta.arguments), _names_of(model.arguments)} - {()}  # one side may have none
    same_classes = meta.class_names == model.class_names and len(points) < 2
    skip = () if same_classes else model.class_tensors
    new = [key for key in own if key not in tensors or key.startswith(skip)]
    load_tensors(model, tensors, str(path), skip=skip if meta.architecture == model.name else (*skip, *new))
    parts = sorted({".".join(key.split(".")[: 3 if _BOXES_WITHIN.match(key) else 2]) for key in new})
    said = f"new: {', '.join(parts)}" if parts else "nothing is new"
    model.started = (
        f"started from {path.name} ({meta.architecture}): {len(own) - len(new)} of {len(own)} tensors; {said}"
    )
