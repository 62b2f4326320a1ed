"""Milliseconds of untrained networks in each runtime, batch 1, the network alone, with parameters and FLOPs beside.

The runtimes take turns image by image, so that what else the machine does meets all of them. Files are exported with
parity as `sightline export` does.

Run: python benchmarks/latency_table.py [--models NAME ...] [--imgsz 256] [--images 30]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sightline.deploy import export_onnx
from sightline.infer import NetworkPredictor, open_predictor
from sightline.models import create, describe_model, save_weights

SEGMENTERS = ("dff-unet", "litefusionnet", "ulite", "enet", "unet-small", "unet", "lite0-unet", "deeplabv3plus")
UNTIMED = 3


def opened(name: str, imgsz: int, folder: Path) -> tuple[dict[str, NetworkPredictor], int, float]:
    """A predictor for each runtime; parameters and FLOPs of the folded network."""
    torch.manual_seed(0)
    model = create(name, class_names=["background", "object"], imgsz=imgsz).eval()
    cost = describe_model(model, (imgsz, imgsz))
    weights, graph = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    save_weights(weights, model)
    image = np.random.default_rng(0).integers(0, 256, (imgsz, imgsz, 3), dtype=np.uint8)
    export_onnx(weights, graph, images=[image])
    predictors = {"torch": open_predictor(weights, device="cpu"), "ONNX Runtime": open_predictor(graph)}
    return predictors, cost.fused_parameters, cost.flops / 1e9


def milliseconds(predictors: dict[str, NetworkPredictor], imgsz: int, images: int) -> dict[str, float]:
    """The median of each runtime, in turn on the same pixels."""
    taken: dict[str, list[float]] = {name: [] for name in predictors}
    random = np.random.default_rng(1)
    for number in range(images + UNTIMED):
        pixels = random.standard_normal((1, 3, imgsz, imgsz)).astype(np.float32)
        for name, predictor in predictors.items():
            started = time.perf_counter()
            predictor.run(pixels)
            if number >= UNTIMED:
                taken[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=SEGMENTERS)
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # holds for the runtimes' threads too
    torch.set_num_threads(options.threads)
    print(f"{options.imgsz} x {options.imgsz} pixels, batch 1, {options.threads} threads, {options.images} images")
    print("| model | parameters | GFLOPs | torch ms | ONNX Runtime ms |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            predictors, parameters, gflops = opened(name, options.imgsz, Path(folder))
            ms = milliseconds(predictors, options.imgsz, options.images)
            row = (name, f"{parameters:,}", f"{gflops:.2f}", *(f"{value:.1f}" for value in ms.values()))
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
