"""Make a run for each watching rule that has what the rule is made to see, and healthy runs; table who spoke.

Every run is real training on generated images, in a process of its own. Prints a Markdown table and exits with 1 where
a rule missed its run or any spoke on a healthy one. Run: python benchmarks/rules_table.py [--cases NAME ...] [--jobs N]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import polars as pl
import torch
from torch import Tensor

from sightline.cli.console import TrainWatcher
from sightline.core.runs import RunFolder
from sightline.data import read_dataset, write_dataset
from sightline.models import MODELS, Model, create
from sightline.models.segment.segmenter import Segmenter
from sightline.models.segment.unet import UNet
from sightline.synth import generate
from sightline.train import TrainConfig, train


class EndsInSigmoid(Segmenter):
    """Its author applied the sigmoid that loss and decode apply too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).sigmoid()


class Blind(Segmenter):
    """Its author divided pixels by 255 as whole numbers: every image is black."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(images))


def build_faulty_unet(
    kind: type[Segmenter], name: str, class_names: tuple[str, ...], *, imgsz: tuple[int, int]
) -> Segmenter:
    """One of the faulty networks above, as wide as unet-small."""
    return kind(name, class_names, partial(UNet, base_width=16), imgsz=imgsz)


def build_cut_trunk(class_names: tuple[str, ...], *, imgsz: tuple[int, int]) -> Model:
    """As large as yolo11n; its author cut the head off from the rest, which then never learns."""
    model = create("yolo11n", class_names=class_names, imgsz=imgsz)
    model.head.register_forward_pre_hook(lambda _, inputs: ([level.detach() for level in inputs[0]],))
    model.name = "cut-trunk"
    return model


FAULTY = {
    "ends-in-sigmoid": partial(build_faulty_unet, EndsInSigmoid, "ends-in-sigmoid"),
    "blind": partial(build_faulty_unet, Blind, "blind"),
    "cut-trunk": build_cut_trunk,
}


def cracks(out: Path) -> None:
    """Cracks in concrete, 1 to 3 % of the pixels."""
    generate("cracks", out, images=20, val_fraction=0.2, size_hw=(64, 64), seed=3)


def noise(out: Path) -> None:
    """Masks that have nothing to do with the images: each pixel by a coin."""
    cracks(out)
    rng = np.random.default_rng(0)
    for path in sorted(out.glob("masks/*/*.png")):
        cv2.imwrite(str(path), 255 * rng.integers(0, 2, (64, 64), dtype=np.uint8))


def swapped(out: Path) -> None:
    """Masks from two hands: in those to validate on, crack and background are swapped."""
    cracks(out)
    for path in sorted(out.glob("masks/val/*.png")):
        cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def traffic(out: Path, images: int = 56) -> None:
    """Vehicles from above."""
    generate("traffic", out, images=images, val_fraction=1 / 7, size_hw=(128, 128), seed=3)


def unlabelled(out: Path) -> None:
    """The label files of all training images but one are empty."""
    with tempfile.TemporaryDirectory() as folder:
        traffic(Path(folder) / "traffic")
        write_dataset(read_dataset(Path(folder) / "traffic"), out, "yolo")
    for path in sorted(out.glob("labels/train/*.txt"))[1:]:
        path.write_text("")


def vehicles(out: Path) -> None:
    """The pixels of the vehicles against background."""
    with tempfile.TemporaryDirectory() as folder:
        traffic(Path(folder) / "traffic")
        dataset = read_dataset(Path(folder) / "traffic")
        objects = dataset.objects.with_columns(class_id=pl.lit(0, pl.Int32))
        write_dataset(replace(dataset, objects=objects, classes=dataset.classes.head(1)), out, "masks")


def rectangles(out: Path) -> None:
    """Red and blue rectangles on noise, each colour a class."""
    rng = np.random.default_rng(0)
    for number in range(40):
        image = rng.integers(60, 140, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), dtype=np.uint8)
        for value, channel in ((1, 2), (2, 0)):  # pictures are stored as blue, green, red
            x, y, width, height = (*rng.integers(0, 40, 2), *rng.integers(12, 24, 2))
            image[y : y + height, x : x + width, channel] += 100
            mask[y : y + height, x : x + width] = value
        split = "val" if number < 8 else "train"
        for kind, pixels in (("images", image), ("masks", mask)):
            (out / kind / split).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(out / kind / split / f"{number:02}.png"), pixels)
    sets = "".join(f"{s}: {{images: images/{s}, masks: masks/{s}}}\n" for s in ("train", "val"))
    (out / "sightline.yaml").write_text(f"format: masks\n{sets}classes: {{0: background, 1: red, 2: blue}}\n")


class Case(NamedTuple):
    """A run: the rule it is built to trigger (None: a healthy one), in words, its data and its settings."""

    rule: str | None
    words: str
    data: Callable[[Path], None]
    settings: dict[str, Any]


MILD = {"batch": 4, "augment": {"scale": 0.2, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1}}
UNET = {"model": "unet-small", "imgsz": 64, "batch": 2, "epochs": 12}
YOLO = {"model": "yolo11n", "imgsz": 96, "batch": 4, "epochs": 12}
CASES = {
    "foreground-collapse": Case(
        "foreground-collapse",
        "cracks of 1 to 3 % of the pixels, BCE alone",
        cracks,
        {**UNET, "loss": {"dice": 0}, "epochs": 16},
    ),
    "class-loss-plateau": Case("class-loss-plateau", "masks that are noise", noise, {**UNET, "epochs": 16}),
    "train-val-divergence": Case(
        "train-val-divergence",
        "crack and background swapped in the masks to validate on",
        swapped,
        {**UNET, "epochs": 16},
    ),
    "gradient-exploding": Case(
        "gradient-exploding",
        "SGD at rate 10 without warm-up, clipping at 1000",
        cracks,
        {**UNET, "optimizer": "sgd", "lr": 10, "warmup_epochs": 0, "clip_norm": 1000},
    ),
    "gradient-dead": Case(
        "gradient-dead", "head cut off from the rest by detach()", traffic, {**YOLO, "model": "cut-trunk", "epochs": 2}
    ),
    "activation-twice": Case(
        "activation-twice", "network ends in a sigmoid", cracks, {**UNET, "model": "ends-in-sigmoid", "epochs": 4}
    ),
    "prediction-empty": Case("prediction-empty", "labels of one training image in 48", unlabelled, YOLO),
    "prediction-constant": Case(
        "prediction-constant", "every image is black", cracks, {**UNET, "model": "blind", "epochs": 8}
    ),
    "few-learnt": Case(
        "few-learnt",
        "anchors ten times smaller than the vehicles",
        traffic,
        {**YOLO, "model": "yolo5n", "arguments": {"anchors": [[[2, 2]]] * 3}, "epochs": 1},
    ),
    "healthy detector": Case(
        None, "yolo11n, 96 images, 4 classes", partial(traffic, images=112), {**YOLO, "epochs": 24}
    ),
    "healthy binary masks": Case(None, "unet-small, 48 images of vehicles", vehicles, {**UNET, **MILD, "epochs": 20}),
    "healthy class masks": Case(None, "unet-small, 32 images, 3 classes", rectangles, {**UNET, "epochs": 16}),
}


def child(name: str, folder: str) -> None:
    """One process: make the data and train."""
    torch.set_num_threads(1)
    MODELS.update(FAULTY)
    case, data = CASES[name], Path(folder) / "data"
    case.data(data)
    fixed = {"data": str(data), "precision": "fp32", "device": "cpu", "workers": 0, "pictures_every": 0, "seed": 1}
    train(
        TrainConfig.load({**fixed, **case.settings}), RunFolder.create(folder, "runs", "run"), TrainWatcher(quiet=True)
    )


def found_by(name: str, folder: Path) -> list[dict[str, Any]]:
    """What the rules said in the run of a case, in order; `folder` must be empty and keeps the run."""
    command = [sys.executable, __file__, "--child", name, str(folder)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode()[-3000:])
    record = json.loads((folder / "runs" / "run" / "run.json").read_text())
    found: list[dict[str, Any]] = record["watched"]
    return found


def is_right(case: Case, found: list[dict[str, Any]]) -> bool:
    """Whether the case's rule spoke, or, on a healthy run, none did."""
    return any(f["code"] == case.rule for f in found) if case.rule else not found


def row(name: str, found: list[dict[str, Any]]) -> str:
    """The table's line of a case."""
    case = CASES[name]
    own = next((f for f in found if f["code"] == case.rule), None)
    said = f"epoch {own['epoch']}: {own['message'].partition(':')[0]}" if own else "nothing"
    others = ", ".join(f"{f['code']} ({f['epoch']})" for f in found if f is not own) or "none"
    verdict = "right" if is_right(case, found) else "WRONG"
    return f"| {name} | {case.words} | {case.settings['epochs']} | {said} | {others} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        places = [Path(folder) / str(number) for number in range(len(options.cases))]
        for place in places:
            place.mkdir()
        print("| rule or run | made to have | epochs | the rule spoke | other rules (epoch) | verdict |")
        print("|---|---|---|---|---|---|")
        for name, found in zip(options.cases, pool.map(found_by, options.cases, places), strict=True):
            print(row(name, found), flush=True)
            wrong += not is_right(CASES[name], found)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
