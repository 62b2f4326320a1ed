"""`sightline thresholds`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

import sightline.data
import sightline.deploy
import sightline.infer
import sightline.models
import sightline.report
from sightline.cli.console import DataPath, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.cli.network import NetworkOptions, with_splits
from sightline.core.division import Division
from sightline.core.errors import ConfigError
from sightline.core.files import check_writable, refuse_overwriting, write_json_atomic
from sightline.core.operating_point import OperatingPoint, Suppression

if TYPE_CHECKING:
    from sightline.infer import NetworkPredictor, ThresholdsResult

__all__ = ["thresholds"]

_SHOWN = 12


class ThresholdOptions(NetworkOptions, Division):
    """The grid, and what is best."""

    split: str = Field(default="val", description='Split to choose on; "all" for everything.')
    conf: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="Least scores to try; 0.001, 0.01, 0.05, 0.1 and 0.25 without it."
    )
    iou: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="IoUs of suppression to try; 0.45 to 0.7 in steps of 0.05 without it."
    )
    max_det: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="Most detections of an image to try; 300 and 3000 without it."
    )
    suppression: Annotated[tuple[Suppression, ...], Parameter(consume_multiple=True)] = Field(
        default=(),
        description="To try: nms (alone, without it), agnostic, diou, soft-linear, soft-gaussian, none.",
    )
    sigma: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = Field(
        default=(), description="Of soft-gaussian, in place of the IoU, to try: the smaller, the faster scores decay."
    )
    by: Literal["F1", "AP", "AP50"] = Field(default="F1", description="What the best point has most of.")
    by_size: bool = Field(default=False, description="Choose a least score for small, medium and large boxes each.")


def thresholds(
    model: str,
    data: DataPath,
    *,
    options: Annotated[ThresholdOptions, Parameter(name="*")] = ThresholdOptions(),  # noqa: B008 - frozen
    store: bool = False,
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Find the thresholds a detector is best run with: every combination of a grid, measured on validation images.

    Of a model with masks the masks are judged; of label maps of two classes the least probability of the foreground
    with the best Dice is found.

    Parameters
    ----------
    model
        A .safetensors or .onnx file of ours.
    data
        Data set whose images are labelled.
    options
        The grid, and what is best.
    store
        Write the best point into the model file, which then runs with it, and what it was chosen on.
    out
        Folder for thresholds.json and thresholds.html, the table with its surfaces.
    """
    given = options.model_dump(include=set(sightline.infer.ThresholdGrid.model_fields), exclude_defaults=True)
    grid = sightline.infer.ThresholdGrid.load(given, where="the grid")
    written = [] if out is None else [Path(out) / "thresholds.json", Path(out) / "thresholds.html"]
    predictor = sightline.infer.open_predictor(model, device=options.device, threads=options.threads)
    of_maps = sightline.infer.is_binary(predictor.metadata)
    if predictor.task not in ("detect", "instance") and not of_maps:
        got = f"the task {predictor.task}" if predictor.task != "semantic" else "one of several classes"
        message = f"thresholds must be sought for a model of boxes, objects or label maps of two classes, got {got}"
        raise ConfigError(message, where=model)
    if of_maps and (given or options.by_size or "by" in options.model_fields_set):
        message = "the grid, --by and --by-size are for detectors, got a model of label maps, whose threshold is one"
        raise ConfigError(message, where=model)
    whole = sightline.data.read_dataset(data)
    check_writable([*written, *([Path(model)] if store else [])])
    refuse_overwriting(written, [model, *sightline.data.dataset_files(whole, data)])
    divided = with_splits(whole, options.split, options, predictor)
    dataset = divided if options.split == "all" or not divided.splits else divided.split(options.split)
    with progress_bar() as bar:
        if of_maps:
            result = sightline.infer.search_foreground(predictor, dataset, progress=bar)
        else:
            result = sightline.infer.search_thresholds(
                predictor, dataset, grid, criterion=options.by, by_size=options.by_size, progress=bar
            )
    if out is not None:
        write_json_atomic(written[0], result)
        sightline.report.write_study_page(f"Thresholds of {Path(model).name}", result, written[1])
    if store:
        _store(Path(model), predictor, result)
    if json:
        emit_json(result)
        return 0
    table = result.to_frame().head(_SHOWN)
    show_table(
        f"{len(result.table)} points on {len(dataset)} images, best {result.criterion} first",
        table.columns,
        table.rows(),
    )
    said = f"foreground from probability {result.best.conf:.4g} on" if of_maps else _said(result.best)
    note(f"best {result.criterion}: {result.value:.3f} with {said}")
    note("chosen on these images: judge it on others, as sightline eval --split test")
    for path in written[1:]:
        note(f"page: {path}")
    return 0


def _store(model: Path, predictor: "NetworkPredictor", result: "ThresholdsResult") -> None:
    chosen = {key: result.conventions[key] for key in ("data", "split", "images", "label_digest")}
    training = predictor.metadata.training | {"operating_point_by": result.criterion, "operating_point_on": chosen}
    described = predictor.metadata.model_copy(update={"operating_point": result.best, "training": training})
    if model.suffix.lower() == ".onnx":
        sightline.deploy.restate_onnx(model, described)
    else:
        sightline.models.restate_weights(model, described)
    note(f"{model} now runs with it")


def _said(point: OperatingPoint) -> str:
    by = f"sigma {point.sigma:g}" if point.suppression == "soft-gaussian" else f"iou {point.iou:g}"
    parts = [f"conf {point.conf:.3g}", by, f"max_det {point.max_det}", point.suppression]
    if point.conf_by_size is not None:
        parts.append("conf by size " + "/".join(f"{conf:.3g}" for conf in point.conf_by_size))
    return ", ".join(parts)
