"""`sightline eval`."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field

import sightline.data
import sightline.data.splits
import sightline.evaluate
import sightline.infer
import sightline.ops
import sightline.track
import sightline.workbench
from sightline.cli.console import DataPath, JsonFlag, emit_json, note, progress_bar, show_table, warn
from sightline.cli.network import AssemblyOptions, assembled, with_splits
from sightline.core.division import Division
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import check_regular, check_writable, refuse_overwriting, write_sealed_json
from sightline.core.predictions import Predictions
from sightline.core.runs import FINISHED_S, RunFolder
from sightline.core.text import parse_json

if TYPE_CHECKING:
    from sightline.core.dataset import Dataset
    from sightline.evaluate import DetectionResult, ForegroundCounts, PanopticResult, SemanticResult, TrackingResult
    from sightline.infer import NetworkPredictor

    Result = DetectionResult | PanopticResult | SemanticResult | TrackingResult

__all__ = ["evaluate"]

_RULES: Literal["mot15"] = "mot15"
_NOT_OF_TRACKS = "--sigmas, --max-dets, --best-conf, --conf, --iou-type and --resamples"


class EvaluateOptions(AssemblyOptions, Division):
    """What is measured, and how."""

    split: str = Field(
        default="val",
        description='Split to measure on; "all" for everything. '
        "Without splits in the data a share is held out as in training.",
    )
    iou_type: Literal["bbox", "segm", "keypoints", "obb"] | None = Field(
        default=None,
        description="Boxes, masks, keypoints or oriented boxes alone, for what has them; without it what the model "
        "gives, with the boxes' numbers beside.",
    )
    max_dets: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = Field(
        default=(),
        description="Most detections of an image and class for AR and, the last, AP: three numbers, or the "
        "last alone; 1, 10 and 100 without it, of keypoints 20.",
    )
    sigmas: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = Field(
        default=(),
        description="How far a good label of each keypoint may be off, over the root of the object's area (for OKS); "
        "without it COCO's of 17, else 1 / K of each.",
    )
    track: str | None = Field(
        default=None,
        description="Name of a tracker, as kalman-iou: sequences are tracked, and HOTA, CLEAR and Identity measured.",
    )
    preprocessing: Literal["none", "mot15", "mot17", "mot20"] | None = Field(
        default=None,
        description="Which benchmark's rules decide what ground truth of sequences counts; mot15 without it.",
    )
    conf: float | None = Field(
        default=None,
        description="Operating point for precision, recall and confusion; for --track the least score of a detection, "
        "for label maps of two classes the least probability of the foreground. Without it the model's own, chosen on "
        "its validation images.",
    )
    best_conf: bool = Field(
        default=False, description="Take the operating point with the best F1 on this very split: to choose one."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Images left out, by path or file name without suffix.")
    boundaries: bool = Field(
        default=False,
        description="Of label maps also how well boundaries are met: boundary F and IoU, surface distances (HD95, "
        "ASSD), errors in a band around edges.",
    )
    objects: bool = Field(
        default=False,
        description="Of label maps also what went wrong with connected parts, as of nuclei: missed, merged, split, of "
        "the wrong class, spurious.",
    )
    resamples: int = Field(
        default=1000, ge=0, description="Draws of the images for 95 % intervals of the headline numbers; 0 for none."
    )


_WRITTEN = ("tracking.json", "evaluation.json", "predictions.parquet")


def evaluate(
    data: DataPath,
    *,
    model: str | None = None,
    predictions: str | None = None,
    options: Annotated[EvaluateOptions, Parameter(name="*")] = EvaluateOptions(),  # noqa: B008 - frozen
    out: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Measure a model, or predictions made elsewhere, on a data set.

    Parameters
    ----------
    model
        A .safetensors or .onnx file of ours.
    predictions
        Predictions in place of a model: our Parquet, JSON Lines or CSV, COCO results or COCO panoptic (.json, with the
        folder of PNG files beside it), a folder with YOLO text or a mask for each image, or MOTChallenge results (.txt,
        or a folder of one .txt for each sequence). Images are found by name.
    options
        What is measured, and how.
    out
        Folder for evaluation.json (or tracking.json) and the predictions; that of a run, for its report, will do.
        Beside the numbers of another split they are called evaluation-SPLIT.json.
    """
    conf, track = options.conf, options.track
    if (model is None) == (predictions is None) or (track is not None and model is None):
        raise ConfigError("exactly one of --model and --predictions must be given, and --track only with a model")
    if track is not None and track not in sightline.track.TRACKERS:
        raise ConfigError(unknown_name("tracker", track, sightline.track.TRACKERS))
    if predictions is not None and options.model_fields_set & {*AssemblyOptions.model_fields}:
        raise ConfigError("--batch, --device, --threads, --tile and --also are for a model to run, got --predictions")
    whole_set = sightline.data.splits.exclude_images(sightline.data.read_dataset(data), options.exclude)
    predictor = None if model is None else _opened(model, options)
    wanted, what = {
        "segm": ("instance", "masks"),
        "keypoints": ("pose", "keypoints"),
        "obb": ("obb", "oriented boxes"),
    }.get(options.iou_type or "", ("", ""))
    if predictor is not None and wanted and predictor.task != wanted:
        do = f"leave it out, or give {what} that were found elsewhere with --predictions"
        message = f"--iou-type {options.iou_type} is for what has {what} of objects, got a model without"
        raise ConfigError(message, where=model, do=do)
    divided = with_splits(whole_set, options.split, options, predictor)
    dataset = divided if options.split == "all" or not divided.splits else divided.split(options.split)
    if out is not None:
        check_writable(Path(out) / name for name in _WRITTEN)
        RunFolder(Path(out)).check_free()
        inputs = sightline.data.dataset_files(dataset, data)
        refuse_overwriting((Path(out) / name for name in _WRITTEN), inputs if model is None else [model, *inputs])
    if options.best_conf and (conf is not None or track is not None):
        raise ConfigError("--best-conf must be given without --conf and --track, got both")
    _refuse_of_other_data(dataset, options, decided=predictor is None)
    if predictor is not None:
        result, found = _of_model(dataset, predictor, options)
    else:
        assert predictions is not None
        result, found = _of_predictions(dataset, predictions, options)
    result = sightline.workbench.with_context(result, divided, dataset, predictor)
    if options.also:
        result = replace(
            result, conventions={**result.conventions, "model_file": " + ".join([model or "", *options.also])}
        )
    if found is not None:  # MOTChallenge text alone is measured without a table of predictions
        result = sightline.evaluate.with_added_metrics(result, dataset, found)
    _show(result, json)  # first: what was measured is not lost where it cannot be kept
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        with RunFolder(Path(out)).held(FINISHED_S):
            _write(Path(out), dataset, result, found, predictions)
    return 0


