"""The models there are, by name, and how one is made."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import torch

from sightline.core.errors import ConfigError, ModelError, unknown_name, value_sentence
from sightline.core.plugins import open_registry
from sightline.models.backbone import read_backbone, start_backbone
from sightline.models.complexity import ShapesOnly
from sightline.models.contract import Model
from sightline.models.published import find_weights
from sightline.models.regions.classics import CLASSIC_MODELS
from sightline.models.torchvision_models import TORCHVISION_MODELS
from sightline.models.torchvision_regions import REGION_MODELS
from sightline.models.transformers.detectors import TRANSFORMERS_MODELS
from sightline.models.transformers.mask2former import MASK2FORMER_MODELS
from sightline.models.transformers.rfdetr import RFDETR_MODELS
from sightline.models.unet import UNet
from sightline.models.weights_file import load_tensors, read_weights
from sightline.models.yolo.builders import YOLOS

__all__ = ["MODELS", "Builder", "build", "build_shapes", "create", "list_models"]

Builder = Callable[..., Model]
"""`builder(class_names, *, imgsz=…, …)`: keyword arguments annotated and with defaults."""


def build_unet(
    name: str, class_names: tuple[str, ...], *, imgsz: int | tuple[int, int] = 256, base_width: int = 32
) -> Model:
    """A U-Net whose widths double from `base_width` at full resolution."""
    return UNet(name, class_names, imgsz=imgsz, base_width=base_width)


MODELS: dict[str, Builder] = open_registry(
    "model",
    {
        "unet": partial(build_unet, "unet"),
        "unet-small": partial(build_unet, "unet-small", base_width=16),
        **YOLOS,
        **CLASSIC_MODELS,
        **TORCHVISION_MODELS,
        **REGION_MODELS,
        **TRANSFORMERS_MODELS,
        **RFDETR_MODELS,
        **MASK2FORMER_MODELS,
    },
)
"""Every model by name. A plug-in's builder comes by `register_model`; what it builds must pass `check_model`."""


def list_models() -> list[str]:
    """The names `create` knows, sorted."""
    return sorted(MODELS)


def create(name: str, *, class_names: Sequence[str], weights: str | Path | None = None, **arguments: Any) -> Model:
    """A new model in training mode, initialised from torch's global generator.

    `arguments` are those of the model's builder (`imgsz` for all): an unknown one or a wrong value is a ConfigError.
    `weights`, a path, an address with checksum or a name that `sightline weights` knows, starts it from a file of the
    same architecture: all tensors where the class names are equal, else all but the class branch; a file of a trunk
    alone starts the networks that have it. Raises ModelError for an unknown name or unusable weights.

    >>> create("unet-small", class_names=["background", "crack"], imgsz=320).task
    'semantic'
    """
    model = build(name, class_names, arguments)
    if weights is not None:
        _start_from(model, weights)
    return model


def build(name: str, class_names: Sequence[str], arguments: Mapping[str, Any]) -> Model:
    """As `create` with the builder's arguments only: what metadata of a file may ask for."""
    if name not in MODELS:
        is_file = Path(name).suffix in (".pt", ".pth", ".safetensors", ".onnx", ".yaml", ".yml")
        do = "name the network, as yolo11n, and give what it starts from with weights=FILE.safetensors"
        raise ModelError(unknown_name("model", name, MODELS), do=do if is_file else "a plug-in's needs --plugin FILE")
    builder = MODELS[name]
    checked = _checked_arguments(name, builder, arguments)
    try:
        return builder(_checked_names(class_names), **checked)
    except pydantic.ValidationError as error:  # a size that no network input has
        raise ConfigError(f"model '{name}' cannot be made: {value_sentence(error.errors()[0])}") from None


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


def _start_from(model: Model, weights: str | Path) -> None:
    path = find_weights(weights)
    if path.is_file() and (trunk := read_backbone(path)) is not None:
        start_backbone(model, *trunk, str(path))
        return
    meta, tensors = read_weights(path)
    if meta.architecture != model.name:
        raise ModelError(f"weights must be of '{model.name}', got '{meta.architecture}'", where=str(path))
    same_classes = meta.class_names == model.class_names
    load_tensors(model, tensors, str(path), skip=() if same_classes else model.class_tensors)
