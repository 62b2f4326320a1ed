"""Saving a model with everything needed to trust and rebuild it, and rebuilding it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

import sightline
from sightline.core.errors import ConfigError, InputError, ModelError, unknown_name
from sightline.core.files import write_bytes_atomic
from sightline.core.metadata import METADATA_KEY, ModelMetadata
from sightline.core.process import Progress
from sightline.models.contract import Model, own_point
from sightline.models.pretrained import resolve_weights
from sightline.models.registry import build, build_shapes
from sightline.models.weights_file import check_tensors, load_tensors, model_digest, read_weights

__all__ = ["describe_weights", "load_model", "save_weights"]

_GIVEN_KEYS = ("operating_point", "data_digest", "licence", "training")


def describe_weights(model: Model, meta: Mapping[str, Any] | None = None) -> ModelMetadata:
    """The metadata of a model as it stands, its digest included; the same text goes into weights and ONNX files.

    `meta` may hold `operating_point`, `data_digest`, `licence` and `training` (free notes); ConfigError otherwise.
    """
    given = dict(meta or {})
    for key in given:
        if key not in _GIVEN_KEYS:
            raise ConfigError(unknown_name("metadata key", key, _GIVEN_KEYS))
    return ModelMetadata.load(
        {
            "sightline_version": sightline.__version__,
            "architecture": model.name,
            "arguments": model.arguments,
            "task": model.task,
            "class_names": model.class_names,
            "preprocess": model.preprocess,
            "model_digest": model_digest(model.state_dict()),
            "operating_point": own_point(model),
            **given,
        },
        where="weights metadata",
    )


def save_weights(path: str | Path, model: Model, meta: Mapping[str, Any] | None = None) -> ModelMetadata:
    """Write a `.safetensors` file that `load_model` takes back, in one step; what was written about it.

    Raises ModelError, and leaves an earlier file as it was, when the model is not what `create` makes for its name and
    arguments (a fused one, say).
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise ConfigError(f"weights must be written to a .safetensors file, got '{target.name}'", where=str(path))
    described = describe_weights(model, meta)
    fresh = build_shapes(model.name, model.class_names, model.arguments)
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if own != {key: tuple(tensor.shape) for key, tensor in fresh.state_dict().items()}:
        raise ModelError(
            f"model must have the tensors of '{model.name}' as created, got others",
            where=str(path),
            do="save the model before it is fused or altered",
        )
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    # In memory first: safetensors reports a full disk as an error of its own kind.
    write_bytes_atomic(target, save(tensors, metadata={METADATA_KEY: described.to_json()}))
    return described


def load_model(weights: str | Path, *, progress: Progress | None = None) -> Model:
    """The model of a weights file, in evaluation mode, with the preprocessing it was saved with.

    `weights` is a path or `https://…#sha256=…`. The global random generator is left as it was. Raises ModelError in one
    sentence for a file that is foreign, truncated, altered or of another architecture.
    """
    path = resolve_weights(weights, progress=progress)
    meta, tensors = read_weights(path)
    # Shapes first: a file must not make us allocate what its tensors do not fill.
    check_tensors(_rebuild(meta, path, build_shapes), tensors, str(path))
    with torch.random.fork_rng(devices=[]):
        model = _rebuild(meta, path, build)
    load_tensors(model, tensors, str(path))
    model.preprocess = meta.preprocess
    return model.eval()


def _rebuild(meta: ModelMetadata, path: Path, making: Callable[..., Model]) -> Model:
    try:
        model = making(meta.architecture, meta.class_names, meta.arguments)
    except InputError as error:
        raise ModelError(f"metadata is unusable: {error.what}", where=str(path)) from None
    same_channels = model.preprocess.channel_count == meta.preprocess.channel_count
    if model.task != meta.task or not same_channels:
        raise ModelError(f"task and channels must be those of '{meta.architecture}', got others", where=str(path))
    return model