def _refuse_of_other_data(dataset: "Dataset", options: EvaluateOptions, *, decided: bool) -> None:
    """ConfigError for what only label maps have, and for what they have not; `decided` are maps without a model."""
    if dataset.task == "semantic":
        if options.best_conf or _of_boxes(options):
            names = "--sigmas, --max-dets, --best-conf and --iou-type"
            raise ConfigError(f"{names} are for detections, got a set of label maps")
        if options.conf is not None and decided:
            raise ConfigError("--conf must come with a model where label maps are measured, got maps that are decided")
        return
    for name, given in (("--boundaries", options.boundaries), ("--objects", options.objects)):
        if given:
            raise ConfigError(f"{name} is for label maps, got data of task '{dataset.task}'")


def _opened(model: str, options: EvaluateOptions) -> "NetworkPredictor":
    """The model, with the whole curve kept where detections are measured."""
    track = options.track is not None
    conf = options.conf if track else None
    opened = sightline.infer.open_predictor(model, conf=conf, device=options.device, threads=options.threads)
    if opened.task == "semantic" and options.conf is not None:
        return opened.at_foreground(options.conf)
    return opened if track else opened.for_evaluation()


def _of_model(
    dataset: "Dataset", predictor: "NetworkPredictor", options: EvaluateOptions
) -> "tuple[Result, Predictions | None]":
    runs = assembled(predictor, options, lambda other: _opened(other, options))
    if options.track is not None:
        _refuse_beside_tracks("--sigmas, --iou-type, --max-dets and --resamples", _of_images(options))
        tracker = partial(sightline.track.create_tracker, options.track)
        with progress_bar() as bar:
            found = sightline.infer.track_dataset(runs, tracker, dataset, batch=options.batch, progress=bar)
        return _measure_tracks(dataset, found, options), found
    _refuse_without_tracks(options)
    counts = None
    # Tiles and cleaning decide in other ways than by a threshold of what the network says of the whole image.
    if runs is predictor and sightline.infer.is_binary(predictor.metadata) and dataset.task == "semantic":
        counts, runs = sightline.evaluate.ForegroundCounts(), predictor.with_foreground()
    observe = None if counts is None else counts.observer(dataset)
    with progress_bar() as bar:
        found = sightline.infer.predict_dataset(runs, dataset, batch=options.batch, progress=bar, observe=observe)
    return _measure(dataset, found, options, counts), found


