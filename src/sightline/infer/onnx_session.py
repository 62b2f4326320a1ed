"""Opening a graph in ONNX Runtime, and running it: for our own exports and for those made elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime as ort

from sightline.core.errors import ConfigError, ModelError
from sightline.core.text import well_formed

__all__ = ["choose_provider", "open_session", "run_session", "session_name"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3


def choose_provider(device: str) -> str:
    """The runtime's provider for a device; ConfigError where this installation has none."""
    if device == "auto":
        return _PROVIDERS["cpu"]
    provider = _PROVIDERS.get(device.partition(":")[0])
    if provider is None or provider not in ort.get_available_providers():
        known = [d for d, p in _PROVIDERS.items() if p in ort.get_available_providers()]
        raise ConfigError(f"device must be one this onnxruntime offers ({', '.join(known)}), got '{device}'")
    return provider


def open_session(where: str | Path, provider: str, threads: int | None = None) -> Any:
    """The session of a file; ModelError where it is no sound graph."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # The runtime takes names of whole characters only; of such a file it gets the bytes.
        plain = str(where) == well_formed(str(where))
        return ort.InferenceSession(str(where) if plain else Path(where).read_bytes(), options, providers=[provider])
    except Exception as error:  # noqa: BLE001 - the runtime raises its own, unrelated exception types
        raise ModelError(f"must be a sound ONNX file, got: {_first_line(error)}", where=str(where)) from None


def run_session(
    session: Any, outputs: Sequence[str], fed: dict[str, npt.NDArray[Any]], where: str
) -> tuple[npt.NDArray[Any], ...]:
    """The named outputs for what is fed; ModelError when the session fails on it."""
    try:
        return tuple(session.run(list(outputs), fed))
    except Exception as error:  # noqa: BLE001 - the runtime raises its own, unrelated exception types
        shapes = ", ".join(str(array.shape) for array in fed.values())
        raise ModelError(f"cannot run on input {shapes}: {_first_line(error)}", where=where) from None


def session_name(session: Any) -> str:
    """Runtime, version and the provider in use."""
    return f"onnxruntime {ort.__version__} {session.get_providers()[0]}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
