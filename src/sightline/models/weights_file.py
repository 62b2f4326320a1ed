"""The weights file: safetensors (data only, no code) with our metadata; reading trusts nothing it has not checked."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from sightline.core.errors import ModelError
from sightline.core.files import write_bytes_atomic
from sightline.core.metadata import METADATA_KEY, MODEL_SCHEMA_VERSION, ModelMetadata
from sightline.core.text import parse_json, well_formed
from sightline.models.contract import Model

__all__ = [
    "check_tensors",
    "load_tensors",
    "model_digest",
    "read_entry",
    "read_tensors",
    "read_weights",
    "read_weights_meta",
    "restate_weights",
]

_MAX_HEADER_BYTES = 32_000_000
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
_SIZE_BYTES = 8


def model_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all tensors: names in order, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def read_weights_meta(path: str | Path) -> ModelMetadata:
    """What a weights file says about itself, without reading its tensors.

    Raises ModelError for anything that is not a whole safetensors file with our metadata.
    """
    text = read_entry(path, METADATA_KEY)
    if text is None:
        raise ModelError(
            "weights must carry Sightline's metadata, got a safetensors file without it",
            where=str(path),
            do="use a file that `sightline train` wrote",
        )
    return ModelMetadata.from_json(text, path)


def read_entry(path: str | Path, key: str) -> str | None:
    """An entry of the metadata of a safetensors file, None where it has none; ModelError for any other file."""
    entries = _read_header(Path(path)).get("__metadata__")
    text = entries.get(key) if isinstance(entries, dict) else None
    return text if isinstance(text, str) else None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ModelError where they cannot be read."""
    try:
        text = str(path)
        # The library takes names of whole characters only; of such a file it gets the bytes.
        return load_file(path) if text == well_formed(text) else load(Path(path).read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot read the tensors ({error})", where=str(path)) from None


def read_weights(path: str | Path) -> tuple[ModelMetadata, dict[str, Tensor]]:
    """Metadata and tensors of a weights file; ModelError where it is damaged (digest) or not ours."""
    meta = read_weights_meta(path)
    tensors = read_tensors(path)
    if model_digest(tensors) != meta.model_digest:
        raise ModelError(
            "tensors must match the digest in the metadata, got others",
            where=str(path),
            do="the file was damaged or altered; fetch or train it again",
        )
    return meta, tensors


def restate_weights(path: str | Path, metadata: ModelMetadata) -> None:
    """Write another description of the same tensors into a weights file, in one step.

    ModelError for a file that is not ours, and where the description is of other tensors.
    """
    _, tensors = read_weights(Path(path))
    if metadata.model_digest != model_digest(tensors):
        raise ModelError("the description must be of these tensors, got one of others", where=str(path))
    described = metadata.model_copy(update={"schema_version": MODEL_SCHEMA_VERSION})
    write_bytes_atomic(Path(path), save(tensors, metadata={METADATA_KEY: described.to_json()}))


def load_tensors(model: Model, tensors: Mapping[str, Tensor], where: str, skip: tuple[str, ...] = ()) -> None:
    """Copy tensors into a model, in place; keys that start with one of `skip` are left as they are.

    Raises ModelError as `check_tensors` does; the model is then unchanged.
    """
    check_tensors(model, tensors, where, skip)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.startswith(skip):
                tensor.copy_(tensors[key])


def check_tensors(model: Model, tensors: Mapping[str, Tensor], where: str, skip: tuple[str, ...] = ()) -> None:
    """ModelError on a missing or unexpected key, another shape, or a value that is not finite."""
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if not key.startswith(skip)}
    given = {key: tensor for key, tensor in tensors.items() if not key.startswith(skip)}
    for problem, keys in (("missing", own.keys() - given.keys()), ("unexpected", given.keys() - own.keys())):
        if keys:
            what = f"tensors must be those of the architecture, got {len(keys)} {problem} ('{min(keys)}')"
            raise ModelError(what, where=where)
    for key, shape in own.items():
        if tuple(given[key].shape) != shape:
            raise ModelError(f"tensor '{key}' must have shape {shape}, got {tuple(given[key].shape)}", where=where)
        if not bool(torch.isfinite(given[key]).all()):
            raise ModelError(f"tensor '{key}' must be finite, got NaN or infinity", where=where)


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file whose length fits the tensors it announces."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_SIZE_BYTES)
            length = int.from_bytes(start, "little")
            _refuse_pickle(start, path)
            if len(start) < _SIZE_BYTES or not 2 <= length <= min(_MAX_HEADER_BYTES, size - _SIZE_BYTES):
                raise ModelError(
                    "weights must be a whole safetensors file, got another or a truncated one", where=str(path)
                )
            raw = file.read(length)
    except OSError as error:
        raise ModelError(f"cannot read the weights ({error.strerror})", where=str(path)) from None
    try:
        header = parse_json(raw)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise ModelError("weights must be a safetensors file, got one whose header is not JSON", where=str(path))
    _check_length(header, size - _SIZE_BYTES - length, path)
    return header


def _refuse_pickle(start: bytes, path: Path) -> None:
    # The safetensors header begins with its length, small enough that neither pickle mark can open a sound one.
    if start[:4] == _PICKLE_STARTS[0] or (start[:1] == _PICKLE_STARTS[1] and start[1:2] in b"\x02\x03\x04\x05"):
        if int.from_bytes(start, "little") <= _MAX_HEADER_BYTES:
            return
        raise ModelError(
            "weights cannot be trusted: a pickle file (.pt, .pth, .ckpt) can run code when it is opened",
            where=str(path),
            do="take it over as data with `sightline adopt`, or use a .safetensors file that `sightline train` wrote",
        )


def _check_length(header: dict[str, Any], available: int, path: Path) -> None:
    ends = [0]
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        span = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(span, list) and len(span) == 2 and all(isinstance(v, int) for v in span)):
            raise ModelError(f"weights must state where tensor '{name[:80]}' lies, got no offsets", where=str(path))
        ends.append(span[1])
    if max(ends) != available:
        raise ModelError(
            f"weights must hold {max(ends)} bytes of tensors, got {available}",
            where=str(path),
            do="the file is truncated or damaged; fetch or train it again",
        )
