"""`sightline demo`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sightline.audit import audit_dataset
from sightline.cli.console import Count, JsonFlag, TrainWatcher, emit_json, note, progress_bar, show_table
from sightline.cli.export import parity_images
from sightline.core.errors import SightlineError
from sightline.core.runs import RunFolder
from sightline.data import read_dataset
from sightline.deploy import export_onnx
from sightline.evaluate import RESAMPLES, TrackingResult, evaluate_detection, evaluate_mot_files
from sightline.infer import create_sinks, open_predictor, open_source, predict_dataset, run_pipeline
from sightline.report import write_report
from sightline.synth import SynthResult, generate
from sightline.track import create_tracker
from sightline.train import Augmentation, TrainConfig, train
from sightline.workbench import with_context

__all__ = ["demo"]

_LEAST_CONF = 0.1

_T = TypeVar("_T")


def demo(
    *,
    out: str = "demo",
    images: Count = 540,
    video_frames: Count = 200,
    epochs: Count = 28,
    imgsz: int = 256,
    seed: int = 1,
    json: JsonFlag = False,
) -> int:
    """Run the whole chain on generated data: audit, train, evaluate, export, track a video, report.

    Parameters
    ----------
    out
        Folder for everything; an earlier demo's data there is made anew.
    images
        Generated images, a ninth of them for validation.
    video_frames
        Frames of the generated video.
    epochs
        Training epochs.
    imgsz
        Side of the network's input.
    seed
        Seed of everything random.
    """
    settings = _settings(Path(out) / "data", epochs, imgsz, seed)
    chain = _Chain(Path(out), seed)
    made = chain.stage("generate", lambda: chain.generate(images, video_frames))
    chain.stage("audit", chain.audit)
    chain.stage("train", lambda: chain.train(settings))
    chain.stage("evaluate", chain.evaluate)
    chain.stage("export", chain.export)
    chain.stage("video", lambda: chain.video(made))
    chain.stage("tracking", lambda: chain.tracking(made))
    chain.stage("report", chain.report)
    if json:
        emit_json({"stages": chain.rows, "run": chain.run.path})
    else:
        rows = [(row["stage"], row["outcome"], row["seconds"]) for row in chain.rows]
        show_table("the whole chain on generated data", ("stage", "outcome", "seconds"), rows)
    return 0


def _settings(data: Path, epochs: int, imgsz: int, seed: int) -> TrainConfig:
    values = {
        "data": str(data),
        "model": "yolo11n",
        "epochs": epochs,
        "imgsz": imgsz,
        "batch": 8,  # many small steps: a run this short needs steps more than smooth gradients
        "seed": seed,
        "augment": Augmentation(scale=0.3),  # all scenes are seen from about one height
        "pictures_every": max(1, epochs // 6),
    }
    return TrainConfig.load(values)


class _Chain:
    """The stations in order; each leaves a row for the table and its record in the run's folder."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.data = out / "data"
        self.run = RunFolder.create(out / "runs", "detect")
        self.weights = self.run.weights / "best.safetensors"
        self.onnx = self.weights.with_suffix(".onnx")
        self.rows: list[dict[str, Any]] = []
        self.outcome = ""

    def stage(self, name: str, work: Callable[[], _T]) -> _T:
        """Run one station and note what came of it and how long it took."""
        note(f"{name} ...")
        started = time.perf_counter()
        result = work()
        seconds = round(time.perf_counter() - started, 1)
        self.rows.append({"stage": name, "outcome": self.outcome, "seconds": seconds})
        return result

    def generate(self, images: int, video_frames: int) -> SynthResult:
        """Images with boxes and masks, and a video with tracks."""
        with progress_bar() as bar:
            made = generate(
                "traffic",
                self.data,
                images=images,
                val_fraction=1 / 9,
                size_hw=(320, 320),
                seed=self.seed,
                video_frames=video_frames,
                video_size_hw=(320, 320),  # the network sees vehicles as large as in the images
                overwrite=True,
                progress=bar,
            )
        objects = sum(made.objects_by_class.values())
        self.outcome = f"{images} images, {objects} objects, {made.video_frames} video frames, {made.tracks} tracks"
        return made

    def audit(self) -> None:
        """The labels and files are sound."""
        result = audit_dataset(read_dataset(self.data))
        self.run.keep("audit.json", result)
        serious = [f for f in result.findings if f.severity != "info"]
        self.outcome = f"{result.images} images read, {len(serious)} findings of severity warning or above"

    def train(self, settings: TrainConfig) -> None:
        """A detector from scratch, evaluated on the validation split."""
        with TrainWatcher() as watcher:
            result = train(settings, self.run, watcher)
        self.outcome = (
            f"yolo11n, {result.epochs} epochs, {result.images_per_s:.0f} images/s, best epoch {result.best_epoch}"
        )

    def evaluate(self) -> None:
        """The weights, read back from their file, on the validation split."""
        whole = read_dataset(self.data)
        dataset = whole.split("val")
        predictor = open_predictor(self.weights).for_evaluation()
        with progress_bar() as bar:
            found = predict_dataset(predictor, dataset, progress=bar)
        result = evaluate_detection(dataset, found, resamples=RESAMPLES)
        result = with_context(result, whole, dataset, predictor)
        found.save(self.run.path / "predictions.parquet")
        self.run.keep("evaluation.json", result)
        self.outcome = f"mAP50 {result['AP50']:.3f}, mAP50-95 {result['AP']:.3f} on {len(dataset)} validation images"

    def export(self) -> None:
        """An ONNX file that gives the model's own answers."""
        result = export_onnx(self.weights, self.onnx, images=parity_images(str(self.data), 8))
        self.run.keep("export.json", result)
        self.outcome = f"{self.onnx.name} agrees with the model on {result.parity.images} images"

    def video(self, made: SynthResult) -> None:
        """The exported detector with a tracker on the video."""
        source = open_source(_require(made.video))
        predictor = open_predictor(self.onnx)
        point = predictor.thresholds  # chosen on the validation split: scores below it continue tracks but start none
        sinks = create_sinks(("video", "mot", "jsonl"), self.run.path / "video", _require(made.video).stem)
        with progress_bar() as bar:
            result = run_pipeline(
                source,
                predictor.at(point.model_copy(update={"conf": _LEAST_CONF})),
                create_tracker("kalman-iou", high_conf=point.conf, low_conf=_LEAST_CONF, min_iou=0.15, min_hits=2),
                list(sinks.values()),
                progress=bar,
            )
        self.run.keep("video.json", result)
        self.outcome = (
            f"{result.frames} frames at {result.fps:.1f} frames/s, {result.tracks} tracks: {result.outputs['video']}"
        )

    def tracking(self, made: SynthResult) -> None:
        """The tracks against the generator's own."""
        sequence = _require(made.video).with_suffix("")
        found = {sequence.name: self.run.path / "video" / f"{sequence.name}.txt"}
        result: TrackingResult = evaluate_mot_files({sequence.name: sequence / "gt" / "gt.txt"}, found)
        self.run.keep("tracking.json", result)
        self.outcome = f"HOTA {result['HOTA']:.3f}, MOTA {result['MOTA']:.3f}, IDF1 {result['IDF1']:.3f}"

    def report(self) -> None:
        """Everything on one page."""
        page = write_report(self.run.path)
        self.outcome = str(page.path)


def _require(path: Path | None) -> Path:
    if path is None:
        raise SightlineError("the demo needs a video, got none", do="use --video-frames above 0")
    return path
