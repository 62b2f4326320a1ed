"""`sightline eval`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sightline.data
import sightline.data.splits
import sightline.evaluate
import sightline.infer
import sightline.ops
import sightline.track
from sightline.cli.console import Count, JsonFlag, emit_json, note, progress_bar, show_table
from sightline.core.errors import ConfigError
from sightline.core.files import write_json_atomic
from sightline.core.predictions import Predictions

if TYPE_CHECKING:
    from sightline.core.dataset import Dataset
    from sightline.evaluate import DetectionResult, SemanticResult, TrackingResult
    from sightline.infer import NetworkPredictor

    Result = DetectionResult | SemanticResult | TrackingResult

__all__ = ["evaluate"]

IouType = Literal["bbox", "segm"]
Preprocessing = Literal["none", "mot15", "mot17", "mot20"]
_RULES: Preprocessing = "mot15"
_BATCH = 8


def evaluate(
    *,
    data: str,
    model: str | None = None,
    predictions: str | None = None,
    split: str = "val",
    iou_type: IouType = "bbox",
    track: str | None = None,
    preprocessing: Preprocessing | None = None,
    conf: float | None = None,
    exclude: tuple[str, ...] = (),
    val_fraction: float = 0.2,
    seed: int = 0,
    batch: Count | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    threads: Count | None = None,
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Measure a model, or predictions made elsewhere, on a data set.

    Parameters
    ----------
    data
        Path of the data set.
    model
        A .safetensors or .onnx file of ours.
    predictions
        Predictions in place of a model: our Parquet, COCO results (.json), or MOTChallenge results (.txt, or a folder
        of one .txt for each sequence).
    split
        Split to measure on; "all" for everything. Without splits in the data a share is held out as in training.
    iou_type
        Boxes or masks, for predictions with masks.
    track
        Name of a tracker: sequences are tracked and HOTA, CLEAR and Identity are measured.
    preprocessing
        Which benchmark's rules decide what ground truth of sequences counts; mot15 without it.
    conf
        Operating point for precision, recall and confusion; for --track the least score of a detection. Without it the
        best F1 on this split, or the model's own operating point for --track.
    exclude
        Images left out, by path or file name without suffix.
    val_fraction
        Share held out where the data names no splits.
    seed
        Seed of that choice.
    batch
        Images per forward pass; 8 without it.
    device
        Where a torch model runs.
    threads
        Threads the network may use.
    out
        Folder for evaluation.json (or tracking.json) and the predictions; that of a run, for its report, will do.
    json
        Print the result as JSON.
    """
    if (model is None) == (predictions is None) or (track is not None and model is None):
        raise ConfigError("exactly one of --model and --predictions must be given, and --track only with a model")
    if predictions is not None and (batch, device, threads) != (None, None, None):
        raise ConfigError("--batch, --device and --threads are for a model to run, got --predictions")
    dataset = _choose(
        sightline.data.splits.exclude_images(sightline.data.read_dataset(data), exclude), split, val_fraction, seed
    )
    if dataset.task == "semantic" and (conf is not None or iou_type != "bbox"):
        raise ConfigError("--conf and --iou-type are for detections, got a data set of label maps")
    if model is not None:
        whole = {} if track is not None else sightline.ops.EVALUATION.model_dump()
        predictor = sightline.infer.open_predictor(
            model, **({"conf": conf} | whole), device=device or "auto", threads=threads
        )
        result, found = _of_model(dataset, predictor, track, iou_type, preprocessing, conf, batch or _BATCH)
    else:
        assert predictions is not None
        result, found = _of_predictions(dataset, predictions, iou_type, preprocessing, conf)
    if out is not None:
        _write(Path(out), dataset, result, found)
    _show(result, json)
    return 0


