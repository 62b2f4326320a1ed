"""One object for a model's whole life: trained, measured, run, followed over time, exported."""

import importlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from PIL import Image

from sightline.audit.splits import hold_out
from sightline.core.dataset import Dataset, Task
from sightline.core.division import Division
from sightline.core.errors import ConfigError, MissingExtraError, ModelError
from sightline.core.frames import Frame
from sightline.data import read_dataset
from sightline.evaluate import (
    RESAMPLES,
    BoundaryOptions,
    DetectionResult,
    ForegroundCounts,
    SemanticResult,
    evaluate_semantic,
    measure_of,
    with_added_metrics,
)
from sightline.infer import (
    BACKENDS,
    NetworkPredictor,
    find_sources,
    given_images,
    is_binary,
    open_predictor,
    open_source,
    predict_dataset,
)
from sightline.media import as_rgb8
from sightline.track import create_tracker, with_unconfirmed
from sightline.workbench.evaluation import with_context
from sightline.workbench.pictures import Seen

__all__ = ["Model"]

_TRAIN_PACKAGES = ("torch", "onnx")


class Model:
    """A model by its file (`best.safetensors`, `best.onnx`) or, to be trained, by its name (`yolo11n`, `unet-small`).

    `conf`, `iou` and `max_det` default to the operating point the file carries; of label maps of two classes `conf` is
    the least probability of the foreground. `size_hw` feeds weights at another size than their own.
    ModelError for a file that is not ours and for a name that is none.

    Example:
        model = sightline.Model("yolo11n")
        model.train("data", epochs=30)
        print(model.val("data"))
        for seen in model.predict("images/"):
            seen.save(f"drawn/{seen.name}")
    """

    def __init__(
        self,
        source: str | Path,
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        size_hw: tuple[int, int] | None = None,
        device: str = "auto",
    ) -> None:
        self._settings: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "device": device}
        self._settings["size_hw"] = size_hw
        self._predictor: NetworkPredictor | None = None
        self.file: Path | None = None
        self.name = str(source)
        if Path(source).suffix.lower() in BACKENDS:
            self._open(Path(source))
        else:
            _needing_torch("sightline.workbench.learning").check_name(self.name)

    def _open(self, file: Path) -> None:
        predictor, conf = open_predictor(file, **self._settings), self._settings["conf"]
        of_maps = predictor.task == "semantic" and conf is not None
        self._predictor, self.file = predictor.at_foreground(conf) if of_maps else predictor, file
        self.name = self._predictor.metadata.architecture

    def __repr__(self) -> str:
        state = "untrained" if self._predictor is None else f"{self.task}, {len(self.class_names)} classes, {self.file}"
        return f"Model({self.name}: {state})"

    @property
    def predictor(self) -> NetworkPredictor:
        """What runs the network; ModelError where there is nothing trained yet."""
        if self._predictor is None:
            message = f"a model must be trained before it is used, got the bare architecture '{self.name}'"
            raise ModelError(message, do="Call train, or open a weights file.")
        return self._predictor

    @property
    def task(self) -> Task:
        """`detect`, `instance`, `obb`, `pose` or `semantic`."""
        return self.predictor.task

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        return self.predictor.class_names

    def train(self, data: str | Path, *, runs: str | Path = "runs", name: str | None = None, **settings: Any) -> Any:
        """Train on a data set with the settings of `sightline train` (`epochs=30`, `imgsz=320`, `lr=0.01`, …).

        From weights in a file training goes on from there. Returns the `TrainResult`; the model is then the best
        epoch's. ConfigError for a setting that is none, with the nearest known one.
        """
        start = {} if self.file is None else {"weights": str(self.file)}
        learning = _needing_torch("sightline.workbench.learning")
        result = learning.train_model(self.name, data, Path(runs), name, start | settings)
        self._open(result.weights)
        return result

    def val(
        self,
        data: str | Path | Dataset,
        *,
        split: str = "val",
        conf: float | None = None,
        batch: int = 8,
        boundaries: bool = False,
    ) -> DetectionResult | SemanticResult:
        """The numbers `sightline eval` gives: on a split ("all" for everything) of a data set, or on a part of one.

        `boundaries` adds, for label maps, how well those are met; ConfigError for another task.
        """
        predictor = self.predictor
        division = predictor.metadata.division
        whole = data if isinstance(data, Dataset) else _divided(read_dataset(data), split, division)
        dataset = whole if isinstance(data, Dataset) or split == "all" else whole.split(split)
        result: DetectionResult | SemanticResult
        if boundaries and predictor.task != "semantic":
            raise ConfigError(f"boundaries are of label maps, got a model of task '{predictor.task}'")
        if predictor.task == "semantic":
            predictor = predictor if conf is None else predictor.at_foreground(conf)
            counts = ForegroundCounts() if is_binary(predictor.metadata) else None
            observe = None if counts is None else counts.observer(dataset)
            runs = predictor if counts is None else predictor.with_foreground()
            found = predict_dataset(runs, dataset, batch=batch, observe=observe)
            edges = BoundaryOptions() if boundaries else None
            result = evaluate_semantic(dataset, found, resamples=RESAMPLES, boundaries=edges, foreground=counts)
        else:
            found = predict_dataset(predictor.for_evaluation(), dataset, batch=batch)
            result = measure_of(predictor.task)(dataset, found, conf=conf, resamples=RESAMPLES)
        return with_added_metrics(with_context(result, whole, dataset, predictor), dataset, found)

    def predict(self, source: Any) -> list[Seen]:
        """What the model sees in each picture of `source`, in order.

        `source` is an array, a Pillow picture, a path, a folder, a pattern such as `shots/*.jpg`, a video, or a list of
        these; see `stream` for long videos.
        """
        return list(self.stream(source))

    def stream(self, source: Any) -> Iterator[Seen]:
        """As `predict`, one picture at a time, so that a video of any length fits into memory."""
        for frame in _frames(source):
            yield Seen(frame, self.predictor([frame.image])[0], self.class_names)

    def track(self, source: str | Path, *, tracker: str = "kalman-iou", **settings: Any) -> Iterator[Seen]:
        """As `stream` of a video, a folder of frames or a sequence, with the identity of each object over time.

        `settings` are the tracker's. Objects of no confirmed track (yet) have the id None. ConfigError for label maps.
        """
        if self.task == "semantic":
            raise ConfigError("a tracker must be given detections, got a model of label maps", do="call stream")
        follows = create_tracker(tracker, **settings)
        for frame in open_source(source):
            given: sv.Detections = self.predictor([frame.image])[0]
            tracked = follows.update(given, time_s=frame.time_s)
            yield Seen(frame, with_unconfirmed(given, tracked, follows.association), self.class_names)

    def export(self, out: str | Path | None = None, *, data: str | Path, images: int = 8) -> Any:
        """Write an ONNX file (beside the weights without `out`), only if it gives the model's own answers on `data`.

        Returns the `ExportResult` with the greatest differences found. ModelError where there are no weights.
        """
        if self.file is None or self.file.suffix != ".safetensors":
            raise ModelError(f"only weights (.safetensors) can be exported, got {self!r}")
        target = Path(out) if out is not None else self.file.with_suffix(".onnx")
        return _needing_torch("sightline.workbench.learning").export_model(self.file, target, data, images)


def _needing_torch(module: str) -> Any:
    """What trains and exports; models in ONNX files run without torch."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _TRAIN_PACKAGES:
            raise
        message = f"training and exporting need the package '{error.name}', got an installation without it"
        raise MissingExtraError(message, do="run pip install 'sightline[train]'") from None


def _divided(dataset: Dataset, split: str, division: Division) -> Dataset:
    if split == "all":
        return dataset
    return hold_out(dataset, train="train", val="val", fraction=division.val_fraction, seed=division.seed)[0]


def _frames(source: Any) -> Iterable[Frame]:
    if isinstance(source, (np.ndarray, Image.Image)):
        return _of_arrays(source)
    if isinstance(source, (str, Path)):
        return chain.from_iterable(map(open_source, find_sources(source)))
    if not isinstance(source, Iterable):
        raise ConfigError(f"a source must be a picture, a path or a list of them, got {type(source).__name__}")
    return chain.from_iterable(map(_frames, source))


def _of_arrays(source: Any) -> Iterator[Frame]:
    for number, pixels in enumerate(given_images(source)):
        yield Frame(as_rgb8(pixels), number, None, "array")
