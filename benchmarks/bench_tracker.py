"""Association time per frame of `kalman-iou` and of the `trackers` package (PyPI, Apache-2.0), interleaved.

    python benchmarks/bench_tracker.py [--frames 400] [--repeats 5] [--out tracker.json]

Both get the same synthetic detections (objects on straight lines with jitter, 5 % missed) as supervision.Detections.
The peer is skipped, and that is said, where it is not installed; it is no dependency of ours.
"""

import argparse
import importlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from sightline.track import KalmanIouTracker

WARM_UP = 50
PEERS = ("SORTTracker", "ByteTrackTracker", "OCSORTTracker")


def scene(objects: int, frames: int) -> list[sv.Detections]:
    rng = np.random.default_rng(objects)
    centre, velocity = rng.uniform(0, [1920, 1080], (objects, 2)), rng.normal(0, 3, (objects, 2))
    size = rng.uniform(20, 80, (objects, 2))
    film = []
    for _ in range(frames):
        centre = centre + velocity
        seen = rng.random(objects) > 0.05
        middle = (centre + rng.normal(0, 1, (objects, 2)))[seen]
        boxes = np.concatenate([middle - size[seen] / 2, middle + size[seen] / 2], axis=1)
        scores = rng.uniform(0.6, 1.0, objects)[seen]
        film.append(sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(boxes), np.int64)))
    return film


def time_run(update: Callable[[sv.Detections, int], Any], film: list[sv.Detections]) -> list[float]:
    times = []
    for index, detections in enumerate(film):
        start = time.perf_counter()
        update(detections, index)
        times.append((time.perf_counter() - start) * 1e3)
    return times[WARM_UP:]


def contestants() -> dict[str, Callable[[], Callable[[sv.Detections, int], Any]]]:
    def ours() -> Callable[[sv.Detections, int], Any]:
        tracker = KalmanIouTracker()
        return lambda detections, index: tracker.update(detections, time_s=index / 30)

    entries = {"sightline kalman-iou": ours}
    try:
        peer = importlib.import_module("trackers")
    except ImportError:
        print("the peer package 'trackers' is not installed here: only our own time is measured")
        return entries
    for name in PEERS:
        if hasattr(peer, name):
            entries[f"trackers {name}"] = _peer(getattr(peer, name))
    return entries


def _peer(kind: Any) -> Callable[[], Callable[[sv.Detections, int], Any]]:
    def make() -> Callable[[sv.Detections, int], Any]:
        tracker = kind()
        return lambda detections, index: tracker.update(detections)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    entries = contestants()
    results: dict[str, dict[str, float]] = {name: {} for name in entries}
    for objects in (20, 200):
        film = scene(objects, options.frames + WARM_UP)
        samples: dict[str, list[float]] = {name: [] for name in entries}
        for _ in range(options.repeats):
            for name, make in entries.items():
                samples[name] += time_run(make(), film)
        for name, times in samples.items():
            results[name][f"{objects} objects, p50 ms"] = float(np.median(times))
            results[name][f"{objects} objects, p95 ms"] = float(np.percentile(times, 95))
    own = results["sightline kalman-iou"]
    for name, numbers in results.items():
        line = "  ".join(
            f"{key} {value:.3f} (x{value / own[key]:.1f})" for key, value in numbers.items() if "p50" in key
        )
        print(f"{name:32s} {line}")
    packages = {}
    for package in ("sightline", "numpy", "numba", "supervision", "trackers"):
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            packages[package] = "absent"
    report = {
        "results": results,
        "frames": options.frames,
        "repeats": options.repeats,
        "warm_up_frames": WARM_UP,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "packages": packages,
    }
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
