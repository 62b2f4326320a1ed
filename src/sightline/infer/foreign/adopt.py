"""From a graph, or any function of images, made elsewhere to a predictor of ours, with what shows that it is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic

import sightline
from sightline.core.config import Config
from sightline.core.dataset import Dataset
from sightline.core.decoding import READINGS, Decoding
from sightline.core.errors import ConfigError, ModelError
from sightline.core.files import file_sha256
from sightline.core.metadata import METADATA_KEY, ModelMetadata, OperatingPoint
from sightline.core.preprocess import Preprocess
from sightline.core.process import Progress
from sightline.core.text import printable, well_formed
from sightline.infer.decoding.network import ForeignNetwork, Runs, feed, session_runs
from sightline.infer.foreign.file import write_adopted
from sightline.infer.foreign.recognise import (
    Given,
    GraphInput,
    Stated,
    check_input,
    class_count_of,
    find_readings,
    read_stated,
)
from sightline.infer.foreign.trial import (
    FITS,
    SCALES,
    Trial,
    choose,
    labelled_sample,
    try_each,
    ways_to_feed,
)
from sightline.infer.network_predictor import NetworkPredictor
from sightline.infer.onnx_session import choose_provider, open_session, session_name
from sightline.media import read_image

__all__ = ["AdoptHints", "AdoptedGraph", "adopt_function", "adopt_onnx", "read_onnx"]

Channels = Literal["rgb", "bgr", "gray"]
Scale = Literal["0..1", "imagenet", "0..255", "-1..1"]
Fit = Literal["letterbox", "stretch"]
_PROBE_BATCH = 1


class AdoptHints(Config):
    """What is known of a model made elsewhere; what is not given is taken from the file, or found by trying."""

    reading: str | None = None
    channels: Channels | None = None
    scale: Scale | None = None
    fit: Fit | None = None
    imgsz: tuple[int, int] | None = None
    licence: str | None = None
    images: int = pydantic.Field(default=16, ge=1)


@dataclass(frozen=True)
class AdoptedGraph:
    """The predictor, and the ways that were tried on labelled pictures, the best first; empty where none was.

    `near` are those that the pictures do not tell from the one that was chosen.
    """

    predictor: NetworkPredictor
    trials: tuple[Trial, ...]
    chosen: Trial
    near: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class _Graph:
    """A network made elsewhere before it is understood."""

    where: str
    taken: GraphInput
    outputs: tuple[str, ...]
    stated: Stated
    runs_for: Callable[[Decoding], Runs]
    backend: str
    digest: str
    origin: dict[str, Any] = field(default_factory=dict)


def adopt_onnx(
    path: str | Path,
    out: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    dataset: Dataset | None = None,
    hints: AdoptHints = AdoptHints(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> AdoptedGraph:
    """Recognise an ONNX file of another tool, as `read_onnx`, and write a copy that carries our metadata."""
    found = read_onnx(path, class_names=class_names, dataset=dataset, hints=hints, progress=progress)
    return replace(found, predictor=write_adopted(Path(path), Path(out), found.predictor.metadata))


def read_onnx(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    dataset: Dataset | None = None,
    hints: AdoptHints = AdoptHints(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> AdoptedGraph:
    """Recognise an ONNX file of another tool.

    ModelError for a file that is none, is ours already, or holds outputs of no known kind; ConfigError where several
    readings or ways to feed it are possible and nothing says which.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelError("no such file", where=str(path))
    session = open_session(source, choose_provider("cpu"))
    entries = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY in entries:
        raise ModelError("the file must be of another tool, got one that carries Sightline's metadata", where=str(path))
    stated = read_stated(entries)
    if stated.task not in (None, "detect", "segment", "semantic"):
        message = f"a graph for boxes or masks of objects or maps of classes can be adopted, got '{stated.task}'"
        raise ModelError(message, where=str(path))
    digest = file_sha256(source)
    graph = _Graph(
        where=str(path),
        taken=check_input(session.get_inputs(), str(path)),
        outputs=tuple(o.name for o in session.get_outputs()),
        stated=stated,
        runs_for=lambda decoding: session_runs(session, decoding, str(path)),
        backend=session_name(session),
        digest=f"sha256:{digest}",
        origin={"file": printable(well_formed(source.name)), "sha256": digest, **stated.notes},
    )
    return _understand(graph, class_names, dataset, hints, progress)


