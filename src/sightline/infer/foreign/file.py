"""A copy of an ONNX file with our metadata and seal: bytes behind the graph, which stays as it is."""

import shutil
from pathlib import Path

from sightline.core.files import atomic_path
from sightline.core.metadata import METADATA_KEY, ModelMetadata
from sightline.core.seal import SEAL_KEY, UNSEALED, seal_file
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.onnx_predictor import open_onnx

__all__ = ["write_adopted"]

_METADATA_PROPS = 14 << 3 | 2  # field of the model's message in onnx.proto, as a length-delimited value
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2


def write_adopted(source: Path, target: Path, metadata: ModelMetadata) -> NetworkPredictor:
    """Write the copy, in one step, and open it as every verb will; nothing is kept where that fails.

    A repeated field of a message may stand anywhere in it: what is written behind the last byte belongs to the list.
    """
    entries = b"".join(_entry(key, text) for key, text in ((METADATA_KEY, metadata.to_json()), (SEAL_KEY, UNSEALED)))
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        with temporary.open("ab") as file:
            file.write(entries)
        seal_file(temporary)
        open_onnx(temporary)
    return open_onnx(target)


def _entry(key: str, value: str) -> bytes:
    pair = _field(_KEY, key.encode()) + _field(_VALUE, value.encode("utf-8", "backslashreplace"))
    return _field(_METADATA_PROPS, pair)


def _field(tag: int, data: bytes) -> bytes:
    return _varint(tag) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