def _of_predictions(dataset: "Dataset", path: str, options: EvaluateOptions) -> "tuple[Result, Predictions | None]":
    file = Path(path)
    beside = options.conf is not None or options.best_conf or _of_images(options)
    if (file.is_dir() and dataset.task == "track") or file.suffix == ".txt":
        _refuse_beside_tracks(_NOT_OF_TRACKS, beside)
        rules = options.preprocessing or _RULES
        return sightline.evaluate.evaluate_mot_results(dataset, file, preprocessing=rules), None
    found = sightline.evaluate.fit_predictions(dataset, sightline.data.read_predictions(file, dataset))
    if dataset.task == "track" and not found.table["track_id"].null_count():
        _refuse_beside_tracks(_NOT_OF_TRACKS, beside)
        return _measure_tracks(dataset, found, options), found
    _refuse_without_tracks(options)
    return _measure(dataset, found, options), found


def _of_boxes(options: EvaluateOptions) -> bool:
    """Whether something is given that only COCO's numbers know."""
    return options.iou_type is not None or options.max_dets != () or options.sigmas != ()


def _of_images(options: EvaluateOptions) -> bool:
    """Whether something is given that tracks do not know: they go over images, which cannot be drawn one by one."""
    return _of_boxes(options) or "resamples" in options.model_fields_set


def _refuse_beside_tracks(options: str, given: bool) -> None:
    if given:
        raise ConfigError(f"{options} must be left out where tracks are measured as they are")


def _refuse_without_tracks(options: EvaluateOptions) -> None:
    if options.preprocessing is not None:
        raise ConfigError("--preprocessing is for tracks, got none to measure", do="use --track with a model")


def _measure(
    dataset: "Dataset", found: Predictions, options: EvaluateOptions, foreground: "ForegroundCounts | None" = None
) -> "Result":
    if dataset.task == "semantic":
        edges = sightline.evaluate.BoundaryOptions() if options.boundaries else None
        return sightline.evaluate.evaluate_semantic(
            dataset,
            found,
            resamples=options.resamples,
            boundaries=edges,
            objects=options.objects,
            foreground=foreground,
        )
    if found.meta.get("task") == "panoptic":
        if options.conf is not None or options.best_conf or _of_boxes(options):
            message = (
                "--sigmas, --max-dets, --best-conf, --conf and --iou-type are for detections, got panoptic segments"
            )
            raise ConfigError(message)
        return sightline.evaluate.evaluate_panoptic(dataset, found, resamples=options.resamples)
    conf: float | Literal["best"] | None = "best" if options.best_conf else options.conf
    if len(options.max_dets) not in (0, 1, 3):
        raise ConfigError(f"--max-dets must be one number or three, got {len(options.max_dets)}")
    usual = sightline.evaluate.DEFAULT_MAX_DETS
    first, second, last = (
        options.max_dets if len(options.max_dets) == 3 else (*usual[:2], *options.max_dets, usual[2])[:3]
    )
    limits, draws = (first, second, last), options.resamples
    of_poses = (options.iou_type or found.meta.get("task")) in ("keypoints", "pose")
    if options.sigmas and not of_poses:
        raise ConfigError("--sigmas are for keypoints, got predictions of others")
    if of_poses and options.iou_type is None:
        most = options.max_dets[-1] if options.max_dets else sightline.evaluate.DEFAULT_MAX_POSES
        return sightline.evaluate.evaluate_pose(
            dataset, found, max_det=most, conf=conf, resamples=draws, sigmas=options.sigmas or None
        )
    if options.iou_type is None and found.meta.get("task") == "obb":
        return sightline.evaluate.evaluate_oriented(dataset, found, max_dets=limits, conf=conf, resamples=draws)
    has_masks = found.table["rle"].null_count() < len(found) or not len(found)
    if options.iou_type is None and found.meta.get("task") == "instance" and has_masks:
        return sightline.evaluate.evaluate_instances(dataset, found, max_dets=limits, conf=conf, resamples=draws)
    return sightline.evaluate.evaluate_detection(
        dataset,
        found,
        iou_type=options.iou_type or "bbox",
        max_dets=limits,
        conf=conf,
        resamples=draws,
        sigmas=options.sigmas or None,
    )


