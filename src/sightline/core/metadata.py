"""What a model file says about itself: one JSON text, the same in weights and in ONNX files, readable without torch."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import pydantic

from sightline.core.config import Config
from sightline.core.dataset import Task
from sightline.core.decoding import Decoding
from sightline.core.division import Division
from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import plain
from sightline.core.operating_point import OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.core.text import parse_json

__all__ = [
    "METADATA_KEY",
    "MODEL_SCHEMA_VERSION",
    "NMS_IN_GRAPH",
    "TYPICAL_OBJECT",
    "ModelMetadata",
    "OperatingPoint",
]

METADATA_KEY = "sightline"
"""Name of the one entry that holds the JSON text, in safetensors and in ONNX."""
MODEL_SCHEMA_VERSION = 4
"""1 had no digest of the metadata, 2 no seal of ONNX files, 3 no graphs made elsewhere (`decoding`)."""
NMS_IN_GRAPH = "nms_in_graph"
"""Key of `training` in a graph that suppresses by itself: the operating point it does so at."""
TYPICAL_OBJECT = "typical_object_px"
"""In `ModelMetadata.training`: the median side (root of the area) of the objects learnt, in pixels of their images."""
_SEALED_SINCE = 2
_MAX_BYTES = 4_000_000


class ModelMetadata(Config):
    """Everything needed to rebuild a model, to feed it and to say where it came from.

    `decoding` is there for graphs made elsewhere alone, see `sightline adopt`.
    """

    schema_version: int = MODEL_SCHEMA_VERSION
    sightline_version: str
    architecture: str
    arguments: dict[str, Any]
    task: Task
    class_names: tuple[str, ...] = pydantic.Field(min_length=1)
    preprocess: Preprocess
    operating_point: OperatingPoint | None = None
    decoding: Decoding | None = None
    data_digest: str | None = None
    model_digest: str
    licence: str = "unstated"
    training: dict[str, Any] = pydantic.Field(default_factory=dict)

    @property
    def division(self) -> Division:
        """How training divided data without splits: another division would measure on images that were learned."""
        known = {name: self.training[name] for name in Division.model_fields if name in self.training}
        return Division.load(known, where="the model's metadata")

    @classmethod
    def from_json(cls, text: str, where: str | Path) -> Self:
        """The metadata from the JSON text of a model file; ModelError in one sentence naming `where` otherwise."""
        if len(text) > _MAX_BYTES:
            raise ModelError(f"metadata must be at most {_MAX_BYTES} characters, got {len(text)}", where=str(where))
        try:
            values = parse_json(text)
        except ValueError:
            raise ModelError("metadata must be JSON, got other text", where=str(where)) from None
        if not isinstance(values, dict):
            raise ModelError(f"metadata must be a JSON object, got a {type(values).__name__}", where=str(where))
        version = values.get("schema_version")
        if isinstance(version, int) and version > MODEL_SCHEMA_VERSION:
            raise ModelError(
                f"metadata schema must be at most {MODEL_SCHEMA_VERSION}, got {version}",
                where=str(where),
                do="the file was written by a newer Sightline; install that",
            )
        seal = values.pop("seal", None)
        try:
            made = cls.load(values, where=str(where))
        except ConfigError as error:
            raise ModelError(f"metadata is unusable: {error.what}", where=str(where)) from None
        if made.schema_version >= _SEALED_SINCE and seal != _seal(values):
            message = "metadata must match the digest beside it, got another text"
            raise ModelError(message, where=str(where), do="the file was altered; fetch, train or export it again")
        return made

    def to_json(self) -> str:
        """The JSON text that `from_json` takes back: the fields, and a digest of them as `seal`.

        A changed mean, class name or channel order makes another model of the same tensors, and is noticed by it.
        """
        values = plain(self.model_dump(mode="json"))
        return json.dumps({**values, "seal": _seal(values)})


def _seal(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
