"""Reading a COCO file the size of `instances_train2017`: ours beside pycocotools, each in a process of its own.

The file is generated (seeded): polygons of two decimals, some of two parts, one crowd region of plain run lengths in a
hundred objects, no pictures. Ours marks boxes without area and leaves judging them to the audit. Seconds are those of
the call alone, in turn, and include loading compiled kernels; a first unmeasured round compiles them into their cache.
Memory is the peak resident size of the whole process, imports and all. The numbers of images, objects and coordinates
of both are compared before the times are printed. `--file` takes a file of one's own, such as `coco_fake100`.

Run: python benchmarks/bench_read.py [--quick] [--images N] [--objects N] [--repeats N] [--out FILE]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from pycocotools.coco import COCO

from interleave import publish
from sightline.core.dataset import Dataset
from sightline.data import read_dataset
from sightline.ops import rle

CLASSES = 80
CHUNK = 20_000
ONE_CROWD_IN = 100
TWO_PARTS_IN = 10
MEAN_POINTS = 24
SIZE_HW = (480, 640)


def generate(file: Path, images: int, objects: int, seed: int = 0) -> None:
    """Write the file, key by key in the order of COCO's own."""
    rng = np.random.default_rng(seed)
    encode = msgspec.json.encode
    with file.open("wb") as out:
        out.write(b'{"info":{"description":"generated"},"licenses":[],"images":[')
        for start in range(0, images, CHUNK):
            ids = range(start, min(start + CHUNK, images))
            out.write((b"," if start else b"") + encode([image_entry(i) for i in ids])[1:-1])
        out.write(b'],"annotations":[')
        for start in range(0, objects, CHUNK):
            entries = object_entries(rng, range(start, min(start + CHUNK, objects)), images)
            out.write((b"," if start else b"") + encode(entries)[1:-1])
        categories = [{"supercategory": "thing", "id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
        out.write(b'],"categories":' + encode(categories) + b"}\n")


def image_entry(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    return {
        "license": 1 + number % 8,
        "file_name": name,
        "coco_url": f"http://images.example.org/train/{name}",
        "height": SIZE_HW[0],
        "width": SIZE_HW[1],
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm.example.org/{number}/{number * 7919}_z.jpg",
        "id": number,
    }


def object_entries(rng: np.random.Generator, ids: range, images: int) -> list[dict[str, Any]]:
    """Wobbly rings around random centres; the box is that of the rings, the area a number of many decimals."""
    points = rng.geometric(1 / (MEAN_POINTS - 4), len(ids)) + 4
    centres = np.stack([rng.uniform(60, SIZE_HW[1] - 60, len(ids)), rng.uniform(60, SIZE_HW[0] - 60, len(ids))], 1)
    radii = rng.uniform(4, 50, len(ids))
    entries = []
    for i, number in enumerate(ids):
        angles = np.linspace(0, 2 * np.pi, points[i], endpoint=False)
        reach = radii[i] * rng.uniform(0.8, 1.1, points[i])
        ring = np.round(np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + centres[i], 2)
        parts = [ring.ravel().tolist()]
        if number % TWO_PARTS_IN == 0 and points[i] >= 6:
            half = points[i] // 2
            parts = [ring[:half].ravel().tolist(), ring[half:].ravel().tolist()]
        x, y = ring.min(axis=0).tolist()
        width, height = np.round(ring.max(axis=0) - (x, y), 2).tolist()
        crowd = number % ONE_CROWD_IN == 0
        entries.append(
            {
                "segmentation": crowd_entry(parts) if crowd else parts,
                "area": float(radii[i] ** 2 * np.pi),
                "iscrowd": int(crowd),
                "image_id": int(rng.integers(images)),
                "bbox": [x, y, width, height],
                "category_id": int(rng.integers(CLASSES)) + 1,
                "id": number + 1,
            }
        )
    return entries


def crowd_entry(parts: list[list[float]]) -> dict[str, Any]:
    runs = rle.counts_to_runs(rle.from_polygons(parts, SIZE_HW), SIZE_HW).tolist()
    return {"counts": runs, "size": list(SIZE_HW)}


def measure(who: str, file: Path) -> dict[str, Any]:
    """What a fresh process that loads the file says: seconds, peak MiB, counts."""
    command = [sys.executable, __file__, "--measure", who, "--file", str(file)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return result


def report_measurement(who: str, file: Path) -> None:
    start = time.perf_counter()
    loaded: Any = read_dataset(file) if who == "ours" else COCO(str(file))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = counts_of_ours(loaded) if who == "ours" else counts_of_peer(loaded)
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "counts": counts}))


def counts_of_ours(dataset: Dataset) -> list[int]:
    """Images, objects, coordinates of polygons."""
    lengths = dataset.objects["polygon"].drop_nulls().explode().list.len()
    return [len(dataset), dataset.objects.height, int(lengths.sum())]


def counts_of_peer(content: COCO) -> list[int]:
    polygons = [a["segmentation"] for a in content.anns.values() if isinstance(a["segmentation"], list)]
    return [len(content.imgs), len(content.anns), sum(len(ring) for rings in polygons for ring in rings)]


def compare(file: Path, repeats: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    measure("ours", file)  # fills the kernels' cache
    for _ in range(repeats):
        for who, results in runs.items():
            results.append(measure(who, file))
    if runs["ours"][0]["counts"] != runs["peer"][0]["counts"]:
        raise SystemExit(f"the results differ, the times mean nothing: {runs}")
    seconds = {who: [r["seconds"] for r in results] for who, results in runs.items()}
    peaks = {who: max(r["peak_mib"] for r in results) for who, results in runs.items()}
    ours, peer = (statistics.median(seconds[who]) for who in ("ours", "peer"))
    return {
        "ours_s": ours,
        "peer_s": peer,
        "ours_best_s": min(seconds["ours"]),
        "peer_best_s": min(seconds["peer"]),
        "ratio": peer / ours,
        "ours_peak_mib": peaks["ours"],
        "peer_peak_mib": peaks["peer"],
        "memory_ratio": peaks["ours"] / peaks["peer"],
        "counts": runs["ours"][0]["counts"],
        "file_mb": file.stat().st_size / 1e6,
        "warm_up": 1,
        "repeats": repeats,
        "peer": "pycocotools",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--file", type=Path, help="use this file, or make it there if absent, and keep it")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    parser.add_argument("--measure", choices=("ours", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        report_measurement(options.measure, options.file)
        return
    share = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or Path(folder) / "instances_train.json"
        if not file.exists():
            generate(file, options.images // share, options.objects // share)
        row = compare(file, options.repeats)
    images, objects, _ = row["counts"]
    row["what"] = f"load {images} images, {objects} objects, {row['file_mb']:.0f} MB"
    publish([row], ["pycocotools", "msgspec", "numba", "numpy", "polars"], options.out)
    print(
        f"peak memory  ours {row['ours_peak_mib']:.0f} MiB  pycocotools {row['peer_peak_mib']:.0f} MiB"
        f"  share {row['memory_ratio']:.2f}"
    )


if __name__ == "__main__":
    main()