def _measure_tracks(dataset: "Dataset", found: Predictions, options: EvaluateOptions) -> "Result":
    rules = options.preprocessing or _RULES
    return sightline.evaluate.evaluate_tracking(dataset, found, preprocessing=rules)


def _write(folder: Path, dataset: "Dataset", result: "Result", found: Predictions | None, source: str | None) -> None:
    tracking = isinstance(result, sightline.evaluate.TrackingResult)
    kind = "tracking" if tracking else "evaluation"
    of_split = "" if tracking else _other_split(folder, result)
    write_sealed_json(folder / f"{kind}{of_split}.json", result)
    saved = folder / f"predictions{of_split}.parquet"
    if found is not None and not (source is not None and saved.exists() and saved.samefile(source)):
        found.save(saved)
    if tracking and found is not None:
        sightline.data.write_mot_predictions(dataset, found, folder / "mot")


def _other_split(folder: Path, result: "Result") -> str:
    """`-test` where the folder has the numbers of another split already, which must not be lost; else nothing."""
    split = str(result.conventions["split"])
    try:
        check_regular(folder / "evaluation.json")
        earlier = parse_json((folder / "evaluation.json").read_bytes())["conventions"]["split"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "" if earlier == split else f"-{re.sub(r'[^A-Za-z0-9_.-]+', '-', split)}"


def _show(result: "Result", as_json: bool) -> None:
    for line in getattr(result, "warnings", ()):
        warn(line)
    if as_json:
        emit_json(result)
        return
    if isinstance(result, sightline.evaluate.TrackingResult):
        # A column for each sequence: thirty metrics do not fit beside each other.
        columns = [*result.sequences, result.combined]
        rows = [(metric, *(c.metrics[metric] for c in columns)) for metric in result.combined.metrics]
        show_table("", ("metric", *(c.name for c in columns)), rows)
    elif isinstance(result, sightline.evaluate.DetectionResult):
        point = result.operating_point
        show_table(result.title, result.to_frame().columns, result.to_frame().rows())
        note(f"precision, recall, F1 and confusion at confidence {point.conf:.4g} ({point.origin})")
        show_table("by class", result.per_class.columns, result.per_class.rows())
    else:
        show_table("", result.to_frame().columns, result.to_frame().rows())
        at = getattr(result, "operating_point", None)
        if at is not None:
            note(f"foreground from probability {at.conf:.4g} on ({at.origin})")
        edges = [name for name in result.per_class.columns if name in sightline.evaluate.BOUNDARY_COLUMNS]
        pixels = result.per_class.drop(edges)
        show_table("by class", pixels.columns, pixels.rows())
        if edges:
            of_edges = result.per_class.select("class", *edges)
            show_table("boundaries by class", of_edges.columns, of_edges.rows())
    errors = getattr(result, "object_errors", None)
    if errors is not None:
        show_table("errors of objects", errors.columns, errors.rows())
    for key, value in result.conventions.items():
        note(f"{key}: {value}")
