"""A model made elsewhere becomes one of ours: a checkpoint, an ONNX file, or any function of images."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, MissingExtraError
from sightline.core.files import check_writable, refuse_overwriting
from sightline.core.process import Progress
from sightline.core.results import Result
from sightline.data import dataset_files, read_dataset
from sightline.infer import AdoptedGraph, AdoptHints, NetworkPredictor, adopt_function, adopt_onnx

__all__ = ["CHECKPOINTS", "Adopted", "adopt"]

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")
_TENSORFLOW = (".tflite", ".pb", ".h5", ".keras", ".json", ".data")  # the last two of TensorFlow.js and MediaPipe
_OF_TENSORFLOW = "make an ONNX file of it (tf2onnx reads .tflite, .pb, .h5 and TensorFlow.js), and adopt that"
_OF_GRAPHS = ("reading", "channels", "scale", "fit")
_TRIED = ("reading", "channels", "scale", "fit")


@dataclass(frozen=True)
class Adopted(Result):
    """What a model made elsewhere was found to be: the file to use from now on (None of a function) and the evidence.

    `tried` has a row for each way of feeding and reading it that was measured on labelled images, the best first;
    `checks` what else shows that it is read right.
    """

    file: str | None
    architecture: str
    task: str
    class_names: tuple[str, ...]
    licence: str
    checks: Mapping[str, str]
    tried: pl.DataFrame
    conventions: dict[str, Any]
    predictor: NetworkPredictor = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields but the predictor."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "predictor"}
        return {**values, "checks": dict(self.checks), "tried": self.tried.to_dicts()}

    def to_frame(self) -> pl.DataFrame:
        """The ways that were tried; the checks where none was."""
        if self.tried.height:
            return self.tried
        return pl.DataFrame(list(self.checks.items()), schema=["check", "found"], orient="row")


def adopt(
    source: str | Path | Callable[..., Any],
    out: str | Path | None = None,
    *,
    class_names: Sequence[str] | None = None,
    data: str | Path | Dataset | None = None,
    onnx: str | Path | None = None,
    progress: Progress | None = None,
    **hints: Any,
) -> Adopted:
    """Read a model of another tool and write it as one of ours, beside `source` where `out` is not given.

    `source` is a checkpoint of PyTorch (becomes `.safetensors`; nothing of it is run; `onnx`, the same model exported
    by its own tool, proves that it gives the same outputs), an ONNX file (a copy with our metadata), or a function of
    images (B, C, H, W) float32 that returns arrays, for which no file is written. `data` are labelled images on which
    ways of feeding and reading a graph are tried. `hints` are the fields of `AdoptHints`: reading, channels, scale,
    fit, imgsz (height, width), licence, images.

    ModelError for what is no model of a known kind, ConfigError where several readings are possible.

    Example:
        adopted = sightline.adopt("best.pt", onnx="best.onnx", data="data")
        sightline.Model(adopted.file).val("data")
    """
    dataset = read_dataset(data) if isinstance(data, (str, Path)) else data
    given = AdoptHints.load(hints)
    if callable(source) and not isinstance(source, (str, Path)):
        if out is not None or onnx is not None:
            raise ConfigError("a function is run in this process alone and takes neither out nor onnx")
        names = tuple(class_names) if class_names is not None else None
        return _of_graph(
            adopt_function(source, class_names=names, dataset=dataset, hints=given, progress=progress), None
        )
    path = Path(source)
    of_checkpoint = path.suffix.lower() in CHECKPOINTS
    if not of_checkpoint and path.suffix.lower() != ".onnx":
        known = ", ".join((*CHECKPOINTS, ".onnx"))
        do = _OF_TENSORFLOW if path.suffix.lower() in _TENSORFLOW else None
        raise ConfigError(f"a model to adopt must end in {known}, got '{path.name}'", where=str(path), do=do)
    target = Path(out) if out is not None else _beside(path, of_checkpoint)
    if target.suffix != (".safetensors" if of_checkpoint else ".onnx"):
        ending = ".safetensors" if of_checkpoint else ".onnx"
        raise ConfigError(f"the output must end in {ending}, got '{target.name}'", where=str(target))
    read = [path, *([onnx] if onnx is not None else [])]
    refuse_overwriting([target], [*read, *([] if dataset is None else dataset_files(dataset, str(dataset.root)))])
    check_writable([target])
    if of_checkpoint:
        if odd := [f"--{name}" for name in _OF_GRAPHS if getattr(given, name) is not None]:
            raise ConfigError(f"a checkpoint says how it is fed and read, got {', '.join(odd)}", where=str(path))
        return _of_checkpoint(path, target, class_names=class_names, dataset=dataset, onnx=onnx, hints=given)
    if onnx is not None:
        raise ConfigError("--onnx proves a checkpoint (.pt), got an ONNX file to adopt", where=str(path))
    found = adopt_onnx(path, target, class_names=class_names, dataset=dataset, hints=given, progress=progress)
    return _of_graph(found, target)


def _beside(path: Path, of_checkpoint: bool) -> Path:
    return path.with_suffix(".safetensors") if of_checkpoint else path.with_name(f"{path.stem}-sightline.onnx")


def _of_graph(found: AdoptedGraph, file: Path | None) -> Adopted:
    metadata = found.predictor.metadata
    values = ("mean_iou", "pixel_accuracy") if metadata.task == "semantic" else ("AP50", "AP")
    schema: dict[str, Any] = dict.fromkeys(_TRIED, pl.String) | dict.fromkeys(values, pl.Float64)
    rows = [(*trial.words, trial.value, trial.finer) for trial in found.trials]
    tried = pl.DataFrame(rows, schema=schema, orient="row")
    checks = {
        "reading": " ".join(found.chosen.words),
        "tried on labels": _tried(found),
    }
    return Adopted(
        file=None if file is None else str(file),
        architecture=metadata.architecture,
        task=metadata.task,
        class_names=metadata.class_names,
        licence=metadata.licence,
        checks=checks,
        tried=tried,
        conventions={"source": metadata.training},
        predictor=found.predictor,
    )


def _tried(found: AdoptedGraph) -> str:
    if not found.trials:
        return "NOT MEASURED: no labelled images were given"
    kind = "mean IoU" if found.chosen.task == "semantic" else "AP50"
    value = f"{kind} {found.chosen.value:.3f}"
    if len(found.trials) == 1:
        return f"{value}, nothing was open"
    near = [f"{' '.join(trial.words)} {trial.value:.3f}" for trial in found.near]
    if not near:
        return f"{value}, clearly the best of {len(found.trials)}"
    return (
        f"{value}, the commonest of {len(near) + 1} of {len(found.trials)} ways that so few images do not tell apart "
        f"({', '.join(near)}): more with --images, or choose"
    )


def _of_checkpoint(path: Path, target: Path, **given: Any) -> Adopted:
    try:
        module: Any = importlib.import_module("sightline.workbench.checkpoints")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        message = "reading a checkpoint needs the package 'torch', got an installation without it"
        raise MissingExtraError(message, do="run pip install 'sightline[train]', or adopt an ONNX file") from None
    predictor, checks = module.adopt_weights(path, target, **given)
    metadata = predictor.metadata
    return Adopted(
        file=str(target),
        architecture=metadata.architecture,
        task=metadata.task,
        class_names=metadata.class_names,
        licence=metadata.licence,
        checks=checks,
        tried=pl.DataFrame(schema=dict.fromkeys(_TRIED, pl.String)),
        conventions={"source": metadata.training},
        predictor=predictor,
    )


def spread_images(dataset: Dataset, count: int) -> list[Path]:
    """`count` image files spread evenly over a data set."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    return [dataset.image_path(dataset.images["path"][row]) for row in rows.tolist()]