def _of_model(
    dataset: "Dataset",
    predictor: "NetworkPredictor",
    track: str | None,
    iou_type: IouType,
    preprocessing: Preprocessing | None,
    conf: float | None,
    batch: int,
) -> "tuple[Result, Predictions | None]":
    if track is not None:
        _refuse_beside_tracks("--iou-type", iou_type != "bbox")
    else:
        _refuse_without_tracks(preprocessing)
    with progress_bar() as bar:
        if track is not None:
            tracker = partial(sightline.track.create_tracker, track)
            found = sightline.infer.track_dataset(predictor, tracker, dataset, batch=batch, progress=bar)
            return sightline.evaluate.evaluate_tracking(dataset, found, preprocessing=preprocessing or _RULES), found
        found = sightline.infer.predict_dataset(predictor, dataset, batch=batch, progress=bar)
        return _measure(dataset, found, iou_type, conf), found


def _choose(dataset: "Dataset", split: str, val_fraction: float, seed: int) -> "Dataset":
    if split == "all" or (not dataset.splits and dataset.task == "track"):
        return dataset
    divided, said = sightline.data.splits.hold_out(dataset, train="train", val="val", fraction=val_fraction, seed=seed)
    for line in said:
        note(line)
    return divided.split(split)


def _of_predictions(
    dataset: "Dataset",
    path: str,
    iou_type: IouType,
    preprocessing: Preprocessing | None,
    conf: float | None,
) -> "tuple[Result, Predictions | None]":
    file = Path(path)
    if file.is_dir() or file.suffix == ".txt":
        _refuse_beside_tracks("--conf and --iou-type", conf is not None or iou_type != "bbox")
        return sightline.evaluate.evaluate_mot_results(dataset, file, preprocessing=preprocessing or _RULES), None
    found = sightline.data.read_coco_results(file, dataset) if file.suffix == ".json" else Predictions.load(file)
    if dataset.task == "track" and not found.table["track_id"].null_count():
        _refuse_beside_tracks("--conf and --iou-type", conf is not None or iou_type != "bbox")
        return sightline.evaluate.evaluate_tracking(dataset, found, preprocessing=preprocessing or _RULES), found
    _refuse_without_tracks(preprocessing)
    return _measure(dataset, found, iou_type, conf), found


def _refuse_beside_tracks(options: str, given: bool) -> None:
    if given:
        raise ConfigError(f"{options} must be left out where tracks are measured as they are")


def _refuse_without_tracks(preprocessing: Preprocessing | None) -> None:
    if preprocessing is not None:
        raise ConfigError("--preprocessing is for tracks, got none to measure", do="use --track with a model")


def _measure(dataset: "Dataset", found: Predictions, iou_type: IouType, conf: float | None) -> "Result":
    if dataset.task == "semantic":
        return sightline.evaluate.evaluate_semantic(dataset, found)
    return sightline.evaluate.evaluate_detection(dataset, found, iou_type=iou_type, conf=conf)


def _write(folder: Path, dataset: "Dataset", result: "Result", found: Predictions | None) -> None:
    name = "tracking.json" if isinstance(result, sightline.evaluate.TrackingResult) else "evaluation.json"
    write_json_atomic(folder / name, result)
    if found is not None:
        found.save(folder / "predictions.parquet")
    if isinstance(result, sightline.evaluate.TrackingResult) and found is not None:
        sightline.data.write_mot_predictions(dataset, found, folder / "mot")


def _show(result: "Result", as_json: bool) -> None:
    if as_json:
        emit_json(result)
        return
    if isinstance(result, sightline.evaluate.TrackingResult):
        # A column for each sequence: thirty metrics do not fit beside each other.
        columns = [*result.sequences, result.combined]
        rows = [(metric, *(c.metrics[metric] for c in columns)) for metric in result.combined.metrics]
        show_table("", ("metric", *(c.name for c in columns)), rows)
    else:
        show_table("", ("metric", "value"), result.to_frame().rows())
        show_table("by class", result.per_class.columns, result.per_class.rows())
    for key, value in result.conventions.items():
        note(f"{key}: {value}")
