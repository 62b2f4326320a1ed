"""ONNX Runtime. Nothing here, nor anything it imports, needs torch."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import check_regular
from sightline.core.metadata import METADATA_KEY, ModelMetadata
from sightline.core.seal import check_seal
from sightline.infer.network_predictor import OUTPUT_NAMES, NetworkPredictor, choose_thresholds

__all__ = ["INPUT_NAME", "OnnxNetwork", "open_onnx"]

INPUT_NAME = "images"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS_ONLY = 3
_SEALED_SINCE = 3  # version of the metadata
_AGAIN = "Export it again"


class OnnxNetwork:
    """An ONNX Runtime session with our input and output names."""

    def __init__(self, session: Any, output_names: tuple[str, ...], where: str) -> None:
        self._session = session
        self._output_names = list(output_names)
        self._where = where

    @property
    def backend(self) -> str:
        """Runtime, version and the provider in use."""
        return f"onnxruntime {ort.__version__} {self._session.get_providers()[0]} fp32"

    def __call__(self, pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        """Raw outputs for a batch; ModelError when the session fails on it."""
        try:
            return tuple(self._session.run(self._output_names, {INPUT_NAME: pixels}))
        except Exception as error:  # noqa: BLE001 - the runtime raises its own, unrelated exception types
            raise ModelError(f"cannot run on input {pixels.shape}: {_first_line(error)}", where=self._where) from None


def open_onnx(
    path: str | Path,
    thresholds: Mapping[str, Any] = MappingProxyType({}),
    device: str = "auto",
    threads: int | None = None,
) -> NetworkPredictor:
    """The predictor of an ONNX file that `sightline export` wrote; `thresholds` as `choose_thresholds` takes them.

    `threads` bounds the threads of one operator (None: the runtime's choice). Raises ModelError for a damaged file, one
    without our metadata, or one whose input and outputs are not those its metadata describes.
    """
    where = str(path)
    is_sealed = _check_file(where)
    session = _open_session(where, _provider(device), threads)
    metadata = _metadata(session, where)
    if not is_sealed and metadata.schema_version >= _SEALED_SINCE:
        raise ModelError("must carry the digest of its bytes, got a file that was altered", where=where, do=_AGAIN)
    max_batch = _check_interface(session, metadata, where)
    network = OnnxNetwork(session, OUTPUT_NAMES.get(metadata.task, ()), where)
    point = choose_thresholds(metadata, thresholds, where)
    return NetworkPredictor(network, metadata, point, where=where, max_batch=max_batch)


def _provider(device: str) -> str:
    if device == "auto":
        return _PROVIDERS["cpu"]
    provider = _PROVIDERS.get(device.partition(":")[0])
    if provider is None or provider not in ort.get_available_providers():
        known = [d for d, p in _PROVIDERS.items() if p in ort.get_available_providers()]
        raise ConfigError(f"device must be one this onnxruntime offers ({', '.join(known)}), got '{device}'")
    return provider


def _check_file(where: str) -> bool:
    """Whether the file is sealed; ModelError where it is none, cannot be read, or is not what was sealed."""
    try:
        check_regular(where)
        return check_seal(Path(where).read_bytes(), where, ModelError, _AGAIN)
    except FileNotFoundError:
        raise ModelError("no such file", where=where) from None
    except OSError as error:
        raise ModelError(f"cannot read the file ({error.strerror})", where=where) from None


def _open_session(where: str, provider: str, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(where, options, providers=[provider])
    except Exception as error:  # noqa: BLE001 - the runtime raises its own, unrelated exception types
        raise ModelError(f"must be a sound ONNX file, got: {_first_line(error)}", where=where) from None


def _metadata(session: Any, where: str) -> ModelMetadata:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            "an ONNX file must carry Sightline's metadata (classes, preprocessing), got none",
            where=where,
            do="write it with 'sightline export'; of another tool's model, give the predictions to 'sightline eval'",
        )
    return ModelMetadata.from_json(text, where)


def _check_interface(session: Any, metadata: ModelMetadata, where: str) -> int | None:
    """The file's fixed batch, None where it is free; ModelError unless names and shapes fit the metadata."""
    inputs = {i.name: i for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    types = sorted({o.type for o in session.get_outputs()})
    expected = list(OUTPUT_NAMES.get(metadata.task, ()))
    if list(inputs) != [INPUT_NAME] or outputs != expected:
        raise ModelError(
            f"input and outputs must be {INPUT_NAME} and {', '.join(expected)}, "
            f"got {', '.join(inputs)} and {', '.join(outputs)}",
            where=where,
        )
    if types != ["tensor(float)"]:
        raise ModelError(f"outputs must be tensor(float), got {', '.join(types)}", where=where)
    shape, kind = inputs[INPUT_NAME].shape, inputs[INPUT_NAME].type
    preprocess = metadata.preprocess
    wanted = (preprocess.channel_count, *preprocess.size_hw)
    fits = len(shape) == 4 and all(not isinstance(s, int) or s == w for s, w in zip(shape[1:], wanted, strict=False))
    if not fits or kind != "tensor(float)":
        raise ModelError(
            f"input must be float32 (batch, {wanted[0]}, {wanted[1]}, {wanted[2]}), got {kind} {shape}", where=where
        )
    return shape[0] if isinstance(shape[0], int) else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
