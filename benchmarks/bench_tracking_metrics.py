"""HOTA, CLEAR and Identity of seven MOT17-sized sequences, from text files to combined numbers: ours and TrackEval.

Both read the same files, apply the MOT17 preprocessing and compute the same three families; the numbers are compared
before the times are printed. Run: python benchmarks/bench_tracking_metrics.py [--quick] [--out FILE]
"""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from trackeval.datasets import MotChallenge2DBox
from trackeval.metrics import CLEAR, HOTA, Identity

from interleave import arguments, interleave, publish
from sightline.evaluate import evaluate_mot_files

# Frames and objects per frame of the MOT17 training sequences, about 5,300 frames and 183,000 rows in all.
SEQUENCES = {
    "02": (600, 45),
    "04": (1050, 60),
    "05": (837, 15),
    "09": (525, 20),
    "10": (654, 32),
    "11": (900, 20),
    "13": (750, 34),
}


def write_sequences(folder: Path, shorter: int) -> None:
    """Ground truth with distractors and zero-marked rows, and a tracker that drifts, drops and switches."""
    rng = np.random.default_rng(0)
    for name, (frames, objects) in SEQUENCES.items():
        length = frames // shorter
        (folder / "gt" / name / "gt").mkdir(parents=True)
        (folder / "trackers" / "peer" / "data").mkdir(parents=True, exist_ok=True)
        path = np.cumsum(rng.normal(0, 4, (length, objects, 2)), axis=0) + rng.uniform(0, 1500, (objects, 2))
        size = rng.uniform(30, 120, (objects, 2))
        kind = rng.choice([1, 1, 1, 1, 7, 8], objects)
        identity = np.arange(objects)
        truth, found = [], []
        for t in range(length):
            if rng.random() < 0.2:
                identity[rng.integers(objects)] = objects * (t + 2)
            seen = np.flatnonzero(rng.random(objects) < 0.9)
            for k in seen:
                x, y = path[t, k]
                w, h = size[k]
                flag = int(rng.random() > 0.05)
                truth.append(f"{t + 1},{k + 1},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{flag},{kind[k]},1\n")
            for k in np.flatnonzero(rng.random(objects) < 0.85):
                x, y = path[t, k] + rng.normal(0, 8, 2)
                w, h = size[k] * rng.uniform(0.85, 1.15, 2)
                found.append(f"{t + 1},{identity[k] + 1},{x:.2f},{y:.2f},{w:.2f},{h:.2f},0.9,-1,-1,-1\n")
        (folder / "gt" / name / "gt" / "gt.txt").write_text("".join(truth))
        (folder / "gt" / name / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={length}\n")
        (folder / "trackers" / "peer" / "data" / f"{name}.txt").write_text("".join(found))


def run_peer(folder: Path) -> dict[str, Any]:
    quiet = {"PRINT_CONFIG": False}
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = MotChallenge2DBox(
            quiet
            | {
                "GT_FOLDER": str(folder / "gt"),
                "TRACKERS_FOLDER": str(folder / "trackers"),
                "BENCHMARK": "MOT17",
                "SKIP_SPLIT_FOL": True,
                "SEQ_INFO": dict.fromkeys(SEQUENCES),
            }
        )
        data = {
            name: dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("peer", name), "pedestrian")
            for name in SEQUENCES
        }
        combined: dict[str, Any] = {}
        for metric in (HOTA(), CLEAR(quiet), Identity(quiet)):
            combined |= metric.combine_sequences({name: metric.eval_sequence(part) for name, part in data.items()})
    return combined


def run_ours(folder: Path) -> dict[str, float]:
    truth = {name: folder / "gt" / name / "gt" / "gt.txt" for name in SEQUENCES}
    found = {name: folder / "trackers" / "peer" / "data" / f"{name}.txt" for name in SEQUENCES}
    return evaluate_mot_files(truth, found, preprocessing="mot17").combined.metrics


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sequences(folder, 5 if options.quick else 1)
        ours, peer = run_ours(folder), run_peer(folder)
        largest = max(abs(value - float(np.mean(peer[metric]))) for metric, value in ours.items())
        if largest > 1e-9:
            raise SystemExit(f"the numbers differ by {largest}: the times mean nothing")
        row = interleave(lambda: run_ours(folder), lambda: run_peer(folder), repeats=options.repeats)
        rows = sum(1 for p in (folder / "gt").rglob("gt.txt") for _ in p.open())
    what = f"{len(SEQUENCES)} sequences, {rows:,} ground-truth rows"
    print(f"largest difference over {len(ours)} combined numbers: {largest:.1e}")
    publish(
        [row | {"what": what, "peer": "TrackEval", "largest_difference": largest}],
        ["trackeval", "numpy", "scipy", "numba", "polars"],
        options.out,
    )


if __name__ == "__main__":
    main()