def adopt_function(
    function: Callable[[npt.NDArray[np.float32]], Any],
    *,
    class_names: Sequence[str] | None = None,
    dataset: Dataset | None = None,
    hints: AdoptHints = AdoptHints(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> AdoptedGraph:
    """As `adopt_onnx`, of any function of a batch (B, C, H, W) float32 that returns an array or several.

    `hints.imgsz` must be given. What it returns runs in this process alone: a function goes into no file.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    where = f"function {name}"
    if hints.imgsz is None:
        raise ConfigError("imgsz must be given for a function, got nothing", where=where)

    def runs(fed: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        made = function(fed)
        return tuple(np.asarray(a) for a in (made if isinstance(made, (tuple, list)) else (made,)))

    channels = 1 if hints.channels == "gray" else 3
    taken = GraphInput("images", "nchw", "float32", hints.imgsz, channels)
    outputs = runs(np.zeros((_PROBE_BATCH, channels, *hints.imgsz), np.float32))
    names = tuple(f"output {i}" for i in range(len(outputs)))
    graph = _Graph(where, taken, names, Stated(), lambda decoding: _ordered(runs, names, decoding), name, "unknown")
    return _understand(graph, class_names, dataset, hints, progress)


def _ordered(runs: Runs, names: tuple[str, ...], decoding: Decoding) -> Runs:
    places = [names.index(name) for name in decoding.outputs]

    def ordered(fed: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        outputs = runs(fed)
        return tuple(outputs[place] for place in places)

    return ordered


def _understand(
    graph: _Graph,
    class_names: Sequence[str] | None,
    dataset: Dataset | None,
    hints: AdoptHints,
    progress: Progress | None,
) -> AdoptedGraph:
    size_hw = _size(graph, hints)
    sample = None if dataset is None else labelled_sample(dataset, hints.images)
    given = tuple(class_names) if class_names is not None else graph.stated.class_names
    if given is None and sample is not None:
        given = sample.class_names
    decodings = _readings(graph, size_hw, given, sample, hints.reading)
    feeds = _feeds(graph, size_hw, hints, known=sample is not None)
    trials = [Trial(decoding, preprocess, scale) for decoding in decodings for scale, preprocess in feeds]
    if given is None:
        do = "give them with --names, in the model's order, or labelled pictures with --data"
        raise ConfigError("class names must be known, got a model that states none", where=graph.where, do=do)
    measured: list[Trial] = []
    near: list[Trial] = []
    if sample is None:
        _one_of(decodings, graph.where)
        chosen = trials[0]
    else:
        measured = try_each(trials, lambda t: _predictor(graph, t, given, hints), sample, progress)
        chosen, near = choose(measured, trials, graph.where)
    return AdoptedGraph(_predictor(graph, chosen, given, hints), tuple(measured), chosen, tuple(near))


def _size(graph: _Graph, hints: AdoptHints) -> tuple[int, int]:
    fixed = graph.taken.size_hw
    size = hints.imgsz or fixed or graph.stated.size_hw
    if size is None:
        do = "give it with --imgsz"
        raise ConfigError(
            "the size of pictures must be known, got a file that leaves it open", where=graph.where, do=do
        )
    if fixed is not None and size != fixed:
        raise ConfigError(f"imgsz must be {fixed[0]} x {fixed[1]}, the graph's own, got {size[0]} x {size[1]}")
    return size


def _readings(
    graph: _Graph, size_hw: tuple[int, int], names: tuple[str, ...] | None, sample: Dataset | None, wanted: str | None
) -> list[Decoding]:
    """The ways the outputs of one picture can be meant; ModelError where there is none of that name or none at all."""
    all_outputs = Decoding(reading="map", input=graph.taken.name, layout=_layout(graph), input_type=_type(graph))
    channels = "gray" if graph.taken.channel_count == 1 else "rgb"
    _, preprocess = ways_to_feed(size_hw, [channels], ["0..1"], ["letterbox"])[0]
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    picture = noise if sample is None else read_image(sample.image_path(sample.images["path"][0]))
    pixels = preprocess.apply(picture)[0][None]
    fed = feed(pixels * 255 if all_outputs.input_type == "uint8" else pixels, all_outputs)
    outputs = graph.runs_for(all_outputs.model_copy(update={"outputs": graph.outputs}))(fed)
    count = None if names is None else len(names)
    found = find_readings(graph.outputs, outputs, Given(count, size_hw), graph.taken)
    if not found:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(graph.outputs, outputs, strict=False))
        of_any = find_readings(graph.outputs, outputs, Given(None, size_hw), graph.taken)
        counts = sorted({c for d in of_any if (c := class_count_of(d, _picked(graph, outputs, d))) is not None})
        if counts:
            message = (
                f"class names must be as many as the outputs' classes ({' or '.join(map(str, counts))}), got {count}"
            )
            raise ConfigError(f"{message} ({shapes})", where=graph.where, do="give them with --names")
        known = "; ".join(f"{name} {text}" for name, text in READINGS.items())
        raise ModelError(f"outputs must be of a known kind, got {shapes}", where=graph.where, do=f"known are: {known}")
    if wanted is None:
        return found
    chosen = [decoding for decoding in found if wanted in (decoding.name, decoding.reading)]
    if not chosen:
        possible = ", ".join(decoding.name for decoding in found)
        raise ConfigError(f"--reading must be one the outputs allow ({possible}), got '{wanted}'", where=graph.where)
    return chosen


def _picked(graph: _Graph, outputs: Sequence[npt.NDArray[Any]], decoding: Decoding) -> list[npt.NDArray[Any]]:
    return [outputs[graph.outputs.index(name)] for name in decoding.outputs]


def _layout(graph: _Graph) -> Any:
    return graph.taken.layout


def _type(graph: _Graph) -> Any:
    return graph.taken.input_type


def _feeds(graph: _Graph, size_hw: tuple[int, int], hints: AdoptHints, *, known: bool) -> list[tuple[str, Preprocess]]:
    """The ways pictures can be fed; ConfigError where they are open and there is nothing to try them on."""
    gray = graph.taken.channel_count == 1
    channels: list[str] = ["gray"] if gray else ["rgb", "bgr"]
    scales, fits = list(SCALES), list(FITS)
    if graph.stated.by_ultralytics:
        channels, scales, fits = channels[:1], scales[:1], fits[:1]
    if graph.taken.input_type == "uint8":
        scales = ["0..255"]
    channels = [hints.channels] if hints.channels is not None else channels
    scales = [hints.scale] if hints.scale is not None else scales
    fits = [hints.fit] if hints.fit is not None else fits
    if (hints.channels == "gray") != gray and hints.channels is not None and graph.taken.channel_count is not None:
        raise ConfigError(f"channels must fit the graph's {graph.taken.channel_count}, got {hints.channels}")
    open_ones = [f"--{n}" for n, c in (("channels", channels), ("scale", scales), ("fit", fits)) if len(c) > 1]
    if open_ones and not known:
        raise ConfigError(
            f"how pictures are fed must be known, got a model that does not say it ({', '.join(open_ones)} are open)",
            where=graph.where,
            do="give labelled pictures to try it on with --data, or choose with those options",
        )
    return ways_to_feed(size_hw, channels, scales, fits)


def _one_of(decodings: Sequence[Decoding], where: str) -> None:
    if len(decodings) > 1:
        raise ConfigError(
            "one reading of the outputs must be possible, got several",
            where=where,
            do="choose one with --reading, or give labelled pictures to try them on with --data",
            lines=[f"{decoding.name}: {READINGS[decoding.reading]}" for decoding in decodings],
        )


def _predictor(graph: _Graph, trial: Trial, names: tuple[str, ...], hints: AdoptHints) -> NetworkPredictor:
    decoding, preprocess = trial.decoding, trial.preprocess
    point = OperatingPoint(suppression="none") if decoding.suppressed else OperatingPoint()
    measured = {} if trial.value is None else {"tried_on_labels": round(trial.value, 4)}
    metadata = ModelMetadata.load(
        {
            "sightline_version": sightline.__version__,
            "architecture": f"{decoding.name} of {graph.stated.tool or 'another tool'}",
            "arguments": {},
            "task": trial.task,
            "class_names": names,
            "preprocess": preprocess,
            "operating_point": None if trial.task == "semantic" else point,
            "decoding": decoding,
            "model_digest": graph.digest,
            "licence": hints.licence or graph.stated.licence or "unstated",
            "training": {"adopted_from": {**graph.origin, **measured}},
        },
        where=graph.where,
    )
    network = ForeignNetwork(
        graph.runs_for(decoding), decoding, len(names), preprocess.size_hw, backend=graph.backend, where=graph.where
    )
    return NetworkPredictor(network, metadata, point, where=graph.where, max_batch=1)
