"""One pass for each region, one for each image, learnt proposals: R-CNN, Fast R-CNN and Faster R-CNN side by side.

Each is trained on the same generated traffic for the same epochs (`--epochs 0` times them untrained), then runs over
the validation images one at a time, on one thread. What a row says: where regions come from, how many there are and how
many of the objects one of them covers (IoU 0.5), multiply-accumulates of the network at the most regions it takes,
milliseconds of the search and of the rest, AP50. Prints a Markdown table.
Run: python benchmarks/region_detectors.py [--epochs N] [--images N]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sightline
from sightline.data import read_dataset
from sightline.evaluate import evaluate_detection
from sightline.infer import predict_dataset, predictor_from_model
from sightline.media import read_image
from sightline.models import Decoded, count_parameters, create, describe_model, load_model
from sightline.ops.boxes import iou_matrix
from sightline.ops.selective_search import selective_search
from sightline.synth import generate

REGIONS = {
    "rcnn": "selective search, a pass for each",
    "fast-rcnn": "selective search, a pass for the image",
    "tv:fasterrcnn-resnet18": "learnt, in the pass for the image",
}


def trained(name: str, data: Path, work: Path, side: int, epochs: int) -> tuple[Any, float]:
    """The network, and its AP50 on the validation images; not a number of one that was not trained."""
    if epochs == 0:
        torch.manual_seed(0)
        names = read_dataset(data).class_names
        return create(name, class_names=names, imgsz=side).eval(), float("nan")
    model = sightline.Model(name)
    settings = {"epochs": epochs, "batch": 8, "precision": "fp32", "workers": 0, "augment.mosaic": 0.0}
    model.train(data, runs=work, imgsz=side, pictures_every=0, **settings)
    network = load_model(model.file).eval()
    validated = read_dataset(data).split("val")
    found = predict_dataset(predictor_from_model(network, device="cpu").for_evaluation(), validated)
    return network, evaluate_detection(validated, found)["AP50"]


def milliseconds(task: Any, repeats: int) -> float:
    """The median of the repeats, one before them left out."""
    task()
    waits = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        waits.append(time.perf_counter() - start)
    return statistics.median(waits) * 1000


def row(name: str, network: Any, dataset: Any, ap50: float, repeats: int) -> list[str]:
    """One line of the table, its times and regions those of the validation images."""
    decoded = Decoded(network)
    usable = dataset.usable_objects
    searches = not name.startswith("tv:")
    counts, covered, searching, whole = [], [], [], []
    for image_id, path in dataset.images.select("image_id", "path").iter_rows():
        pixels, geometry = network.preprocess.apply(read_image(dataset.image_path(path)))
        images = torch.from_numpy(pixels)[None]
        with torch.inference_mode():
            raw = network(images)
            regions, alive = (raw.regions_xyxy, raw.alive) if searches else raw.proposed[-2:]
            kept = regions[0][alive[0]].numpy().astype(np.float64)
            counts.append(len(kept))
            objects = usable.filter(usable["image_id"] == image_id)
            boxes = geometry.boxes_to_network(objects.select("x1", "y1", "x2", "y2").to_numpy())
            covered += (iou_matrix(kept, boxes).max(0, initial=0.0) >= 0.5).tolist()
            whole.append(milliseconds(lambda images=images: decoded(images), repeats))
        picture = (pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8)
        most = getattr(network, "regions", 0)
        searching.append(milliseconds(lambda p=picture, n=most: selective_search(p, n), repeats) if searches else 0.0)
    search, total = statistics.median(searching), statistics.median(whole)
    numbers = [f"{statistics.mean(counts):.0f}", f"{np.mean(covered):.1%}", f"{describe_model(network).macs / 1e9:.1f}"]
    times = [f"{search:.0f}", f"{max(0.0, total - search):.0f}", f"{total:.0f}"]
    if np.isnan(ap50) and not searches:
        numbers[1] = "–"  # proposals that were not learnt
    found = "–" if np.isnan(ap50) else f"{ap50:.3f}"
    return [name, REGIONS[name], f"{count_parameters(network) / 1e6:.1f}", *numbers, *times, found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    heads = ["model", "regions come from", "M parameters", "regions", "objects covered", "GMACs"]
    heads += ["ms search", "ms network", "ms", "AP50"]
    with tempfile.TemporaryDirectory() as folder:
        data, work = Path(folder) / "data", Path(folder) / "runs"
        generate("traffic", data, images=chosen.images, size_hw=(chosen.side, chosen.side))
        dataset = read_dataset(data).split("val")
        rows = []
        for name in REGIONS:
            network, ap50 = trained(name, data, work, chosen.side, chosen.epochs)
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            rows.append(row(name, network, dataset, ap50, chosen.repeats))
            torch.set_num_threads(threads)
    for line in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
