"""PyTorch: weights files and live models, through the same preparation and postprocessing as every backend."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sightline.core.errors import ConfigError, ModelError
from sightline.core.metadata import ModelMetadata
from sightline.core.process import keep_freed_memory
from sightline.infer.network_predictor import NetworkPredictor, choose_thresholds
from sightline.models import Decoded, Model, describe_weights, fuse, load_model, read_weights_meta

__all__ = ["TorchNetwork", "open_torch", "predictor_from_model"]

_KEPT_BYTES = 2**29  # what a network's maps take at most, as a rule; a program beside it has its memory back


class TorchNetwork:
    """`decode(model(images))` in evaluation mode, float32, on one device."""

    def __init__(self, model: Model, device: torch.device, where: str) -> None:
        assert isinstance(model, nn.Module)
        # The layout that the convolutions of a CPU work in: in the other each turns its maps there and back.
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self._module = Decoded(fuse(model)).to(device).to(memory_format=self._layout).eval()
        self._device = device
        self._where = where
        if device.type == "cpu":
            keep_freed_memory(_KEPT_BYTES)

    @property
    def backend(self) -> str:
        """Runtime, version, device and precision."""
        return f"torch {torch.__version__} {self._device} fp32"

    def __call__(self, pixels: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], ...]:
        """Raw outputs for a batch, as numpy arrays."""
        with torch.inference_mode():
            images = torch.from_numpy(pixels).to(self._device, memory_format=self._layout)
            outputs = self._module(images)
        tensors = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return tuple(t.float().cpu().numpy() for t in tensors)


def open_torch(
    path: str | Path,
    thresholds: Mapping[str, Any] = MappingProxyType({}),
    device: str = "auto",
    threads: int | None = None,
) -> NetworkPredictor:
    """The predictor of a weights file; `thresholds` as `choose_thresholds` takes them.

    `threads`, where given, sets torch's threads for the whole process. Raises ModelError for a file that is not ours.
    """
    where = str(path)
    if not Path(where).is_file():
        raise ModelError("no such file", where=where)
    if threads is not None:
        torch.set_num_threads(threads)
    metadata = read_weights_meta(path)
    point = choose_thresholds(metadata, thresholds, where)
    return NetworkPredictor(TorchNetwork(load_model(path), choose_device(device), where), metadata, point, where=where)


def predictor_from_model(
    model: Model, *, metadata: ModelMetadata | None = None, device: str = "auto"
) -> NetworkPredictor:
    """The predictor of a live model, which is copied as it is now; `metadata` defaults to what the model says."""
    described = metadata if metadata is not None else describe_weights(model)
    thresholds = choose_thresholds(described, {}, model.name)
    return NetworkPredictor(
        TorchNetwork(model, choose_device(device), model.name), described, thresholds, where=model.name
    )


def choose_device(name: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, a number that CUDA device. ConfigError when it
    cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdecimal() else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device must be one this torch can use, got '{name}' ({str(error).splitlines()[0]})"
        ) from None
    return device
