"""ONNX Runtime. Nothing here, nor anything it imports, needs torch."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.errors import ModelError
from sightline.core.files import check_regular
from sightline.core.metadata import METADATA_KEY, ModelMetadata
from sightline.core.seal import check_seal
from sightline.infer.decoding.network import open_foreign
from sightline.infer.network_predictor import Network, NetworkPredictor, choose_thresholds, output_names
from sightline.infer.onnx_session import choose_provider, open_session, run_session, session_name

__all__ = ["INPUT_NAME", "OnnxNetwork", "open_onnx"]

INPUT_NAME = "images"
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
        return f"{session_name(self._session)} fp32"

    def __call__(self, pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        """Raw outputs for a batch; ModelError when the session fails on it."""
        return run_session(self._session, self._output_names, {INPUT_NAME: pixels}, self._where)


def open_onnx(
    path: str | Path,
    thresholds: Mapping[str, Any] = MappingProxyType({}),
    device: str = "auto",
    threads: int | None = None,
) -> NetworkPredictor:
    """The predictor of an ONNX file that `sightline export` or `adopt` wrote.

    `thresholds` are as `choose_thresholds` takes them; `threads` bounds the threads of one operator (None: the
    runtime's choice). Raises ModelError for a damaged file, one without our metadata, or one whose input and outputs
    are not those its metadata describes.
    """
    where = str(path)
    is_sealed = _check_file(where)
    session = open_session(where, choose_provider(device), threads)
    metadata = _metadata(session, where)
    if not is_sealed and metadata.schema_version >= _SEALED_SINCE:
        raise ModelError("must carry the digest of its bytes, got a file that was altered", where=where, do=_AGAIN)
    point = choose_thresholds(metadata, thresholds, where)
    network: Network
    if metadata.decoding is not None:
        network, max_batch = open_foreign(session, metadata, where)
    else:
        max_batch = _check_interface(session, metadata, where)
        network = OnnxNetwork(session, output_names(metadata.task, len(session.get_outputs())), where)
    return NetworkPredictor(network, metadata, point, where=where, max_batch=max_batch)


def _check_file(where: str) -> bool:
    """Whether the file is sealed; ModelError where it is none, cannot be read, or is not what was sealed."""
    try:
        check_regular(where)
        return check_seal(Path(where).read_bytes(), where, ModelError, _AGAIN)
    except FileNotFoundError:
        raise ModelError("no such file", where=where) from None
    except OSError as error:
        raise ModelError(f"cannot read the file ({error.strerror})", where=where) from None


def _metadata(session: Any, where: str) -> ModelMetadata:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            "an ONNX file must carry Sightline's metadata (classes, preprocessing), got none",
            where=where,
            do="write it with 'sightline export'; a file of another tool becomes one of ours with 'sightline adopt'",
        )
    return ModelMetadata.from_json(text, where)


def _check_interface(session: Any, metadata: ModelMetadata, where: str) -> int | None:
    """The file's fixed batch, None where it is free; ModelError unless names and shapes fit the metadata."""
    inputs = {i.name: i for i in session.get_inputs()}
    outputs = [o.name for o in session.get_outputs()]
    types = sorted({o.type for o in session.get_outputs()})
    expected = list(output_names(metadata.task, len(outputs)))
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
