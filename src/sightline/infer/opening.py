"""From an artefact on disk to a predictor, without knowing what runs it."""

import importlib
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, MissingExtraError, ModelError
from sightline.core.operating_point import Suppression
from sightline.core.process import Progress
from sightline.infer.network_predictor import NetworkPredictor

__all__ = ["BACKENDS", "embed_dataset", "open_predictor"]

BACKENDS: dict[str, str] = {
    ".onnx": "sightline.infer.onnx_predictor:open_onnx",
    ".safetensors": "sightline.infer.torch_predictor:open_torch",
}
"""Suffix of an artefact → `module:function` that opens it. Imported when first needed, so that torch stays optional."""

_TRAIN_PACKAGES = ("torch",)
_THREADS_PER_CPU = 8  # generous; a runtime asked for tens of thousands of threads hangs while it starts them


def open_predictor(
    path: str | Path,
    *,
    conf: float | None = None,
    iou: float | None = None,
    max_det: int | None = None,
    suppression: Suppression | None = None,
    sigma: float | None = None,
    size_hw: tuple[int, int] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> NetworkPredictor:
    """The predictor of a weights file (`.safetensors`) or an exported one (`.onnx`).

    `conf`, `iou`, `max_det`, `suppression` and `sigma` default to the operating point stored in the artefact, else to
    those of `OperatingPoint`; measure with `conf=0.001`. `size_hw` feeds the network of a weights file at another size
    than its own, see `NetworkPredictor.resized`; ConfigError for an ONNX file of another size. Raises ModelError for a
    file that is not ours, MissingExtraError where torch is needed and absent, ConfigError for a number of threads no
    machine like this one gains from.
    """
    most = _THREADS_PER_CPU * (os.cpu_count() or 1)
    if threads is not None and not 1 <= threads <= most:
        raise ConfigError(f"threads must be in 1..{most} on this machine, got {threads}")
    suffix = Path(path).suffix.lower()
    if suffix not in BACKENDS:
        raise _of_another_kind(path)
    module_name, function_name = BACKENDS[suffix].split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _TRAIN_PACKAGES:
            raise
        raise MissingExtraError(
            f"running a {suffix} file needs the package '{error.name}', got an installation without it",
            where=str(path),
            do="run pip install 'sightline[train]', or export the model to ONNX and run that",
        ) from None
    given = {"conf": conf, "iou": iou, "max_det": max_det, "suppression": suppression, "sigma": sigma}
    predictor = cast("NetworkPredictor", getattr(module, function_name)(path, given, device, threads))
    if size_hw is None or size_hw == predictor.preprocess.size_hw:
        return predictor
    if suffix == ".onnx":
        own = " x ".join(map(str, predictor.preprocess.size_hw))
        message = f"an exported file must be run at its own size ({own}), got {size_hw[0]} x {size_hw[1]}"
        raise ConfigError(message, where=str(path), do="run the weights (.safetensors), which take others")
    return predictor.resized(size_hw)


_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
_OTHER_TOOLS = {
    **dict.fromkeys((*_CHECKPOINTS, ".pkl", ".torchscript"), "a pickled file of PyTorch's"),
    **dict.fromkeys((".engine", ".trt"), "a TensorRT engine"),
    **dict.fromkeys((".pb", ".h5", ".keras", ".tflite"), "a model of TensorFlow's"),
}


def _of_another_kind(path: str | Path) -> ModelError:
    """What is given in place of a model of ours, and what helps there."""
    name = Path(path).name
    got = _OTHER_TOOLS.get(Path(path).suffix.lower())
    message = f"a model to run must end in {', '.join(BACKENDS)}, got '{name}'"
    if got is not None:
        do = "train one here, or run it with its own tool and give what it found to 'sightline eval --predictions'"
        if Path(path).suffix.lower() in _CHECKPOINTS:
            do = "take it over with 'sightline adopt', which runs nothing of it"
        return ModelError(f"{message}, {got}", where=str(path), do=do)
    do = "give a file that 'sightline train' or 'sightline export' wrote, as runs/detect/run-1/weights/best.safetensors"
    return ModelError(message, where=str(path), do=do)


def embed_dataset(
    dataset: Dataset, weights: str | Path, *, workers: int = 2, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """(N, D) vectors of the rows of `dataset.images`, see `sightline.infer.embedding.embed_images`. Needs torch."""
    module: Any = importlib.import_module("sightline.infer.embedding")
    paths = [dataset.image_path(path) for path in dataset.images["path"]]
    return cast("npt.NDArray[np.float32]", module.embed_images(weights, paths, workers=workers, progress=progress))
