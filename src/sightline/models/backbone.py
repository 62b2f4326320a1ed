"""Weights of a trunk alone: what a network's first part starts from, with where it is from and under which licence."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import torch
from safetensors.torch import save
from torch import Tensor

from sightline.core.config import Config
from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import write_bytes_atomic
from sightline.core.text import parse_json
from sightline.models.contract import Model
from sightline.models.weights_file import check_tensors, load_tensors, model_digest, read_entry, read_tensors

__all__ = ["BackboneMeta", "lite0_tensors", "read_backbone", "start_backbone", "write_backbone"]

_KEY = "sightline-backbone"


class BackboneMeta(Config):
    """What a file of a trunk says about itself."""

    name: str
    licence: str
    publisher: str
    trained_on: str
    source: str
    source_sha256: str
    digest: str = pydantic.Field(default="", max_length=100)


def write_backbone(path: Path, meta: BackboneMeta, tensors: Mapping[str, Tensor]) -> None:
    """Write a trunk's tensors by the names they have in the networks here."""
    kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    sealed = meta.model_copy(update={"digest": model_digest(kept)})
    write_bytes_atomic(path, save(kept, metadata={_KEY: sealed.model_dump_json()}))


def read_backbone(path: Path) -> tuple[BackboneMeta, dict[str, Tensor]] | None:
    """A trunk's metadata and tensors, None of a file of whole weights; ModelError where it is damaged."""
    text = read_entry(path, _KEY)
    if text is None:
        return None
    try:
        meta = BackboneMeta.load(parse_json(text), where=str(path))
    except (ValueError, TypeError, ConfigError):
        raise ModelError(
            "what the file says about its trunk must be readable, got other text", where=str(path)
        ) from None
    tensors = read_tensors(path)
    if model_digest(tensors) != meta.digest:
        do = "fetch it again with 'sightline weights get'"
        raise ModelError("tensors must match the digest beside them, got others", where=str(path), do=do)
    return meta, tensors


def start_backbone(model: Model, meta: BackboneMeta, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy a trunk's tensors into a network that has it; ModelError naming both where it has another or none."""
    trunk = getattr(model, "trunk", None)
    if trunk is None or trunk[0] != meta.name:
        message = f"weights of the trunk '{meta.name}' must start a network with it, got '{model.name}'"
        raise ModelError(
            message, where=where, do="train lite0-yolo or lite0-unet with it" if meta.name == "lite0" else None
        )
    whole = model.state_dict()
    own = {key.rpartition("network.")[2]: key for key in whole if key.startswith(trunk[1])}  # within a contract or not
    tensors = {own.get(key, key): tensor for key, tensor in tensors.items()}
    others = tuple(key for key in whole if not key.startswith(trunk[1]))
    check_tensors(model, tensors, where, others)
    load_tensors(model, tensors, where, others)


def lite0_tensors(theirs: Mapping[str, Any], counts: Mapping[str, int], where: str) -> dict[str, Tensor]:
    """The trunk's tensors of EfficientNet-Lite0's published weights by our names; `counts` are blocks of each stage."""
    places = [(stage, number) for stage, count in counts.items() for number in range(count)]
    parts = {"_expand_conv": "expand.conv", "_bn0": "expand.bn", "_depthwise_conv": "depthwise.conv"}
    parts |= {"_bn1": "depthwise.bn", "_project_conv": "project.conv", "_bn2": "project.bn"}
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        if not isinstance(tensor, Tensor):
            raise ModelError("published weights must be tensors by name, got something else", where=where)
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            stage, number = places[int(found[1])] if int(found[1]) < len(places) else ("", 0)
            ours[f"{stage}.{number}.{parts.get(found[2], found[2])}.{found[3]}"] = tensor.clone()
        elif found := re.fullmatch(r"_(conv_stem|bn0)\.(\w+)", name):
            ours[f"stem.{'conv' if found[1] == 'conv_stem' else 'bn'}.{found[2]}"] = tensor.clone()
    for name, tensor in ours.items():
        if name.endswith("num_batches_tracked"):
            ours[name] = tensor.to(torch.int64)
    return ours
