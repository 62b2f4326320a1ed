"""A network made elsewhere, fed as it wants to be fed and read as its decoding says: it runs like one of ours."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.core.decoding import Decoding
from sightline.core.errors import ModelError
from sightline.core.metadata import ModelMetadata
from sightline.infer.decoding.outputs import decode_outputs
from sightline.infer.onnx_session import run_session, session_name

__all__ = ["INPUT_TYPES", "ForeignNetwork", "Runs", "feed", "open_foreign", "session_runs"]

Runs = Callable[[npt.NDArray[Any]], Sequence[npt.NDArray[Any]]]
"""Runs a network on what `feed` makes: its outputs, in the order of the decoding's names."""
INPUT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_AGAIN = "adopt the file again"


class ForeignNetwork:
    """Any function of images, with the decoding that makes our outputs of its own."""

    def __init__(
        self, runs: Runs, decoding: Decoding, class_count: int, size_hw: tuple[int, int], *, backend: str, where: str
    ) -> None:
        self._runs, self._decoding, self._class_count, self._size_hw = runs, decoding, class_count, size_hw
        self._backend, self._where = backend, where

    @property
    def backend(self) -> str:
        """What runs it."""
        return self._backend

    def __call__(self, pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        """The arrays of `OUTPUT_NAMES`; ModelError where the outputs are not what the decoding says."""
        outputs = self._runs(feed(pixels, self._decoding))
        try:
            return decode_outputs(self._decoding, outputs, self._size_hw, self._class_count)
        except (ValueError, IndexError) as error:
            shapes = ", ".join(str(np.shape(array)) for array in outputs)
            message = f"outputs must be those of the reading '{self._decoding.name}', got {shapes}: {error}"
            raise ModelError(message, where=self._where) from None


def feed(pixels: npt.NDArray[np.float32], decoding: Decoding) -> npt.NDArray[Any]:
    """A batch (B, C, H, W) in the layout and type the graph takes."""
    fed: npt.NDArray[Any] = pixels
    if decoding.layout in {"nhwc", "hwc"}:
        fed = fed.transpose(0, 2, 3, 1)
    if decoding.layout in {"chw", "hwc"}:
        fed = fed[0]
    if decoding.input_type == "uint8":
        fed = np.rint(fed).clip(0, 255)
    return np.ascontiguousarray(fed.astype(decoding.input_type, copy=False))


def session_runs(session: Any, decoding: Decoding, where: str) -> Runs:
    """What runs an ONNX Runtime session on the input and for the outputs that a decoding names."""
    return lambda fed: run_session(session, decoding.outputs, {decoding.input: fed}, where)


def open_foreign(session: Any, metadata: ModelMetadata, where: str) -> tuple[ForeignNetwork, int | None]:
    """The network of an adopted file and how many images it takes at once; ModelError unless it is what it says."""
    decoding = metadata.decoding
    assert decoding is not None
    inputs = {i.name: i for i in session.get_inputs()}
    outputs = {o.name for o in session.get_outputs()}
    if list(inputs) != [decoding.input] or not set(decoding.outputs) <= outputs or not decoding.outputs:
        message = (
            f"input and outputs must be {decoding.input} and {', '.join(decoding.outputs)}, "
            f"got {', '.join(inputs)} and {', '.join(sorted(outputs))}"
        )
        raise ModelError(message, where=where, do=_AGAIN)
    shape, kind = inputs[decoding.input].shape, inputs[decoding.input].type
    if INPUT_TYPES.get(kind) != decoding.input_type or len(shape) != len(decoding.layout):
        message = f"input must be {decoding.input_type} in the order {decoding.layout}, got {kind} {shape}"
        raise ModelError(message, where=where, do=_AGAIN)
    sides = dict(zip(decoding.layout, shape, strict=True))
    wanted = dict(zip("chw", (metadata.preprocess.channel_count, *metadata.preprocess.size_hw), strict=True))
    if any(isinstance(sides[axis], int) and sides[axis] != side for axis, side in wanted.items()):
        message = f"input must be of {tuple(wanted.values())} channels, rows and columns, got {shape}"
        raise ModelError(message, where=where, do=_AGAIN)
    batch = sides.get("n", 1)
    network = ForeignNetwork(
        session_runs(session, decoding, where),
        decoding,
        len(metadata.class_names),
        metadata.preprocess.size_hw,
        backend=f"{session_name(session)} {decoding.input_type}",
        where=where,
    )
    return network, 1 if decoding.single else (batch if isinstance(batch, int) else None)
