"""`sightline review`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

import sightline.data
import sightline.data.splits
import sightline.evaluate
import sightline.infer
import sightline.report
import sightline.workbench
from sightline.cli.console import DataPath, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.cli.network import AssemblyOptions, assembled, with_splits
from sightline.core.division import Division
from sightline.core.errors import ConfigError
from sightline.core.files import check_writable, refuse_overwriting

if TYPE_CHECKING:
    from sightline.core.dataset import Dataset
    from sightline.core.predictions import Predictions
    from sightline.evaluate import DetectionResult, SemanticResult
    from sightline.infer import NetworkPredictor

__all__ = ["review"]

_SHOWN = 10


class ReviewOptions(AssemblyOptions, Division):
    """What is reviewed, and how it runs."""

    split: str = Field(default="val", description='Split to review; "all" for everything.')
    exclude: tuple[str, ...] = Field(default=(), description="Images left out, by path or file name without suffix.")


def review(
    model: str | None = None,
    data: DataPath | None = None,
    *,
    predictions: str | None = None,
    options: Annotated[ReviewOptions, Parameter(name="*")] = ReviewOptions(),  # noqa: B008 - frozen
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Write what a model got right and wrong, image by image: masks, overlays, errors, numbers, and a page of them.

    Parameters
    ----------
    model
        A .safetensors or .onnx file of ours.
    predictions
        Predictions in place of a model, as 'sightline eval' takes them.
    options
        What is reviewed, and how it runs.
    out
        Folder for the package, outside the data; review/NAME without it. An earlier review there is replaced.
    """
    if (model is None) == (predictions is None) or data is None:
        raise ConfigError("a data set and either a model or --predictions must be given")
    if predictions is not None and options.model_fields_set & {*AssemblyOptions.model_fields}:
        raise ConfigError("options of a model that runs, as --tile and --batch, must be left out beside --predictions")
    whole = sightline.data.splits.exclude_images(sightline.data.read_dataset(data), options.exclude)
    predictor = None if model is None else _opened(model, options)
    divided = with_splits(whole, options.split, options, predictor)
    dataset = divided if options.split == "all" or not divided.splits else divided.split(options.split)
    if dataset.task == "track":
        raise ConfigError("a review must be of images, got sequences", where=str(data), do="sightline eval --track")
    folder = Path(out) if out is not None else Path("review") / Path(model or str(predictions)).stem
    check_writable([folder / "index.html"])
    given = [path for path in (model, predictions) if path is not None]
    refuse_overwriting([folder / "predictions.parquet"], [*given, *sightline.data.dataset_files(dataset, data)])
    sightline.report.check_review(dataset, folder)
    found = _found(dataset, predictor, predictions, options)
    if dataset.task == "semantic":
        measured: DetectionResult | SemanticResult = sightline.evaluate.evaluate_semantic(dataset, found)
    else:
        measured = sightline.evaluate.measure_of(found.meta.get("task") or dataset.task)(dataset, found)
    result = sightline.workbench.with_context(measured, divided, dataset, predictor)
    with progress_bar() as bar:
        written = sightline.report.write_review(dataset, found, result, folder, bar)
    if json:
        emit_json(written)
        return 0
    columns = [name for name in (written.images[0] if written.images else {}) if name != "folder"]
    rows = [[image[name] for name in columns] for image in written.images[:_SHOWN]]
    show_table(f"{len(written.images)} images, the worst first", columns, rows)
    note(f"page: {written.page}")
    return 0


def _opened(model: str, options: ReviewOptions) -> "NetworkPredictor":
    opened = sightline.infer.open_predictor(model, device=options.device, threads=options.threads)
    return opened.for_evaluation().with_confidence()


def _found(
    dataset: "Dataset", predictor: "NetworkPredictor | None", file: str | None, options: ReviewOptions
) -> "Predictions":
    if predictor is None:
        return sightline.evaluate.fit_predictions(dataset, sightline.data.read_predictions(str(file), dataset))
    runs = assembled(predictor, options, lambda other: _opened(other, options))
    with progress_bar() as bar:
        return sightline.infer.predict_dataset(runs, dataset, batch=options.batch, progress=bar)
