"""The sound data sets that faults are planted in: one rendering, written in each layout a fault needs."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl

from sightline.core.dataset import Dataset
from sightline.core.predictions import PREDICTIONS_SCHEMA, Predictions
from sightline.data import read_dataset, write_dataset
from sightline.synth.generate import SYNTH_RECORD, generate

__all__ = ["BASES", "EMBEDDINGS_NAME", "PREDICTIONS_NAME", "Rendering", "build_base"]

IMAGES = 60
CRACK_IMAGES = 24
FRAMES = 40
PREDICTIONS_NAME = "predictions.parquet"
EMBEDDINGS_NAME = "embeddings.npy"
_SCORE = 0.95
_DIMENSIONS = 64


class Rendering:
    """The generated pictures, made once and written as often as they are needed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def traffic(self) -> Path:
        """A COCO data set with masks and the MOTChallenge sequence of a video."""
        out = self.folder / "traffic"
        if not out.is_dir():
            generate("traffic", out, images=IMAGES, val_fraction=0.4, seed=self.seed, video_frames=FRAMES)
        return out

    def cracks(self) -> Path:
        """Images with binary masks."""
        out = self.folder / "cracks"
        if not out.is_dir():
            generate("cracks", out, images=CRACK_IMAGES, seed=self.seed)
        return out


def _coco(rendering: Rendering, target: Path) -> None:
    source = rendering.traffic()
    for name in ("images", "annotations"):
        shutil.copytree(source / name, target / name)


def _boxes(rendering: Rendering) -> Dataset:
    """The traffic data set with boxes alone."""
    dataset = read_dataset(rendering.traffic(), task="detect")
    bare = dataset.objects.with_columns(
        rle=pl.lit(None, pl.Binary), polygon=pl.lit(None, dataset.objects["polygon"].dtype)
    )
    return replace(dataset, objects=bare)


def _yolo(rendering: Rendering, target: Path) -> None:
    write_dataset(_boxes(rendering), target, "yolo")


def _voc(rendering: Rendering, target: Path) -> None:
    boxes = _boxes(rendering)
    # Of a box one pixel wide VOC writes equal first and last pixels, which its readers take for no box at all.
    wide = boxes.objects.filter((pl.col("x2") - pl.col("x1") >= 2) & (pl.col("y2") - pl.col("y1") >= 2))
    write_dataset(replace(boxes, objects=wide), target, "voc")


def _panoptic(rendering: Rendering, target: Path) -> None:
    write_dataset(read_dataset(rendering.traffic()), target, "coco-panoptic")


def _cracks(rendering: Rendering, target: Path) -> None:
    shutil.copytree(rendering.cracks(), target, dirs_exist_ok=True)
    (target / SYNTH_RECORD).unlink()


def _video(rendering: Rendering, target: Path) -> None:
    shutil.copytree(rendering.traffic() / "video/traffic", target / "traffic")


def _clip(rendering: Rendering, target: Path) -> None:
    """The sequence with its video in place of pictures."""
    source = rendering.traffic() / "video"
    shutil.copytree(source / "traffic", target / "traffic", ignore=shutil.ignore_patterns("img1"))
    shutil.copyfile(source / "traffic.mp4", target / "traffic/traffic.mp4")


def _labelme(rendering: Rendering, target: Path) -> None:
    write_dataset(read_dataset(rendering.traffic()), target, "labelme")


def _instances(rendering: Rendering, target: Path) -> None:
    write_dataset(read_dataset(rendering.traffic()), target, "instance-files")


def _predicted(rendering: Rendering, target: Path) -> None:
    """Boxes with a detector's output beside them that agrees with every label."""
    _yolo(rendering, target)
    dataset = read_dataset(target)
    table = dataset.objects.with_columns(score=pl.lit(_SCORE)).select(list(PREDICTIONS_SCHEMA))
    meta = {"task": "detect", "class_names": list(dataset.class_names)}
    Predictions(table, meta).of(dataset).save(target / PREDICTIONS_NAME)


def _embedded(rendering: Rendering, target: Path) -> None:
    """Boxes with a vector for each image beside them, as of a network to which no two look alike."""
    _yolo(rendering, target)
    rng = np.random.default_rng(rendering.seed)
    np.save(target / EMBEDDINGS_NAME, rng.standard_normal((len(read_dataset(target)), _DIMENSIONS)).astype(np.float32))


BASES: Mapping[str, Callable[[Rendering, Path], None]] = MappingProxyType(
    {
        "yolo": _yolo,
        "coco": _coco,
        "voc": _voc,
        "panoptic": _panoptic,
        "cracks": _cracks,
        "video": _video,
        "clip": _clip,
        "labelme": _labelme,
        "instances": _instances,
        "predicted": _predicted,
        "embedded": _embedded,
    }
)


def build_base(name: str, rendering: Rendering, target: Path) -> None:
    """Write the sound data set of a name into an empty folder."""
    target.mkdir(parents=True, exist_ok=True)
    BASES[name](rendering, target)
